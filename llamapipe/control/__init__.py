"""Decisions as a state machine: step(event, now_s) -> actions."""

from llamapipe.control.controller import Controller
from llamapipe.control.ledger import Ledger, SinkAccount
from llamapipe.control.log import LogEntry, encode_entry, encode_plan, read_log, replay
from llamapipe.control.plan import EdgePlan, FaultPlan, RunPlan, SinkPlan, StagePlan, StreamPlan, WorkerPlan

__all__ = [
    "Controller",
    "EdgePlan",
    "FaultPlan",
    "Ledger",
    "LogEntry",
    "RunPlan",
    "SinkAccount",
    "SinkPlan",
    "StagePlan",
    "StreamPlan",
    "WorkerPlan",
    "encode_entry",
    "encode_plan",
    "read_log",
    "replay",
]

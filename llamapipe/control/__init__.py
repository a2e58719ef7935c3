"""Decisions as a state machine: step(event, now_s) -> actions."""

from llamapipe.control.controller import Controller
from llamapipe.control.ledger import Ledger, SinkAccount
from llamapipe.control.log import LogEntry, encode_entry, encode_plan, read_log, replay
from llamapipe.control.plan import EdgePlan, RunPlan, SinkPlan, StagePlan, StreamPlan

__all__ = [
    "Controller",
    "EdgePlan",
    "Ledger",
    "LogEntry",
    "RunPlan",
    "SinkAccount",
    "SinkPlan",
    "StagePlan",
    "StreamPlan",
    "encode_entry",
    "encode_plan",
    "read_log",
    "replay",
]

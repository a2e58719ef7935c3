"""Decisions as a state machine: step(event, now_s) -> actions."""

from llamapipe.control.controller import Controller
from llamapipe.control.ledger import Ledger, SinkAccount
from llamapipe.control.log import LogEntry, encode_entry, encode_plan, read_log, replay
from llamapipe.control.plan import (
    Candidate,
    EdgePlan,
    FaultPlan,
    JobPlan,
    PolicyPlan,
    ResumePlan,
    RunPlan,
    SinkPlan,
    SinkTally,
    StagePlan,
    StreamPlan,
    WorkerPlan,
)

__all__ = [
    "Candidate",
    "Controller",
    "EdgePlan",
    "FaultPlan",
    "JobPlan",
    "Ledger",
    "LogEntry",
    "PolicyPlan",
    "ResumePlan",
    "RunPlan",
    "SinkAccount",
    "SinkPlan",
    "SinkTally",
    "StagePlan",
    "StreamPlan",
    "WorkerPlan",
    "encode_entry",
    "encode_plan",
    "read_log",
    "replay",
]

"""Decisions as a state machine: step(event, now_s) -> actions."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llamapipe.control.chooser import WHYS
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
    from llamapipe.control.reservations import Reservations

__all__ = [
    "WHYS",
    "Candidate",
    "Controller",
    "EdgePlan",
    "FaultPlan",
    "JobPlan",
    "Ledger",
    "LogEntry",
    "PolicyPlan",
    "Reservations",
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

_HOMES = {
    "chooser": ("WHYS",),
    "controller": ("Controller",),
    "ledger": ("Ledger", "SinkAccount"),
    "log": ("LogEntry", "encode_entry", "encode_plan", "read_log", "replay"),
    "plan": (
        "Candidate",
        "EdgePlan",
        "FaultPlan",
        "JobPlan",
        "PolicyPlan",
        "ResumePlan",
        "RunPlan",
        "SinkPlan",
        "SinkTally",
        "StagePlan",
        "StreamPlan",
        "WorkerPlan",
    ),
    "reservations": ("Reservations",),
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        for module, names in _HOMES.items():
            if name in names:
                return getattr(import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Drives control in virtual time."""

from llamapipe.sim.driver import Meter, SimResult, simulate
from llamapipe.sim.profile import ItemOutcome, Moments, SourceTrace, World, WorldProfile, profile_of_log

__all__ = [
    "ItemOutcome",
    "Meter",
    "Moments",
    "SimResult",
    "SourceTrace",
    "World",
    "WorldProfile",
    "profile_of_log",
    "simulate",
]

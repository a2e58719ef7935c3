"""Drives control in virtual time."""

from llamapipe.sim.driver import SimResult, simulate
from llamapipe.sim.profile import ItemOutcome, Moments, SourceTrace, WorldProfile, profile_of_log

__all__ = ["ItemOutcome", "Moments", "SimResult", "SourceTrace", "WorldProfile", "profile_of_log", "simulate"]

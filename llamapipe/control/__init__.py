"""Decisions as a state machine: step(event, now_s) -> actions."""

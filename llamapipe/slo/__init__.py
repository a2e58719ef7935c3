"""Deadlines, slack and per-operation objectives."""

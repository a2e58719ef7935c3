"""Accuracy floors as people write them: ``0.9``, ``coco_ap >= 0.25``."""

from __future__ import annotations

import re
from math import nan

from llamapipe.errors import UsageError
from llamapipe.spec.model import AccuracyFloor

__all__ = ["AGREEMENT", "check_share", "parse_floor", "with_agreement"]

AGREEMENT = "agreement"
"""The metric of a bare number."""

_FLOOR = re.compile(r"\s*(?:(?P<metric>[a-z][a-z0-9_]*)\s*(?:>=|≥|=))?\s*(?P<value>[0-9.]+)\s*")


def parse_floor(asked: float | str, what: str = "accuracy", *, best: str = "the best that can be had") -> AccuracyFloor:
    """A floor in 0..1 from a number, which is agreement, or a text that may name another metric.

    Raises UsageError for anything else; it speaks of ``what``, and of agreement with ``best``.
    """
    value, metric = nan, None
    if isinstance(asked, str):
        found = _FLOOR.fullmatch(asked)
        if found is not None and found["value"].count(".") <= 1 and found["value"] != ".":
            value, metric = float(found["value"]), found["metric"]
    elif not isinstance(asked, bool) and hasattr(asked, "__float__"):  # numpy's numbers, too
        value = float(asked)
    if not 0 <= value <= 1:
        raise UsageError(
            f"{what}: expected a number from 0 to 1, or METRIC>=NUMBER, got {asked!r}",
            hint=f"for example 0.8 (agreement with {best}), or coco_ap>=0.25",
        )
    return AccuracyFloor(min=value, metric=None if metric == AGREEMENT else metric)


def check_share(min_accuracy: float) -> None:
    """Raise UsageError for what is no share, 0..1; it speaks of the flag."""
    if not 0 <= min_accuracy <= 1:
        raise UsageError(
            f"--min-accuracy {min_accuracy:g}: expected a share from 0 to 1", hint="for example --min-accuracy 0.9"
        )


def with_agreement(floor: AccuracyFloor | None, least: float) -> AccuracyFloor:
    """A floor of agreement (0..1) in place of another.

    How far it may give way stays where that is agreement, too: of another metric it would mean something else.
    """
    alike = floor is not None and (floor.metric or AGREEMENT) == AGREEMENT
    return AccuracyFloor(min=least, degraded=floor.degraded if floor is not None and alike else None)

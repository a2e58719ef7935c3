"""What a pipeline says that will do nothing: it can be run, but not as its author may think."""

from __future__ import annotations

from collections.abc import Mapping

from llamapipe.errors import Problem
from llamapipe.spec.model import PipelineSpec
from llamapipe.spec.reader import Location

__all__ = ["cautions"]


def cautions(
    spec: PipelineSpec, *, tuned: bool = False, locations: Mapping[Location, str] | None = None
) -> list[Problem]:
    """All of them; empty where everything that is said has an effect.

    ``tuned``: it is run with a tuned configuration. ``locations`` (of `Loaded`) make them name their file and line.
    """
    if spec.on_overload != "degrade":
        return []
    floor = spec.accuracy
    least = 0.9 if floor is None else floor.min
    example = f"accuracy: {{min: {least:g}, degraded: {0.8 * least:.2g}}}"
    otherwise = "or say on_overload: drop, or late"
    if tuned:
        why = "a tuned configuration leaves one way to run each stage"
        mend = f"run without --config and --tune, with {example}, {otherwise}"
    elif floor is None:
        why = "without a floor of accuracy nothing less accurate is loaded"
        mend = f"say how far it may go, {example}, {otherwise}"
    elif floor.degraded is None:
        why = f"accuracy has no degraded floor below min ({floor.min:g}), and nothing less accurate is loaded"
        mend = f"say how far it may go, {example}, {otherwise}"
    elif floor.degraded >= floor.min:
        why = f"the degraded floor ({floor.degraded:g}) is not below min ({floor.min:g})"
        mend = f"lower it, {example}, {otherwise}"
    else:
        return []
    where = (locations or {}).get(("on_overload",), "")
    return [Problem("overload", f"on_overload: degrade does nothing: {why}", where, mend)]

"""What is said, and done, where no configuration that tuning has tried fits."""

from __future__ import annotations

from msgspec.structs import replace

from llamapipe.tune import Tried, Tuning

__all__ = ["SPENT", "closest", "described", "nearest", "refusal"]

SPENT = 0.7  # of the budget, from which the search did not end of itself: another trial no longer fitted in


def refusal(tuning: Tuning) -> str:
    """That nothing fits."""
    wanted = [f"{tuning.metric} of at least {tuning.floor:g}"] if tuning.metric != "none" else []
    wanted += [tuning.objective] if tuning.objective else []
    tried = f"none of {len(tuning.tried)} configurations of {tuning.pipeline} that were tried"
    if len(tuning.tried) < tuning.points and tuning.took_s > SPENT * tuning.budget_s:
        tried += f" in {tuning.took_s:.1f} s"
    return f"{tried} has {' and '.join(wanted)} on {tuning.video}"


def nearest(tuning: Tuning) -> str | None:
    """What comes closest where nothing fits, in words, and what may find more."""
    if tuning.nearest is None:
        return None
    found = described(tuning.nearest)
    told = [note.partition("llamapipe models profile")[2] for note in tuning.notes if "models profile" in note]
    more = [f"measure what variants take: llamapipe models profile{asks}" for asks in dict.fromkeys(told)]
    if len(tuning.tried) < tuning.points and tuning.took_s > SPENT * tuning.budget_s:
        more.append(f"give it more time: llamapipe tune --budget-s {round(3 * tuning.budget_s)}")
    return "; ".join([found, *more])


def described(tried: Tried) -> str:
    """What a configuration came to, in words."""
    predicted = tried.predicted
    if predicted is None:
        return f"cannot be run: {tried.what}"
    found = [f"{predicted.cost_core_ms:.1f} core-ms a frame", f"{predicted.frames_per_s:.0f} fps"]
    if predicted.accuracy is not None:
        found.append(f"accuracy {predicted.accuracy:.3f} (at least {predicted.accuracy_low:.3f})")
    if predicted.p95_ms is not None:
        found.append(f"p95 {predicted.p95_ms:.0f} ms")
    return ", ".join(found)


def closest(tuning: Tuning) -> Tuning | None:
    """The same, to be run with what is right enough and a little late; None where nothing is.

    Trials are short, on sampled frames: what missed its objective by a little in them may well meet it in a run. With
    what is not right enough, or late by more than that, there is no use in beginning.
    """
    close = tuning.close
    return None if close is None else replace(tuning, values=close.values, predicted=close.predicted)

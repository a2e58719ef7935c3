"""Which values a knob takes."""

from __future__ import annotations

from typing import Any

from llamapipe.catalog import Precision
from llamapipe.spec.names import did_you_mean

__all__ = ["PLACEMENTS", "PRECISIONS", "knob_problem", "names_labels"]

PRECISIONS = tuple(precision.value for precision in Precision)

PLACEMENTS = ("thread", "process")

_TEXTS = ("model", "backend", "device", "precision", "task", "decoder", "placement")
_CHOICES = {"precision": PRECISIONS, "placement": PLACEMENTS}


def knob_problem(key: str, value: Any) -> str | None:
    """What is wrong with a knob's value, or None. None leaves the choice to llamapipe."""
    if value is None:
        return None
    if key in _TEXTS:
        if not isinstance(value, str) or not value:
            return f"expected a text, got {value!r}"
        choices = _CHOICES.get(key, ())
        if choices and value not in choices:
            hint = did_you_mean(value, choices)
            return f"expected one of {', '.join(choices)}, got {value!r}" + (f"; {hint}" if hint else "")
        return None
    if key in ("batch", "threads"):
        return None if _is_int(value) and value >= 1 else f"expected a whole number from 1 up, got {value!r}"
    if key == "min_score":
        return None if _is_number(value) and 0 <= value <= 1 else f"expected a number from 0 to 1, got {value!r}"
    if key == "sample_fps":
        return None if _is_number(value) and value > 0 else f"expected frames a second, over 0, got {value!r}"
    if key == "skip_still":
        fits = _is_number(value) and 0 <= value <= 1
        return None if fits else f"expected a share of the picture from 0 to 1, got {value!r}"
    if key == "input_size":
        sizes = value if isinstance(value, list) else [value]
        fits = all(_is_int(size) and size >= 1 for size in sizes) and (sizes is not value or len(sizes) == 2)
        return None if fits else f"expected pixels (320) or [height, width], got {value!r}"
    if key == "labels":
        fits = isinstance(value, list) and all(isinstance(label, str) for label in value) and bool(value)
        return None if fits or names_labels(value) else f"expected a list of texts, got {value!r}"
    return None


def names_labels(value: Any) -> bool:
    """Whether a text names a table of labels, a file or COCO's, rather than being a label itself."""
    return isinstance(value, str) and (value == "coco" or value.lower().endswith(".txt"))


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

"""llamapipe runs video analytics pipelines to an objective.

Say *what* to compute (a graph of operators) and *how well* (an SLO, an accuracy floor, least cost).
The Python API is re-exported here lazily, so that ``import llamapipe`` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llamapipe.operator import operator

__version__ = "0.1.0"

__all__ = ["__version__", "operator"]

_HOMES = {
    "operator": "llamapipe.operator",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'llamapipe' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

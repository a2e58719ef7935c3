"""llamapipe runs video analytics pipelines to an objective.

Say *what* to compute (a graph of operators) and *how well* (an SLO, an accuracy floor, least cost).
The Python API is re-exported here lazily, so that ``import llamapipe`` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llamapipe.operator import operator
    from llamapipe.session.pipeline import Pipeline, ReadyPipeline, load, run
    from llamapipe.session.results import FrameResult, to_pandas

__version__ = "0.1.0"

__all__ = ["FrameResult", "Pipeline", "ReadyPipeline", "__version__", "load", "operator", "run", "to_pandas"]

_HOMES = {
    "FrameResult": "llamapipe.session.results",
    "Pipeline": "llamapipe.session.pipeline",
    "ReadyPipeline": "llamapipe.session.pipeline",
    "load": "llamapipe.session.pipeline",
    "run": "llamapipe.session.pipeline",
    "to_pandas": "llamapipe.session.results",
}


def __getattr__(name: str) -> Any:
    if name == "operator":
        # Both a package and its decorator: the decorator is what users want of `llamapipe.operator`.
        return import_module("llamapipe.operator").operator
    if name not in _HOMES:
        raise AttributeError(f"module 'llamapipe' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

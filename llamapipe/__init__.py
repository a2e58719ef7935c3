"""llamapipe runs video analytics pipelines to an objective.

Say *what* to compute (a graph of operators) and *how well* (an SLO, an accuracy floor, least cost).
The Python API is re-exported here lazily, so that ``import llamapipe`` stays cheap.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llamapipe.operator import operator
    from llamapipe.session.comparing import Comparison
    from llamapipe.session.comparing import compare_runs as compare
    from llamapipe.session.pipeline import Pipeline, ReadyPipeline, load, plan, run, tune
    from llamapipe.session.results import FrameResult, to_pandas
    from llamapipe.session.serve import Answer, Session, query
    from llamapipe.session.tuning import Tuned

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "Comparison",
    "FrameResult",
    "Pipeline",
    "ReadyPipeline",
    "Session",
    "Tuned",
    "__version__",
    "compare",
    "load",
    "operator",
    "plan",
    "query",
    "run",
    "to_pandas",
    "tune",
]

_HOMES = {
    "Answer": "llamapipe.session.serve",
    "Comparison": "llamapipe.session.comparing",
    "FrameResult": "llamapipe.session.results",
    "Pipeline": "llamapipe.session.pipeline",
    "ReadyPipeline": "llamapipe.session.pipeline",
    "Session": "llamapipe.session.serve",
    "Tuned": "llamapipe.session.tuning",
    "compare": "llamapipe.session.comparing:compare_runs",
    "load": "llamapipe.session.pipeline",
    "plan": "llamapipe.session.pipeline",
    "query": "llamapipe.session.serve",
    "run": "llamapipe.session.pipeline",
    "to_pandas": "llamapipe.session.results",
}
_CALLED = {"operator": "llamapipe.operator", "tune": "llamapipe.session.pipeline"}


class _Called(ModuleType):
    """A package that bears the name of a function: ``llamapipe.tune(...)`` calls that."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self.__name__.rpartition(".")[2]
        return getattr(import_module(_CALLED[name]), name)(*args, **kwargs)


class _Door(ModuleType):
    # Importing a package makes it an attribute here, over any function of its name, whoever imports it and when: such a
    # package has to be both.
    def __setattr__(self, name: str, value: Any) -> None:
        if name in _CALLED and isinstance(value, ModuleType):
            value.__class__ = _Called
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Door


def __getattr__(name: str) -> Any:
    if name in _CALLED:
        return import_module(f"llamapipe.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'llamapipe' has no attribute {name!r}")
    home, _, there = _HOMES[name].partition(":")
    return getattr(import_module(home), there or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

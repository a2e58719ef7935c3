"""The Python API: wires everything. Imported quickly; what is heavy is loaded when it is used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llamapipe.session.execute import run, stream
    from llamapipe.session.request import DropPolicy, Progress, RunRequest
    from llamapipe.session.resolve import LoadedPipeline, load_pipeline, pipeline_names, validate_pipeline
    from llamapipe.session.results import FrameResult, to_pandas
    from llamapipe.session.scoring import Evaluation, evaluate

__all__ = [
    "DropPolicy",
    "Evaluation",
    "FrameResult",
    "LoadedPipeline",
    "Progress",
    "RunRequest",
    "evaluate",
    "load_pipeline",
    "pipeline_names",
    "run",
    "stream",
    "to_pandas",
    "validate_pipeline",
]

_HOMES = {
    "request": ("DropPolicy", "Progress", "RunRequest"),
    "resolve": ("LoadedPipeline", "load_pipeline", "pipeline_names", "validate_pipeline"),
    "results": ("FrameResult", "to_pandas"),
    "execute": ("run", "stream"),
    "scoring": ("Evaluation", "evaluate"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

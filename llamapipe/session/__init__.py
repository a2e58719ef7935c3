"""The Python API: wires everything. Imported quickly; what is heavy is loaded when it is used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llamapipe.session.checkpoints import Leftover, killed_before, look_back
    from llamapipe.session.execute import run, stream
    from llamapipe.session.pipeline import Pipeline, ReadyPipeline, load
    from llamapipe.session.preview import RunPreview, plan_run
    from llamapipe.session.quarantine import reproduce
    from llamapipe.session.registering import register_model
    from llamapipe.session.request import DropPolicy, Progress, RunRequest
    from llamapipe.session.resolve import LoadedPipeline, load_pipeline, pipeline_names, validate_pipeline
    from llamapipe.session.results import FrameResult, to_pandas
    from llamapipe.session.scoring import Evaluation, evaluate
    from llamapipe.session.tune_request import TuneRequest
    from llamapipe.session.tuning import Tuned, tune

__all__ = [
    "DropPolicy",
    "Evaluation",
    "FrameResult",
    "Leftover",
    "LoadedPipeline",
    "Pipeline",
    "Progress",
    "ReadyPipeline",
    "RunPreview",
    "RunRequest",
    "TuneRequest",
    "Tuned",
    "evaluate",
    "killed_before",
    "load",
    "load_pipeline",
    "look_back",
    "pipeline_names",
    "plan_run",
    "register_model",
    "reproduce",
    "run",
    "stream",
    "to_pandas",
    "tune",
    "validate_pipeline",
]

_HOMES = {
    "checkpoints": ("Leftover", "killed_before", "look_back"),
    "execute": ("run", "stream"),
    "pipeline": ("Pipeline", "ReadyPipeline", "load"),
    "preview": ("RunPreview", "plan_run"),
    "quarantine": ("reproduce",),
    "registering": ("register_model",),
    "request": ("DropPolicy", "Progress", "RunRequest"),
    "resolve": ("LoadedPipeline", "load_pipeline", "pipeline_names", "validate_pipeline"),
    "results": ("FrameResult", "to_pandas"),
    "scoring": ("Evaluation", "evaluate"),
    "tune_request": ("TuneRequest",),
    "tuning": ("Tuned", "tune"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The Python API: wires everything. Imported quickly; what is heavy is loaded when it is used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llamapipe.session.checkpoints import Leftover, killed_before, look_back
    from llamapipe.session.comparing import Comparison, compare_runs
    from llamapipe.session.execute import run, stream
    from llamapipe.session.pinned import pin, read_pinned
    from llamapipe.session.pipeline import Pipeline, ReadyPipeline, load
    from llamapipe.session.planning import explain_plan
    from llamapipe.session.preview import RunPreview, plan_run
    from llamapipe.session.quarantine import reproduce
    from llamapipe.session.registering import register_model
    from llamapipe.session.request import DropPolicy, Progress, RunRequest
    from llamapipe.session.resolve import LoadedPipeline, load_pipeline, pipeline_names, validate_pipeline
    from llamapipe.session.results import FrameResult, to_pandas
    from llamapipe.session.scoring import Evaluation, evaluate
    from llamapipe.session.serve import Answer, OfflineAnswer, QueryOptions, Session, query
    from llamapipe.session.tune_request import TuneRequest
    from llamapipe.session.tuning import Tuned, tune

__all__ = [
    "Answer",
    "Comparison",
    "DropPolicy",
    "Evaluation",
    "FrameResult",
    "Leftover",
    "LoadedPipeline",
    "OfflineAnswer",
    "Pipeline",
    "Progress",
    "QueryOptions",
    "ReadyPipeline",
    "RunPreview",
    "RunRequest",
    "Session",
    "TuneRequest",
    "Tuned",
    "compare_runs",
    "evaluate",
    "explain_plan",
    "killed_before",
    "load",
    "load_pipeline",
    "look_back",
    "pin",
    "pipeline_names",
    "plan_run",
    "query",
    "read_pinned",
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
    "comparing": ("Comparison", "compare_runs"),
    "execute": ("run", "stream"),
    "pinned": ("pin", "read_pinned"),
    "pipeline": ("Pipeline", "ReadyPipeline", "load"),
    "planning": ("explain_plan",),
    "preview": ("RunPreview", "plan_run"),
    "quarantine": ("reproduce",),
    "registering": ("register_model",),
    "request": ("DropPolicy", "Progress", "RunRequest"),
    "resolve": ("LoadedPipeline", "load_pipeline", "pipeline_names", "validate_pipeline"),
    "results": ("FrameResult", "to_pandas"),
    "scoring": ("Evaluation", "evaluate"),
    "serve": ("Answer", "OfflineAnswer", "QueryOptions", "Session", "query"),
    "tune_request": ("TuneRequest",),
    "tuning": ("Tuned", "tune"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

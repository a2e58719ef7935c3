"""The video that a tuning looks at: a file, or a piece of a live source that is recorded for it."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llamapipe.clock import Clock, Env
from llamapipe.errors import UsageError
from llamapipe.media import SourceSpec, check_part, open_source
from llamapipe.media.contract import SourceInfo
from llamapipe.media.recording import record
from llamapipe.session.prepare import OnAsset, sources_of
from llamapipe.session.searching import OnStep, Step
from llamapipe.session.tune_request import TuneRequest

__all__ = ["TunedVideo", "tuned_video"]

_MOST_RECORDED_S = 600.0


@dataclass(frozen=True, slots=True)
class TunedVideo:
    """A file. ``name`` is what it is called in what is found; ``part``: from and to, seconds, None where left out."""

    source: SourceSpec
    info: SourceInfo
    name: str
    part: tuple[float | None, float | None]
    recorded: bool = False


@contextmanager
def tuned_video(
    request: TuneRequest,
    *,
    clock: Clock,
    env: Env,
    on_step: OnStep,
    on_asset: OnAsset | None,
    interrupt: threading.Event,
) -> Iterator[TunedVideo]:
    """What was asked for, as a file. What was recorded is gone afterwards.

    Raises UsageError where it is not one video, SourceError, and InterruptedRun.
    """
    check_part(request.start_s, request.end_s)
    specs = sources_of([request.source], env, on_asset)
    if len(specs) != 1:
        raise UsageError(
            f"{request.source}: expected one video to tune on, got {len(specs)} sources", hint="name one of them"
        )
    (spec,) = specs
    if spec.kind == "file" and Path(spec.uri).is_file():
        info = _facts(spec, clock)
        yield TunedVideo(spec, info, Path(spec.uri).name, (request.start_s, request.end_s))
        return
    if spec.kind == "file":  # what is read here would be gone for the run
        raise UsageError(
            f"{spec.shown}: expected a video file or a live source to tune on, got a pipe or a device",
            hint="write it to a file first, and tune on that",
        )
    length_s = request.record_s
    if not 0 < length_s <= _MOST_RECORDED_S:
        raise UsageError(f"--record-s {length_s:g}: expected seconds, more than 0 and up to {_MOST_RECORDED_S:g}")
    on_step(Step(0, 0, 0.0, 0.0, f"recording {length_s:g} s of {spec.shown}"))
    with tempfile.TemporaryDirectory(prefix="llamapipe-") as folder:
        path = Path(folder) / "recorded.mkv"
        record(spec, path, length_s, clock=clock, interrupt=interrupt)
        file = SourceSpec(spec.name, str(path), "file")
        yield TunedVideo(file, _facts(file, clock), spec.name, (None, None), recorded=True)


def _facts(spec: SourceSpec, clock: Clock) -> SourceInfo:
    opened = open_source(spec, clock=clock, threads=1)
    opened.close()
    return opened.info

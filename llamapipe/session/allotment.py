"""On how many cores a run begins, and what is remembered of runs like it so that the next one begins on no more."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from llamapipe.clock import Env
from llamapipe.control.plan import JobPlan, RunPlan
from llamapipe.errors import UsageError
from llamapipe.inference import cache_root
from llamapipe.media.contract import VideoSource
from llamapipe.runtime.confinement import binds_threads
from llamapipe.session.objective import Objective
from llamapipe.session.observing import learns_from_runs
from llamapipe.slo import cores_for_deadline, cores_for_rate
from llamapipe.spec import PipelineSpec, SloSpec

__all__ = ["FINISHING_S", "Allotment", "Memory", "Needed", "allotment_of", "check_cores", "job_of"]

_LOG = logging.getLogger(__name__)
_FOLDER = "needed"
_NEW = 0.5  # weight of a run beside those before it
FINISHING_S = 0.15  # that files and reports take after the last frame
_SHARE = 0.9  # of the time that is left, that a job is planned to take
_SLOWER = 1.2  # that it takes to get ready on one core


class Needed(msgspec.Struct, frozen=True):
    """What runs of a pipeline on videos of one kind took."""

    core_s: float  # processor time of a frame, all that the run does included
    load_s: float  # from the run's start until a frame was worked on
    pipeline: str = ""  # for people who look into the file
    items: dict[str, float] = {}  # by stage, that it worked on for a frame: fewer than one where frames pass it by


@dataclass(frozen=True, slots=True)
class Allotment:
    """How many cores a run begins on. ``governed``: that follows what it needs while it runs."""

    cores: int
    governed: bool
    why: str = ""
    needed: Needed | None = None


def check_cores(cores: int | str | None, usable: int) -> None:
    """Raises UsageError for anything but "all", None, or 1 to ``usable``."""
    if cores is None or cores == "all" or (isinstance(cores, int) and 1 <= cores <= usable):
        return
    raise UsageError(
        f"--cores {cores}: expected a number from 1 to {usable}, or all",
        hint="left out, a run with an objective keeps to as few as meet it",
    )


def allotment_of(
    *,
    asked: int | str | None,
    plan: RunPlan,
    objective: Objective,
    sources: Mapping[str, VideoSource],
    usable: int,
    own_workers: bool,
    needed: Needed | None,
    left_s: float | None,
) -> Allotment:
    """For a run on ``usable`` cores. ``left_s``: until a job's deadline; ``own_workers``: nobody named their number.

    Only runs with an objective are held on fewer cores than there are: of others nobody has said how fast is enough.
    Processes are bound to cores of their own, and a number of workers that somebody asks for is what they want. Nor are
    they where the system binds no threads.
    """
    judged = objective.slo is not None and not objective.unjudged and (objective.quantile is not None or plan.job)
    threads = all(worker.kind == "thread" for worker in plan.workers)
    if asked is not None or not judged or usable < 2 or not threads or not own_workers or not binds_threads():
        return Allotment(usable, governed=False)
    if plan.job is not None and any(stream.stream not in plan.job.num_frames for stream in plan.streams):
        return Allotment(usable, governed=False)
    cores = usable if needed is None else _foreseen(needed, plan, sources, usable, left_s)
    if needed is None:
        return Allotment(usable, True, "nothing is known yet of runs like it")
    return Allotment(cores, True, f"a frame of such a run took {1000 * needed.core_s:.3g} ms of a core", needed)


def _foreseen(
    needed: Needed, plan: RunPlan, sources: Mapping[str, VideoSource], usable: int, left_s: float | None
) -> int:
    if plan.job is not None and left_s is not None:
        # Hardly more than one is of use until all is loaded; there is still time for others then.
        frames, time_s = sum(plan.job.num_frames.values()), _SHARE * (left_s - FINISHING_S) - _SLOWER * needed.load_s
        return 1 if cores_for_deadline(needed.core_s, frames, time_s, usable + 1) <= usable else usable
    rates = [float(source.info.fps or 0) for source in sources.values()]
    if not rates or not all(rates) or len(rates) < len(plan.streams):
        return usable
    return cores_for_rate(needed.core_s, sum(rates), usable)


def job_of(
    slo: SloSpec | None,
    sources: Mapping[str, VideoSource],
    started_s: float,
    now_s: float,
    waited_s: float,
    needed: Needed | None,
) -> JobPlan | None:
    """The job that an objective with a deadline makes of a run.

    It began when it was asked for, ``waited_s`` before the run. What is over before a frame can be worked on is no
    frame's fault.
    """
    if slo is None or slo.deadline_s is None:
        return None
    found = {name: source.info.num_frames for name, source in sources.items()}
    frames = {name: number for name, number in found.items() if number}
    fill_s = waited_s + max(now_s - started_s, 0.0 if needed is None else needed.load_s)
    return JobPlan(started_s - waited_s, slo.deadline_s, frames, fill_s)


class Memory:
    """What runs needed, in the cache: a file for every pipeline and kind of video, and one whatever is written."""

    def __init__(self, env: Env, spec: PipelineSpec, objective: Objective, sources: Mapping[str, VideoSource]) -> None:
        self._env, self._name = env, spec.name
        sizes = sorted({(source.info.width, source.info.height) for source in sources.values()})
        kind = "deadline" if objective.quantile is None else "latency"
        self._paths = [
            cache_root(env) / _FOLDER / f"{_digest([spec.model_dump(mode='json', exclude=left_out), sizes, kind])}.json"
            for left_out in ({"slo"}, {"slo", "sinks"})
        ]

    def recall(self) -> Needed | None:
        """None where nothing is known, or what runs took is to be left alone."""
        if not learns_from_runs(self._env):
            return None
        return next((needed for path in self._paths if (needed := _read(path)) is not None), None)

    def learn(self, core_s: float, load_s: float, items: Mapping[str, float]) -> None:
        """A run like it has ended."""
        if learns_from_runs(self._env) and core_s > 0.0 and math.isfinite(core_s):
            for path in self._paths:
                _write(path, Needed(core_s, load_s, self._name, dict(items)))


def _digest(what: object) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:20]


def _read(path: Path) -> Needed | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Needed)
    except (OSError, msgspec.MsgspecError):
        return None


def _write(path: Path, now: Needed) -> None:
    """Beside what was known before. What cannot be kept is not: the next one finds out again."""
    if (old := _read(path)) is not None:
        core_s = _NEW * now.core_s + (1 - _NEW) * old.core_s
        items = {stage: _NEW * n + (1 - _NEW) * old.items.get(stage, n) for stage, n in now.items.items()}
        now = Needed(core_s, _NEW * now.load_s + (1 - _NEW) * old.load_s, now.pipeline, items)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(msgspec.json.encode(now))
        os.replace(partial, path)
    except OSError as error:
        _LOG.debug("what the run took cannot be kept in %s: %s", path, error)
        with contextlib.suppress(OSError):
            partial.unlink()

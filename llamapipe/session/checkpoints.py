"""What a run keeps of itself while it goes on, so that another process can go on with it.

It lies in a hidden folder of the output folder: ``checkpoint``, which is replaced whole each time, and a folder for
each sink that keeps something. The hidden folder goes when the run is over; one that is there was left by a run that
was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from llamapipe.control.plan import Candidate, ResumePlan, SinkPlan, StagePlan
from llamapipe.errors import OutputError, UsageError
from llamapipe.media import SourceSpec
from llamapipe.report import RunSummary
from llamapipe.runtime import StreamPoint
from llamapipe.session.candidates import Choice
from llamapipe.session.outputs import CHECKPOINT_FOLDER, SUMMARY_FILE
from llamapipe.session.request import RunRequest
from llamapipe.spec import PipelineSpec
from llamapipe.tune.tuning import Tuning

__all__ = [
    "CHOICE",
    "Checkpoint",
    "CheckpointStore",
    "Leftover",
    "StageTally",
    "Tallies",
    "check_same",
    "fingerprint",
    "killed_before",
    "look_back",
    "resume_plan",
]

CHOICE = "the choice of "
"""Begins the names of those parts of a fingerprint that say how a stage was run, where others say what was asked."""

_FILE = "checkpoint"
_LOCK = "lock"
_FLAGS = ("start_s", "end_s", "max_frames", "loop", "realtime", "drop_policy", "segment_s")
_PACKAGES = ("llamapipe", "av", "numpy", "onnxruntime", "opencv-python", "openvino", "supervision", "torch", "trackers")


class StageTally(msgspec.Struct, frozen=True):
    """What a stage had done for frames before the checkpoint."""

    items: int
    invocations: int
    failed: int
    busy_s: float


class Tallies(msgspec.Struct, frozen=True):
    """What the earlier processes of a run spent. Times in seconds."""

    wall_s: float = 0.0
    running_s: float = 0.0  # of wall_s, since the first frame was worked on
    cpu_s: float = 0.0
    stages: dict[str, StageTally] = {}
    reserved_s: dict[str, dict[str, float]] = {}  # device-seconds by device and part of the run


class Checkpoint(msgspec.Struct, frozen=True):
    """All of a run's streams."""

    fingerprint: dict[str, str]
    started_at: str  # of the run's first process
    streams: dict[str, StreamPoint] = {}
    # By stage; what is known of this machine next time may have another chosen, and another search find another.
    choices: dict[str, Choice] = {}
    tuning: Tuning | None = None
    tallies: Tallies = Tallies()
    resumed: int = 0  # how often the run was gone on with
    version: int = 1


@dataclass(frozen=True, slots=True)
class Leftover:
    """What a folder holds: ``nothing``, a ``killed`` run, or one that is ``complete`` or ``finished`` short of that."""

    kind: str
    checkpoint: Checkpoint | None = None
    summary: RunSummary | None = None

    def __str__(self) -> str:
        if self.checkpoint is None:
            return {"complete": "the run is complete"}.get(self.kind, "there is nothing to go on with")
        points = self.checkpoint.streams
        places = [f"{name} at its end" if p.ended else f"{name} at frame {p.seq}" for name, p in points.items()]
        return f"going on with a run that was killed: {', '.join(places) or 'from the beginning'}"


def look_back(output: Path) -> Leftover:
    """What the output folder holds. Raises OutputError for a checkpoint that cannot be read."""
    checkpoint, summary = _read_checkpoint(output / CHECKPOINT_FOLDER / _FILE), _read_summary(output / SUMMARY_FILE)
    if summary is not None and (checkpoint is None or checkpoint.started_at == summary.started_at):
        if summary.outcome == "done":
            return Leftover("complete", summary=summary)
        if checkpoint is None:
            return Leftover("finished", summary=summary)
    return Leftover("nothing") if checkpoint is None else Leftover("killed", checkpoint)


def killed_before(request: RunRequest) -> Checkpoint | None:
    """Of the run that a request goes on with, where there is one. Raises OutputError."""
    if not request.resume or request.output is None:
        return None
    left = look_back(request.output)
    return left.checkpoint if left.kind == "killed" else None


def _read_checkpoint(path: Path) -> Checkpoint | None:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=Checkpoint)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise OutputError(
            f"{path} cannot be read: {error}", hint="begin anew without --resume; it is replaced then"
        ) from error


def _read_summary(path: Path) -> RunSummary | None:
    try:
        return RunSummary.from_json(path.read_bytes())
    except (OSError, msgspec.MsgspecError):
        return None


# -- whether it is the same run ----------------------------------------------------------------------------------


def fingerprint(
    request: RunRequest,
    spec: PipelineSpec,
    stages: Sequence[StagePlan],
    sinks: Sequence[SinkPlan],
    specs: Mapping[str, SourceSpec],
    files: Sequence[str],
) -> dict[str, str]:
    """Everything that results hang on, by name; ``files`` are those of operators and models that the user gave.

    All but plain flags is digested: sinks' parameters may hold passwords.
    """
    found = {f"--{name.removesuffix('_s').replace('_', '-')}": str(getattr(request, name)) for name in _FLAGS}
    for op in spec.ops:
        asked = {**op.model_dump(), "params": {name: op.params[name] for name in op.params if name != "placement"}}
        found[f"stage {op.name}"] = _digest(msgspec.json.encode(asked, enc_hook=str, order="deterministic"))
    found["the accuracy asked for"] = str(spec.accuracy)
    for stage in stages:  # where it runs, and how long that takes, makes no difference to what comes out
        bare = tuple(Candidate(candidate.configuration) for candidate in stage.candidates)
        stage = msgspec.structs.replace(stage, placement="", candidates=bare, standby=(), changeable=False)
        found[f"{CHOICE}stage {stage.name}"] = _digest(msgspec.json.encode(stage))
    for sink in sinks:
        found[f"sink {sink.name}"] = _digest(msgspec.json.encode(sink))
    for name, source in specs.items():
        found[f"source {name}"] = _digest(os.fsencode(f"{source.kind} {_place(source)}"))
    for file in files:
        found[f"file {file}"] = _digest(_content(Path(file)))
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[f"version of {package}"] = version(package)
    return found


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _place(spec: SourceSpec) -> str:
    if spec.kind != "file":
        return spec.uri
    path = Path(spec.uri).resolve()
    try:
        stat = path.stat()
    except OSError:
        return str(path)
    return f"{path} {stat.st_size} {stat.st_mtime_ns}"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def check_same(before: Mapping[str, str], now: Mapping[str, str], *, what: str = "killed") -> None:
    """Raise UsageError, naming what is different, unless both are of the same run."""
    changed = {name for name in {*before, *now} if before.get(name) != now.get(name)}
    different = []
    for name in sorted(changed):
        was, is_now = before.get(name), now.get(name)
        if name.removeprefix(CHOICE) in changed - {name}:
            continue  # another was asked for, so that another was chosen
        if was is None or is_now is None:
            different.append(f"{name} is {'new' if was is None else 'gone'}")
        elif name.startswith(("--", "version")):
            different.append(f"{name} was {was} and is {is_now}")
        else:
            different.append(f"{name} has changed")
    if different:
        raise UsageError(
            f"the run that {'is complete' if what == 'complete' else 'was killed'} was another: {'; '.join(different)}",
            hint="give the same pipeline, sources and flags, or begin anew with --force instead of --resume",
        )


def resume_plan(point: StreamPoint | None) -> ResumePlan | None:
    """What control is told of it."""
    if point is None:
        return None
    return ResumePlan(point.seq, point.tallies, tuple(sorted(point.states)), point.ended)


# -- files -------------------------------------------------------------------------------------------------------


class CheckpointStore:
    """The hidden folder of one output folder. ``problem`` says why nothing more could be kept; the run goes on."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._folder = output / CHECKPOINT_FOLDER
        self._lock = -1
        self._wake = threading.Condition()
        self._latest: Checkpoint | None = None
        self._closing = False
        self._thread: threading.Thread | None = None
        self.problem: str | None = None

    def open(self, first: Checkpoint, *, go_on: bool) -> None:
        """Begin. Raises OutputError where it cannot be written, or another run is writing there.

        What an earlier run has left is kept where this one goes on with it, and removed where not.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(self._lock)
                self._lock = -1
                raise OutputError(
                    f"another run is writing to {self._output}", hint="wait for it, or name another folder with -o"
                ) from error
            except OSError:
                pass  # a file system without locks
            if not go_on:
                for entry in self._folder.iterdir():
                    if entry.name != _LOCK:
                        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            self._write(first)
        except OSError as error:
            raise OutputError(f"{self._folder} cannot be written: {(error.strerror or str(error)).lower()}") from error
        self._thread = threading.Thread(target=self._serve, name="llamapipe checkpoints", daemon=True)
        self._thread.start()

    def keep(self, stream: str, sink: str) -> Path:
        """Folder for what a sink keeps. Once its stream has ended, it goes with the checkpoint that says so."""
        return self._folder / "streams" / stream / sink

    def save(self, checkpoint: Checkpoint) -> None:
        """Write it soon, unless a later one comes first. Returns at once."""
        with self._wake:
            self._latest = checkpoint
            self._wake.notify()

    def close(self, *, remove: bool) -> None:
        """End; may be called twice. ``remove``: nothing of the folder remains."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if remove and self._lock >= 0:
            # What is removed first is what would make it be gone on with.
            (self._folder / _FILE).unlink(missing_ok=True)
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _serve(self) -> None:
        ended: set[str] = set()
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._latest is not None or self._closing)
                latest, self._latest = self._latest, None
            if latest is None:
                return
            try:
                self._write(latest)
                for stream, point in latest.streams.items():
                    if point.ended and stream not in ended:
                        ended.add(stream)
                        shutil.rmtree(self._folder / "streams" / stream, ignore_errors=True)
            except OSError as error:
                self.problem = f"the run could not be gone on with: {(error.strerror or str(error)).lower()}"

    def _write(self, checkpoint: Checkpoint) -> None:
        partial = self._folder / f"{_FILE}.new"
        with partial.open("wb") as file:
            file.write(msgspec.msgpack.encode(checkpoint))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self._folder / _FILE)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

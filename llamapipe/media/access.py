"""Opening what a run reads: one source, or all of them side by side."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from llamapipe.clock import Clock
from llamapipe.errors import InterruptedRun, SourceError, UsageError
from llamapipe.media.awaiting import AwaitedSource, Opener
from llamapipe.media.connecting import Backoff, ReconnectPolicy, connect_until
from llamapipe.media.contract import VideoSource
from llamapipe.media.expand import SourceSpec
from llamapipe.media.live import LiveSource
from llamapipe.media.opening import check_file, may_block
from llamapipe.media.sources import AvSource

__all__ = ["PATIENCE_S", "check_part", "open_source", "open_sources"]

PATIENCE_S = 3.0
"""Seconds that a run waits for sources which are not there when the first one is. Whoever comes later joins it."""

_LOG = logging.getLogger(__name__)


def check_part(start_s: float | None, end_s: float | None) -> None:
    """Raise UsageError unless there can be frames from the one time (seconds) to the other."""
    for name, value in (("--start", start_s), ("--end", end_s)):
        if value is not None and value < 0:
            raise UsageError(f"{name} {value:g}: expected a time of 0 or more")
    if end_s == 0:
        raise UsageError("--end 0 leaves no frame", hint="give the time to stop before, or leave it out")
    if start_s is not None and end_s is not None and end_s <= start_s:
        raise UsageError(f"--end {end_s:g} is not after --start {start_s:g}")


def open_source(
    spec: SourceSpec,
    *,
    clock: Clock,
    start_s: float | None = None,
    end_s: float | None = None,
    max_frames: int | None = None,
    loop: int = 1,
    realtime: bool = False,
    threads: int = 2,
    reconnect: ReconnectPolicy | None = None,
    rng: np.random.Generator | None = None,
    unwanted: Callable[[], bool] = lambda: False,
    skip: int = 0,
) -> VideoSource:
    """Open a source and learn its facts.

    ``start_s`` and ``end_s`` are media times from the first frame, the end exclusive. ``loop`` plays a file so many
    times, with times that go on. ``realtime`` hands a file's frames out at their own rate. A live source at an address
    is called back as ``reconnect`` says, at times that ``rng`` spreads; None: it is lost when its connection is.
    Connecting ends soon after ``unwanted`` turns true. The first ``skip`` frames of a file are left out; the
    others keep their numbers.

    Raises SourceError, UsageError, and InterruptedRun where it was not wanted any more.
    """
    if spec.kind == "file":
        check_file(Path(spec.uri))
    check_part(start_s, end_s)
    policy = None if spec.kind == "file" else reconnect

    def connect(known: bool = False) -> AvSource:
        return AvSource(
            spec,
            clock=clock,
            start_s=start_s or 0.0,
            end_s=end_s,
            max_frames=max_frames,
            loop=loop,
            realtime=realtime,
            threads=threads,
            stall_timeout_s=None if policy is None else policy.stall_timeout_s,
            known=known,
            skip=skip,
        )

    def connect_again() -> AvSource:
        source = connect(known=True)
        source.settle()
        return source

    failure: SourceError | None = None  # of the latest attempt

    def connect_first() -> AvSource:
        nonlocal failure
        try:
            return connect()
        except SourceError as error:
            failure = error
            raise

    if not may_block(spec):
        return connect()
    retries = policy if policy is not None else ReconnectPolicy()
    backoff = Backoff(retries, rng if rng is not None else np.random.default_rng(0))
    until_s = clock.now_s() + retries.first_s if retries.first_s > 0 else None
    first = connect_until(connect_first, until_s, backoff=backoff, clock=clock, unwanted=unwanted, shown=spec.shown)
    if first is None:
        raise InterruptedRun(f"interrupted while connecting to {spec.shown}") from failure
    if policy is None or not first.info.live:
        return first
    backoff.reset()
    first.read_ahead()
    return LiveSource(
        first,
        connect_again,
        shown=spec.shown,
        policy=policy,
        backoff=backoff,
        clock=clock,
        start_s=start_s or 0.0,
        end_s=end_s,
        max_frames=max_frames,
    )


def open_sources(
    specs: Mapping[str, SourceSpec],
    open_one: Opener,
    *,
    clock: Clock,
    patience_s: float = PATIENCE_S,
    unwanted: Callable[[], bool] = lambda: False,
    insist: Opener | None = None,
) -> tuple[dict[str, VideoSource], dict[str, SourceError], dict[str, AwaitedSource]]:
    """Sources that are there, why others cannot be had, and those that may still come.

    Those that may keep one waiting are connected to side by side. Once one is there, the others are waited for
    ``patience_s`` longer at most. Whoever is not there then goes on being connected to; where ``open_one`` had given it
    up, ``insist`` is what gets it. Without any source nothing is awaited: the failures say why.

    Raises what ``open_one`` raises besides SourceError; nothing stays open then, and nothing is waited for.
    """
    attempts: dict[str, AwaitedSource] = {}
    sources: dict[str, VideoSource] = {}
    failures: dict[str, SourceError] = {}
    awaited: dict[str, AwaitedSource] = {}
    first_s: float | None = None  # when the first one was there

    def late() -> bool:
        nonlocal first_s
        if first_s is None and (sources or any(attempt.is_there for attempt in attempts.values())):
            first_s = clock.now_s()
        return first_s is not None and clock.now_s() - first_s >= patience_s

    def opened(name: str, spec: SourceSpec) -> VideoSource | None:
        if name not in attempts:
            return open_one(spec, unwanted)
        source = attempts[name].first(lambda: unwanted() or late())
        if unwanted():
            raise InterruptedRun(f"interrupted while connecting to {spec.shown}")
        return source

    try:
        for name, spec in specs.items():
            if may_block(spec) and spec.kind != "file":
                attempts[name] = AwaitedSource(spec, open_one, insist)
        for name in sorted(specs, key=attempts.__contains__):  # those first that are not waited for
            try:
                source = opened(name, specs[name])
            except SourceError as error:
                failures[name] = error
            else:
                if source is not None:
                    sources[name] = source
                else:
                    awaited[name] = attempts[name]
        if sources and insist is not None:
            awaited |= {name: attempts[name] for name in failures if name in attempts}
    except BaseException:
        for attempt in attempts.values():
            attempt.close()
        for source in sources.values():
            source.close()
        raise

    for name in awaited:
        reason = failures.pop(name).message if name in failures else f"source {specs[name].shown} is not there yet"
        _LOG.warning("%s; the run begins without it, and goes on calling it", reason)
    return {name: sources[name] for name in specs if name in sources}, failures, awaited

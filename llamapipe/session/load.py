"""An open-loop load: queries are sent when they are due, whether or not earlier ones were answered."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec
import numpy as np

from llamapipe.clock import Clock
from llamapipe.data import Native
from llamapipe.errors import QueryRefused
from llamapipe.session.serve import Answer, QueryOptions, Session

__all__ = ["LoadReport", "Second", "generate_load"]

_LAST_S = 30.0  # that the last answers are waited for


class Second(msgspec.Struct, frozen=True):
    """What was due in one second of a load, and what came of it."""

    at_s: int
    num_sent: int
    num_in_time: int
    reserved_cores: float


class LoadReport(msgspec.Struct, frozen=True):
    """What came of a load. Latencies count from when a query was due; attainment is in time / sent."""

    num_sent: int
    num_in_time: int
    num_late: int
    refused: dict[str, int]  # by `QueryRefused.why`
    attainment: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    reserved_core_s: float
    duration_s: float
    sent_late_ms: float  # 99th percentile: by how much the generator itself was behind
    variants: dict[str, int]  # queries by who answered them
    tasks: dict[str, int]  # queries by what was asked, where that differs
    seconds: list[Second]


@dataclass(slots=True)
class _Tally:
    lock: threading.Condition = field(default_factory=threading.Condition)
    latencies_s: list[float] = field(default_factory=list)
    num_in_time: int = 0
    num_late: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    variants: Counter[str] = field(default_factory=Counter)
    by_second: Counter[int] = field(default_factory=Counter)
    num_counted: int = 0


def generate_load(
    session: Session,
    times_s: Iterable[float],
    asked: Iterator[str] | None,
    pictures: Sequence[Native],
    *,
    clock: Clock,
    interrupt: threading.Event | None = None,
    **options: object,
) -> LoadReport:
    """Send a query at each of ``times_s`` (seconds from now, rising), and wait for all answers.

    ``asked`` gives the task of each, where that differs. ``pictures`` are taken in turn. ``options`` are
    `QueryOptions`. Ends early, having waited for what was sent, when ``interrupt`` is set.
    """
    tally = _Tally()
    sent_by_second: Counter[int] = Counter()
    tasks: Counter[str] = Counter()
    lags_s: list[float] = []
    reserved: dict[int, float] = {}
    pending: list[Future[Answer]] = []
    began_s = clock.now_s()
    began_core_s = session.reserved_core_s()
    num_sent = 0
    for number, at_s in enumerate(times_s):
        if interrupt is not None and interrupt.is_set():
            break
        second = int(at_s)
        clock.sleep(began_s + at_s - clock.now_s())
        if second not in reserved:
            reserved[second] = session.reserved_core_s() - began_core_s
        lags_s.append(clock.now_s() - began_s - at_s)
        ask: QueryOptions = {**options}  # type: ignore[typeddict-item]  # a copy of the same keys
        if asked is not None:
            ask["task"] = next(asked)
            tasks[ask["task"] or ""] += 1
        sent_by_second[second] += 1
        num_sent += 1
        future = session.submit(pictures[number % len(pictures)], arrived_s=began_s + at_s, **ask)
        # mypy infers no type of a lambda's default, which binds this turn's second.
        future.add_done_callback(lambda done, second=second: _count(tally, done, second))  # type: ignore[misc]
        pending.append(future)
        if len(pending) > 1000:
            pending = [left for left in pending if not left.done()]
    for future in pending:
        future.exception(timeout=_LAST_S)
    with tally.lock:  # whoever waits for an answer may be told of it before it is counted
        tally.lock.wait_for(lambda: tally.num_counted == num_sent, _LAST_S)
    duration_s = clock.now_s() - began_s
    reserved_core_s = session.reserved_core_s() - began_core_s
    with tally.lock:
        latencies = np.array(tally.latencies_s or [0.0])
        p50_ms, p95_ms, p99_ms = (float(value) * 1000 for value in np.percentile(latencies, [50, 95, 99]))
        return LoadReport(
            num_sent,
            tally.num_in_time,
            tally.num_late,
            dict(tally.refused),
            tally.num_in_time / num_sent if num_sent else 1.0,
            p50_ms,
            p95_ms,
            p99_ms,
            reserved_core_s,
            duration_s,
            float(np.percentile(lags_s, 99)) * 1000 if lags_s else 0.0,
            dict(tally.variants.most_common()),
            dict(tasks),
            list(_seconds(sent_by_second, tally.by_second, {**reserved, int(duration_s) + 1: reserved_core_s})),
        )


def _count(tally: _Tally, done: Future[Answer], second: int) -> None:
    error = done.exception()
    with tally.lock:
        tally.num_counted += 1
        tally.lock.notify_all()
        if isinstance(error, QueryRefused):
            tally.refused[error.why] += 1
        elif error is not None:
            tally.refused[type(error).__name__] += 1
        else:
            answer = done.result()
            tally.latencies_s.append(answer.latency_s)
            tally.variants[answer.variant] += 1
            if answer.late:
                tally.num_late += 1
            else:
                tally.num_in_time += 1
                tally.by_second[second] += 1


def _seconds(sent: Counter[int], in_time: Counter[int], reserved: dict[int, float]) -> Iterator[Second]:
    marks = sorted(reserved)
    for second, after in pairwise(marks):
        cores = (reserved[after] - reserved[second]) / (after - second)
        yield Second(second, sent[second], in_time[second], round(cores, 2))

"""Model-less inference: say what is wanted of pictures; which variant answers, and where, is llamapipe's choice."""

from __future__ import annotations

import contextlib
import difflib
import os
import secrets
import sqlite3
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf
from pathlib import Path
from types import TracebackType
from typing import TypedDict, Unpack

from llamapipe.catalog import AccuracyFigure, Floor, Profile, ProfileState, Query
from llamapipe.clock import Clock, Env, SystemClock, system_env
from llamapipe.control.serving import Host, ServingController, ServingPlan, StaticPlan
from llamapipe.control.serving import actions as act
from llamapipe.control.serving.program import Problem, solve
from llamapipe.data import Boxes, Native
from llamapipe.errors import AssetError, LlamapipeError, QueryRefused, SourceError, UsageError
from llamapipe.inference import (
    AssetStore,
    all_models,
    cache_root,
    find_models,
    model_named,
    open_catalogue,
    registered_files,
    task_labels,
    use_catalogue,
)
from llamapipe.runtime import LocalArena, ProcessWorker, SharedArena, Spares, WorkerPeer, read_machine
from llamapipe.runtime.open_files import allow_open_files
from llamapipe.runtime.serving.replica import Replica, ReplicaBoot
from llamapipe.runtime.serving.replica_process import loader
from llamapipe.runtime.serving.server import Served, Server, Watch
from llamapipe.runtime.whole_process import one_thread, quick_switches
from llamapipe.session.asked_pictures import Picture, one_by_one, pictures_of, read_pictures
from llamapipe.session.options import Check, number, refuse_unknown, texts, word
from llamapipe.spec import PLACEMENTS
from llamapipe.spec.accuracy_text import AGREEMENT, parse_floor

__all__ = [
    "Answer",
    "OfflineAnswer",
    "Picture",
    "QueryOptions",
    "Session",
    "batches_of",
    "make_query",
    "parse_accuracy",
    "query",
]

_HOST = "local"
_VARIANT_FORM = "MODEL/BACKEND/DEVICE/PRECISION/HEIGHTxWIDTH/tTHREADS, as yolox-nano/openvino/cpu/fp32/416x416/t1"
_SLOT_BYTES = 1 << 27  # the largest picture: 8K in BGR; memory that is not written to is not taken
_MEMORY_SHARE = 0.8  # of what is free: the rest is for pictures, and for what others take meanwhile
_MEMORY_SLACK_BYTES = 1 << 28  # that a replica may take beyond twice its profile: address space is not memory yet
# What 99 of 100 queries that do not wait take beside their invocations, until they have shown it: as on two cores. What
# earlier sessions were shown is taken where it is less: it comes down to what is true from above.
_TRANSIT_S = {"thread": 0.002, "process": 0.004}
_TELLING = 200  # queries, from which a session knows
_SWITCH_S = 0.0002  # an answer waits no longer than this for the solver, or for what its user computes in Python
_WORTHWHILE = 0.95  # a larger batch has to save this much of the time an item, or it gets no network of its own


class QueryOptions(TypedDict, total=False):
    """What can be said of a query. One of ``task``, ``model`` and ``variant``; the rest are constraints.

    ``accuracy`` is a number (F1 with the best variant of the task), or names its metric: "coco_ap>=0.25".
    ``max_cost`` is in reserved core-seconds a picture.
    """

    task: str | None
    model: str | None
    variant: str | None
    latency_ms: float | None
    accuracy: float | str | Floor | None
    max_cost: float | None
    labels: Sequence[str]
    min_score: float | None


_CHECKS: Mapping[str, Check] = {
    "task": word("person-detection"),
    "model": word("yolox-nano"),
    "variant": word("yolox-nano/openvino/cpu/fp32/416x416/t1"),
    "latency_ms": number("milliseconds", optional=True, any_range=True),
    "accuracy": lambda _, asked: parse_accuracy(asked),
    "max_cost": number("reserved core-seconds a picture", optional=True, any_range=True),
    "labels": lambda name, given: () if given is None else texts(name, given),
    "min_score": number("a score from 0 to 1", optional=True, any_range=True),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """Boxes of every picture, in its own pixels, and who found them."""

    boxes: tuple[Boxes, ...]
    variant: str
    why: str  # this variant
    latency_s: float
    late: bool  # beyond what was asked for
    cost: float  # reserved core-seconds (or their price) a picture
    accuracy: AccuracyFigure | None = None  # of the variant: on the metric that was asked for, else the first known


@dataclass(frozen=True, slots=True)
class OfflineAnswer:
    """One picture of a folder or a video: its answer, or why there is none."""

    source: str
    seq: int
    answer: Answer | None
    error: str = ""


class Session:
    """Serves queries with replicas of its own until it is closed. A context manager; any thread may ask.

    ``workers``: replicas in processes ("process": isolated, pinned to their cores) or threads of this one ("thread":
    up at once). ``cores``: how many of this machine's, or which; ``memory_bytes`` for all replicas together. Both are
    hard limits. ``policy``: "llamapipe"; "infaas" and "static" are there to compare with, the latter keeping ``static``
    (variant -> replicas). ``profiles`` None: those of the catalogue for this machine. ``prices`` of a core-second by
    device, where cost is not core-seconds. ``watch`` is told of every decision.
    """

    def __init__(
        self,
        *,
        workers: str = "process",
        cores: int | Sequence[int] | None = None,
        memory_bytes: int | None = None,
        policy: str = "llamapipe",
        static: Mapping[str, int] | None = None,
        profiles: Sequence[Profile] | None = None,
        prices: Mapping[str, float] | None = None,
        watch: Watch | None = None,
        env: Env | None = None,
        clock: Clock | None = None,
    ) -> None:
        if workers not in PLACEMENTS:
            raise UsageError(f"workers {workers!r}: expected {', '.join(PLACEMENTS)}")
        _check_numbers(static, prices)
        self._env = system_env() if env is None else env
        self._clock = SystemClock() if clock is None else clock
        self._kind = workers
        self._token = secrets.token_hex(16)
        way_s = None
        try:
            with open_catalogue(self._env) as store:
                way_s = store.way_s(workers)
                profiles = store.profiles() if profiles is None else profiles
        except AssetError:
            if profiles is None:
                raise
        self._profiles = {profile.variant.name: profile for profile in profiles}
        self._root = cache_root(self._env)
        use_catalogue(self._root)
        self._assets = AssetStore(self._root, env=self._env)
        plan = ServingPlan(
            (_host(cores, memory_bytes),),
            policy=policy,
            static=StaticPlan(dict(static or {})),
            prices=dict(prices or {}),
            transit_s=_TRANSIT_S[workers] if way_s is None else min(_TRANSIT_S[workers], way_s),
        )
        self.controller = ServingController(plan, tuple(profiles))
        # Last of what may be refused: it holds a file.
        self._arena: LocalArena | SharedArena = LocalArena() if workers == "thread" else SharedArena(_SLOT_BYTES)
        self._spares: Spares | None = None
        if isinstance(self._arena, SharedArena):
            self._spares = Spares(ReplicaBoot.module, self._arena.memory.fd, self._env)
        address = f"llamapipe-serve-{os.getpid()}-{id(self):x}"
        self._server = Server(
            self.controller,
            arena=self._arena,
            clock=self._clock,
            make_replica=self._make_replica,
            solve=solve,
            address=f"inproc://{address}",
            process_address=None if workers == "thread" else f"ipc://@{address}",
            token=self._token,
            watch=watch,
            spares=self._spares,
            num_cores=int(read_machine().cores),
        )
        self._open = ExitStack()
        self._entered = False

    def __enter__(self) -> Session:
        """Raises LlamapipeError where it is open, or was."""
        if self._entered:
            raise LlamapipeError("the session is open already")
        self._open.enter_context(one_thread())
        self._open.enter_context(quick_switches(_SWITCH_S))
        self._entered = True
        if self._kind == "process":
            allow_open_files()
            solve(Problem((), (), ()))  # what it imports takes half a second, which no query shall wait for
        try:
            self._server.__enter__()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(now=error is not None)

    def close(self, *, now: bool = False) -> None:
        """Answer what waits, or refuse it (``now``), and end every replica. May be called twice, and unopened."""
        try:
            self._server.close(now=now)
            if self._entered:
                self._remember()
        finally:
            self._arena.close()
            self._leave()

    def _leave(self) -> None:
        """Give back what was set for the whole process."""
        self._open.close()
        self._entered = False

    def _remember(self) -> None:
        """What queries have shown of their way, for the sessions to come."""
        way = self.controller.transit
        if way.seen < _TELLING:
            return
        # Every query was answered: that this cannot be kept is no reason to fail.
        with contextlib.suppress(AssetError, sqlite3.Error), open_catalogue(self._env) as store:
            store.put_way(self._kind, way.late_s)

    # -- asking --------------------------------------------------------------------------------------------------

    def query(self, pictures: Picture | Sequence[Picture], **options: Unpack[QueryOptions]) -> Answer:
        """Ask of one or several pictures together, and wait.

        Where nothing is loaded that could answer in time, it is loaded first, and the time asked for begins then.
        Raises QueryRefused where nothing on this machine meets what is asked, SourceError for a picture that cannot be
        read, UsageError for options that cannot be.
        """
        read = read_pictures(pictures)
        query = make_query(num_items=len(read), **options)
        try:
            return self._ask(query, read).result()
        except QueryRefused as refusal:
            if refusal.why != "cold":
                raise
        self._prepare(query)
        return self._ask(query, read).result()

    def query_async(
        self,
        pictures: Picture | Sequence[Picture],
        *,
        arrived_s: float | None = None,
        **options: Unpack[QueryOptions],
    ) -> Future[Answer]:
        """Ask without waiting: `asyncio.wrap_future` makes what this returns awaitable.

        ``arrived_s``, on the session's clock, is when the query was due; now where it is None. Nothing is loaded first:
        a query whose latency leaves no time for that is refused. See `prepare`.
        """
        read = read_pictures(pictures)
        return self._ask(make_query(num_items=len(read), **options), read, arrived_s)

    def submit(
        self, picture: Native, *, arrived_s: float | None = None, **options: Unpack[QueryOptions]
    ) -> Future[Answer]:
        """As `query_async`, of one picture that nobody changes any more."""
        return self._ask(make_query(**options), [picture], arrived_s)

    def query_batch(
        self, pictures: Sequence[Picture], **options: Unpack[QueryOptions]
    ) -> list[Answer | QueryRefused | SourceError | UsageError]:
        """Ask the same of many pictures, each for itself.

        In place of its answer, a picture that cannot be answered has its refusal, and one that cannot be read its
        error: a SourceError, or a UsageError for what is no picture.
        """
        query, given = make_query(**options), one_by_one(pictures)
        self._prepare(query)
        asked: list[Future[Answer] | SourceError | UsageError] = []
        for picture in given:
            try:
                asked.append(self._ask(query, read_pictures(picture)))
            except (SourceError, UsageError) as error:
                asked.append(error)
        found: list[Answer | QueryRefused | SourceError | UsageError] = []
        for one in asked:
            try:
                found.append(one.result() if isinstance(one, Future) else one)
            except QueryRefused as refusal:
                found.append(refusal)
        return found

    def offline(
        self, source: str | Path, *, max_pending: int = 16, **options: Unpack[QueryOptions]
    ) -> Iterator[OfflineAnswer]:
        """Every picture of a folder or a video, in order, with only what nobody else wants of the machine.

        At most ``max_pending`` pictures wait at once: a long video takes no more memory than a short one.
        """
        query = make_query(offline=True, **options)
        waiting: deque[tuple[str, int, Future[Answer] | str]] = deque()

        def first() -> OfflineAnswer:
            name, seq, future = waiting.popleft()
            if isinstance(future, str):
                return OfflineAnswer(name, seq, None, future)
            try:
                return OfflineAnswer(name, seq, future.result())
            except QueryRefused as refusal:
                return OfflineAnswer(name, seq, None, str(refusal))

        for name, seq, picture in pictures_of(str(source), self._assets, self._env, self._clock):
            asked = picture if isinstance(picture, str) else self._ask(query, [picture])
            waiting.append((name, seq, asked))
            if len(waiting) >= max_pending:
                yield first()
        while waiting:
            yield first()

    def prepare(self, *, items_per_s: float = 0.0, hold_s: float = 10.0, **options: Unpack[QueryOptions]) -> str:
        """Have something loaded for such queries, ``items_per_s`` of them, and kept for ``hold_s``; returns which.

        Raises QueryRefused where nothing on this machine meets what is asked.
        """
        return self._prepare(make_query(**options), items_per_s, hold_s)

    def _prepare(self, query: Query, items_per_s: float = 0.0, hold_s: float = 10.0) -> str:
        return self._server.prepare(query, items_per_s=items_per_s, hold_s=hold_s).result().answer.variant

    def _ask(self, query: Query, pictures: Sequence[Native], arrived_s: float | None = None) -> Future[Answer]:
        answer: Future[Answer] = Future()
        answer.set_running_or_notify_cancel()

        def done(served: Future[Served]) -> None:
            error = served.exception()
            if isinstance(error, QueryRefused) and error.why == "unknown":
                error.hint = self._hint(query)
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(self._answer(query, served.result()))

        self._server.submit(query, pictures, arrived_s=arrived_s).add_done_callback(done)
        return answer

    def _hint(self, query: Query) -> str:
        """What to do about a query that nothing here may serve, as far as is known."""
        measured = "only what was measured here can be chosen: llamapipe models profile"
        if query.variant is None:
            return f"{measured} {f'--task {query.task}' if query.task is not None else query.model}"
        model = query.variant.partition("/")[0]
        profile = self._profiles.get(query.variant)
        if profile is not None and profile.state != ProfileState.READY:
            return f"see: llamapipe models show {model}"
        able = [name for name, known in self._profiles.items() if known.state == ProfileState.READY and known.points]
        near = difflib.get_close_matches(query.variant, able, n=1, cutoff=0.8)
        if profile is None and near:
            return f"did you mean {near[0]}?"
        if model in all_models():
            return f"{measured} {model}"
        return f"expected {_VARIANT_FORM}; see: llamapipe models list"

    def _answer(self, query: Query, served: Served) -> Answer:
        said = served.answer
        profile = self._profiles.get(said.variant)
        figure = None
        if profile is not None:
            figure = _figure(profile, query.accuracy, query.task)
        return Answer(served.boxes, said.variant, said.why, said.latency_s, said.late, said.cost, figure)

    # -- what is going on ----------------------------------------------------------------------------------------

    def profiles(self) -> dict[str, Profile]:
        """What this session knows of variants, by name."""
        return dict(self._profiles)

    def reserved_core_s(self) -> float:
        """Core-seconds that replicas have held so far; an idle one is not free."""
        return self._server.reserved_core_s()

    def processes(self) -> dict[str, int]:
        """Process ids of replicas that are ready, by replica."""
        return self._server.processes()

    def _make_replica(self, action: act.StartReplica, identity: str) -> WorkerPeer:
        profile = self._profiles[action.variant]
        batches = batches_of(profile)
        if self._kind == "thread":
            return Replica(
                identity,
                profile.variant,
                batches=batches,
                cores=action.cores,
                load=loader(self._assets),
                arena=self._arena,
                clock=self._clock,
            )
        assert isinstance(self._arena, SharedArena)
        boot = ReplicaBoot(
            name=action.replica,
            identity=identity,
            address="",
            token=self._token,
            fd=self._arena.memory.fd,
            slot_bytes=self._arena.memory.slot_bytes,
            cache_root=str(self._root),
            cores=action.cores,
            variant=profile.variant,
            models=registered_files(),
            batches=batches,
            memory_bytes=2 * action.memory_bytes + _MEMORY_SLACK_BYTES,
        )
        return ProcessWorker(action.replica, boot, self._env, self._spares)


def make_query(*, num_items: int = 1, offline: bool = False, **options: Unpack[QueryOptions]) -> Query:
    """A query as control takes it. Raises UsageError for what cannot be."""
    refuse_unknown(options, _CHECKS, "a query")
    options = {name: _CHECKS[name](name, value) for name, value in options.items()}  # type: ignore[assignment]  # alike
    task, model, variant = options.get("task"), options.get("model"), options.get("variant")
    named = [name for name in (task, model, variant) if name is not None]
    if len(named) != 1:
        raise UsageError(
            f"a query names one of task, model and variant, this one {len(named)}",
            hint="for example task: person-detection",
        )
    if task is not None:
        find_models(task)
    if model is not None:
        model_named(model)
    latency_ms, max_cost = options.get("latency_ms"), options.get("max_cost")
    for name, value in (("latency_ms", latency_ms), ("max_cost", max_cost)):
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"{name} has to be above 0, got {value:g}")
    min_score = options.get("min_score")
    if min_score is not None and not 0 <= min_score <= 1:
        raise UsageError(f"min_score: expected a score from 0 to 1, got {min_score:g}")
    return Query(
        task=task,
        model=model,
        variant=variant,
        num_items=num_items,
        latency_s=None if latency_ms is None else latency_ms / 1000,
        accuracy=parse_accuracy(options.get("accuracy")),
        max_cost=max_cost,
        labels=_known_labels(options.get("labels"), task, model) or tuple(task_labels(task)),
        min_score=min_score,
        offline=offline,
    )


def query(pictures: Picture | Sequence[Picture], **options: Unpack[QueryOptions]) -> Answer:
    """Ask once, and let go of what was loaded for it. Who asks again keeps a `Session` open.

    Raises what `Session.query` raises.
    """
    with Session(workers="thread") as session:
        return session.query(pictures, **options)


def parse_accuracy(asked: float | str | Floor | None) -> Floor | None:
    """A floor as users write it: 0.8, "0.8", "coco_ap>=0.25". Raises UsageError for anything else."""
    if asked is None or isinstance(asked, Floor):
        return asked
    floor = parse_floor(asked, best="the best variant of the task")
    return Floor(floor.min, floor.metric or AGREEMENT)


def _figure(profile: Profile, floor: Floor | None, task: str | None = None) -> AccuracyFigure | None:
    figures = [figure for figure in profile.accuracy if not task or figure.task in ("", task)]
    if floor is not None:
        figures = [figure for figure in figures if floor.metric in (figure.metric, figure.kind)]
    figures.sort(key=lambda figure: figure.task != task)  # what was measured for this task before what is said of all
    return figures[0] if figures else None


def batches_of(profile: Profile) -> tuple[int, ...]:
    """Batches worth a network of their own."""
    if not profile.points:
        return (1,)
    single_s = profile.point(1).median_s
    larger = [point.batch for point in profile.points if point.median_s / point.batch <= _WORTHWHILE * single_s]
    return (1, *(batch for batch in larger if batch > 1))


def _known_labels(labels: Sequence[str] | None, task: str | None, model: str | None) -> tuple[str, ...]:
    """The labels asked for. Raises UsageError for one that no model which may answer knows."""
    if not labels:
        return ()
    models = find_models(task) if task is not None else [model_named(model)] if model is not None else []
    known = list(dict.fromkeys(name for candidate in models for name in candidate.labels))
    for label in labels:
        if models and label not in known:
            near = difflib.get_close_matches(label, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known[:12])}"
            raise UsageError(f"no model that could answer knows a label {label!r}", hint=hint)
    return tuple(labels)


def _check_numbers(static: Mapping[str, int] | None, prices: Mapping[str, float] | None) -> None:
    """Raise UsageError."""
    for variant, count in (static or {}).items():
        if count < 0:
            raise UsageError(f"static {variant}: expected a number of replicas, 0 or more, got {count!r}")
    for device, price in (prices or {}).items():
        if not 0 <= price < inf:
            raise UsageError(f"prices {device}: expected the price of a second, 0 or more, got {price!r}")


def _host(cores: int | Sequence[int] | None, memory_bytes: int | None) -> Host:
    machine = read_machine()
    usable = machine.core_numbers[: max(1, int(machine.cores))]
    if isinstance(cores, bool):
        raise UsageError(f"cores {cores}: expected how many, or their numbers")
    if isinstance(cores, int):
        if not 1 <= cores <= len(usable):
            raise UsageError(f"cores {cores}: this machine has {len(usable)} to give")
        usable = usable[:cores]
    elif cores is not None:
        strange = set(cores) - set(machine.core_numbers)
        if strange or not cores or len(set(cores)) < len(cores):
            raise UsageError(f"cores {list(cores)}: expected some of {list(machine.core_numbers)}")
        usable = tuple(cores)
    if memory_bytes is not None and memory_bytes <= 0:
        raise UsageError(f"memory_bytes {memory_bytes}: expected more than 0")
    memory = int(machine.memory_available_bytes * _MEMORY_SHARE) if memory_bytes is None else memory_bytes
    return Host(_HOST, usable, memory)

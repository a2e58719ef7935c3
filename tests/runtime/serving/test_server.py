"""The server: queries in, answers out, whatever becomes of the replicas. Control is scripted, replicas are real."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from llamapipe.catalog import Query, Variant
from llamapipe.clock import SystemClock, system_env
from llamapipe.control.serving import actions as act
from llamapipe.control.serving import events as ev
from llamapipe.data import Boxes, Image
from llamapipe.errors import BackendError, LlamapipeError, QueryRefused
from llamapipe.inference import AssetStore, cache_root, required_assets
from llamapipe.media import BgrPicture
from llamapipe.runtime import LocalArena, ProcessWorker, SharedArena, Spares, WorkerPeer
from llamapipe.runtime.serving.replica import Replica, ReplicaBoot
from llamapipe.runtime.serving.server import Server
from tests.processes import LONG_S, wait_until

VARIANT = Variant("pedestrian-ssdlite", "openvino", input_size=(300, 300))  # comes through pip
TOKEN = "secret"


class Bright:
    """Finds one box as large as the picture; fails at black ones."""

    names = ("bright",)

    def predict(self, images: Sequence[Image]) -> list[Boxes]:
        if any(not image.bgr.any() for image in images):
            raise ValueError("it is dark")
        return [
            Boxes(np.array([[0, 0, image.width, image.height]], np.float32), [0.9], [0], self.names) for image in images
        ]


class Script:
    """Control as a test wants it: one action list per kind of event, and all events kept."""

    def __init__(self, **actions: Callable[[ev.ServingEvent], list[act.ServingAction]]) -> None:
        self.actions = actions
        self.events: list[ev.ServingEvent] = []

    def step(self, event: ev.ServingEvent, now_s: float) -> list[act.ServingAction]:
        self.events.append(event)
        return self.actions.get(type(event).__name__, lambda _: [])(event)

    def next_deadline_s(self) -> float | None:
        return None


def start(name: str = "r0", cores: tuple[int, ...] = ()) -> act.StartReplica:
    return act.StartReplica(name, VARIANT.name, "local", cores, 0)


def serve_one(event: ev.QueryArrived, replica: str = "r0") -> act.Serve:
    return act.Serve(event.query_id, replica, (act.Part(event.query_id, 0, event.query.num_items),))


def answer(event: ev.BatchDone) -> act.Answer:
    return act.Answer(event.batch_id, VARIANT.name, "it was told to", 0.01)


def stop_all(_: ev.ServingEvent) -> list[act.ServingAction]:
    return [act.StopReplica("r0", "closing")]


def in_threads(
    script: Script,
    load: Callable[..., Bright] = lambda *_: Bright(),
    spares: Spares | None = None,
    num_cores: int = 0,
) -> Server:
    arena = LocalArena()
    clock = SystemClock()

    def make(action: act.StartReplica, identity: str) -> WorkerPeer:
        return Replica(identity, VARIANT, cores=action.cores, load=load, arena=arena, clock=clock)

    return Server(
        script,
        arena=arena,
        clock=clock,
        make_replica=make,
        solve=lambda *_: None,
        address=f"inproc://test-{id(script)}",
        spares=spares,
        num_cores=num_cores,
    )


class Asked(Spares):
    """What a server asks of spare processes; the one that there is never is prepared."""

    prepared = False

    def __init__(self) -> None:
        self.calls: list[str] = []

    def fill(self) -> None:
        if "fill" not in self.calls:
            self.calls.append("fill")

    def hold(self) -> None:
        self.calls.append("hold")

    def go_on(self) -> None:
        if self.calls[-1] == "hold":
            self.calls.append("go on")

    def close(self) -> None:
        self.calls.append("close")


class Slow(Bright):
    """Takes its time for dim pictures."""

    def predict(self, images: Sequence[Image]) -> list[Boxes]:
        if images[0].bgr[0, 0, 0] == 100:
            time.sleep(0.05)
        return super().predict(images)


def picture(value: int = 200) -> BgrPicture:
    return BgrPicture(np.full((48, 64, 3), value, np.uint8))


def test_a_query_is_answered_with_its_boxes() -> None:
    script = Script(
        QueryArrived=lambda e: [start()] if not any(isinstance(x, ev.ReplicaReady) for x in script.events) else [],
        ReplicaReady=lambda e: [serve_one(next(x for x in script.events if isinstance(x, ev.QueryArrived)))],
        BatchDone=lambda e: [answer(e)],
        Close=stop_all,
    )
    with in_threads(script) as server:
        served = server.submit(Query(task="bright", num_items=2), [picture(), picture(100)]).result(LONG_S)
    assert [boxes.xyxy.tolist() for boxes in served.boxes] == [[[0, 0, 64, 48]]] * 2
    assert [type(event).__name__ for event in script.events] == [
        "QueryArrived",
        "ReplicaReady",
        "BatchDone",
        "Close",
        "ReplicaStopped",
    ]


def test_a_picture_that_fails_fails_alone() -> None:
    script = Script(
        QueryArrived=lambda e: [start()],
        ReplicaReady=lambda e: [serve_one(next(x for x in script.events if isinstance(x, ev.QueryArrived)))],
        BatchDone=lambda e: [act.Refuse(e.batch_id, "failed", e.failed[1])],
        Close=stop_all,
    )
    with in_threads(script) as server:
        future = server.submit(Query(task="bright", num_items=3), [picture(), picture(0), picture()])
        with pytest.raises(QueryRefused, match="it is dark"):
            future.result(LONG_S)
    done = next(event for event in script.events if isinstance(event, ev.BatchDone))
    assert list(done.failed) == [1]


def test_a_variant_that_cannot_be_loaded_is_reported_with_its_reason() -> None:
    def load(*_: object) -> Bright:
        raise BackendError("onnxruntime cannot load it: bad protobuf", hint="is it complete?")

    script = Script(
        QueryArrived=lambda e: [start()],
        ReplicaFailed=lambda e: [act.Refuse(0, "failed", e.reason)],
    )
    with in_threads(script, load) as server, pytest.raises(QueryRefused, match="bad protobuf"):
        server.submit(Query(task="bright"), [picture()]).result(LONG_S)
    assert server.reserved_core_s() == 0


def test_whatever_is_unanswered_when_control_breaks_is_told_so() -> None:
    def broken(_: ev.ServingEvent) -> list[act.ServingAction]:
        raise LlamapipeError("control is broken")

    server = in_threads(Script(QueryArrived=broken))
    server.__enter__()
    with pytest.raises(LlamapipeError, match="control is broken"):
        server.submit(Query(task="bright"), [picture()]).result(LONG_S)
    with pytest.raises(LlamapipeError, match="control is broken"):
        server.close()


@pytest.mark.parametrize(
    ("num_cores", "calls"),
    [
        (2, ["fill", "hold", "go on", "hold", "go on", "close"]),
        (3, ["fill", "close"]),
    ],
)
def test_a_spare_prepares_while_no_query_is_worked_on_unless_it_has_a_core_to_itself(
    num_cores: int, calls: list[str]
) -> None:
    core = min(os.sched_getaffinity(0))
    script = Script(
        Prepare=lambda e: [start(cores=(core,))],
        ReplicaReady=lambda e: [act.Answer(script.events[0].query_id, VARIANT.name, "it is there", 0.0)],
        QueryArrived=lambda e: [serve_one(e)],
        BatchDone=lambda e: [answer(e)],
        Close=stop_all,
    )
    spares = Asked()
    with in_threads(script, lambda *_: Slow(), spares, num_cores) as server:
        server.prepare(Query(task="bright")).result(LONG_S)
        wait_until(lambda: spares.calls == ["fill"])
        for held in (1, 2):
            server.submit(Query(task="bright"), [picture(100)]).result(LONG_S)
            wait_until(lambda count=held: spares.calls.count("go on") == calls.count("go on") * count // 2)
    assert spares.calls == calls


def test_no_query_is_taken_after_closing() -> None:
    server = in_threads(Script())
    with server:
        pass
    with pytest.raises(LlamapipeError, match="closed"):
        server.submit(Query(task="bright"), [picture()])
    server.close()


def test_pictures_are_let_go_of_with_their_answer() -> None:
    script = Script(QueryArrived=lambda e: [act.Refuse(e.query_id, "unknown", "no such task")])
    server = in_threads(script)
    with server, pytest.raises(QueryRefused):
        server.submit(Query(task="bright"), [picture()]).result(LONG_S)
    assert server._arena.num_used == 0  # type: ignore[attr-defined]


def test_a_killed_process_is_lost_and_its_work_with_it() -> None:
    arena = SharedArena(1 << 22)
    clock = SystemClock()

    def make(action: act.StartReplica, identity: str) -> WorkerPeer:
        boot = ReplicaBoot(
            name=action.replica,
            identity=identity,
            address="",
            token=TOKEN,
            fd=arena.memory.fd,
            slot_bytes=arena.memory.slot_bytes,
            cache_root=str(cache_root(system_env())),
            cores=action.cores,
            variant=VARIANT,
        )
        return ProcessWorker(action.replica, boot, system_env())

    store = AssetStore(cache_root(system_env()), env=system_env())
    for asset in required_assets(VARIANT):
        store.pull(asset)
    core = min(os.sched_getaffinity(0))
    asked: list[int] = []

    def arrived(event: ev.ServingEvent) -> list[act.ServingAction]:
        assert isinstance(event, ev.QueryArrived)
        asked.append(event.query_id)
        return [start("r0", (core,)), start("r1", (core,))]

    def ready(_: ev.ServingEvent) -> list[act.ServingAction]:
        up = [event.replica for event in script.events if isinstance(event, ev.ReplicaReady)]
        if len(up) < 2:
            return []
        os.kill(server.processes()["r0"], signal.SIGSTOP)  # it takes the batch, and never gets to it
        os.kill(server.processes()["r0"], signal.SIGKILL)
        return [act.Serve(10, "r0", (act.Part(asked[0], 0, 1),))]

    script = Script(
        QueryArrived=arrived,
        ReplicaReady=ready,
        ReplicaLost=lambda e: [act.Serve(11, "r1", (act.Part(asked[0], 0, 1),))],
        BatchDone=lambda e: [act.Answer(asked[0], VARIANT.name, "the other", 0.1)],
        Close=lambda e: [act.StopReplica("r1", "closing")],
    )
    server = Server(
        script,
        arena=arena,
        clock=clock,
        make_replica=make,
        solve=lambda *_: None,
        address=f"inproc://test-{id(script)}",
        process_address=f"ipc://@test-{id(script)}",
        token=TOKEN,
    )
    with server:
        server.submit(Query(task="person-detection"), [picture()]).result(30)
    lost = next(event for event in script.events if isinstance(event, ev.ReplicaLost))
    assert (lost.replica, lost.reason) == ("r0", "process was killed by SIGKILL")
    assert [event.batch_id for event in script.events if isinstance(event, ev.BatchDone)] == [11]
    assert 0 < server.reserved_core_s() < 60
    arena.close()


def test_a_server_that_was_never_opened_says_so_and_can_be_closed() -> None:
    server = in_threads(Script())
    for ask in (
        lambda: server.submit(Query(task="bright"), [picture()]),
        lambda: server.prepare(Query(task="bright")),
    ):
        with pytest.raises(LlamapipeError, match="the session is not open"):
            ask()
    assert server._arena.num_used == 0  # type: ignore[attr-defined]
    server.close()
    server.close()
    with pytest.raises(LlamapipeError, match="the session is closed"):
        server.submit(Query(task="bright"), [picture()])
    with pytest.raises(LlamapipeError, match="the session is closed"):
        server.__enter__()


def test_a_server_is_opened_once() -> None:
    with in_threads(Script()) as server, pytest.raises(LlamapipeError, match="open already"):
        server.__enter__()
    with pytest.raises(LlamapipeError, match="closed"):
        server.__enter__()


def test_pictures_that_are_refused_at_the_door_take_no_slot() -> None:
    server = in_threads(Script())
    with server:
        pass
    with pytest.raises(LlamapipeError, match="closed"):
        server.submit(Query(task="bright"), [picture(), picture()])
    assert server._arena.num_used == 0  # type: ignore[attr-defined]


class Pausing(SystemClock):
    """Whoever looks at it may have been paused before."""

    paused_s = 0.0

    def now_s(self) -> float:
        return super().now_s() + self.paused_s


def test_a_server_that_was_paused_has_lost_no_replica_and_tells_queries_how_long_they_took() -> None:
    """Whoever asked has seen time pass; replicas could not be heard, and control's timers stand still."""
    clock = Pausing()
    times: list[float] = []
    script = Script(
        Prepare=lambda e: [start(), start("mute")],
        ReplicaReady=lambda e: [act.Answer(e_prepare(script), VARIANT.name, "it is there", 0.0)],
        QueryArrived=lambda e: [serve_one(e)],
        BatchDone=lambda e: [answer(e)],
        Close=lambda e: [act.StopReplica("r0", "closing"), act.KillReplica("mute", "closing")],
    )

    class Dozing(Bright):
        def predict(self, images: Sequence[Image]) -> list[Boxes]:
            if images[0].bgr[0, 0, 0] == 100:
                time.sleep(0.3)
                clock.paused_s += 100
                time.sleep(0.3)
            return super().predict(images)

    arena = SharedArena(1 << 22)
    mute: list[Mute] = []

    def make(action: act.StartReplica, identity: str) -> WorkerPeer:
        if action.replica == "mute":
            mute.append(Mute(identity))
            return mute[0]
        return Replica(identity, VARIANT, load=lambda *_: Dozing(), arena=arena, clock=clock)

    server = Server(
        script,
        arena=arena,
        clock=clock,
        make_replica=make,
        solve=lambda *_: None,
        address=f"inproc://test-{id(script)}",
        process_address=f"ipc://@test-{id(script)}",
        watch=lambda event, now_s, actions: times.append(now_s),
    )
    with server:
        server.prepare(Query(task="bright")).result(10)
        server._post(lambda _: server._crew.heard(mute[0].identity, clock.now_s()))
        served = server.submit(Query(task="bright", latency_s=50.0), [picture(100)]).result(10)
        again = server.submit(Query(task="bright", latency_s=50.0), [picture()]).result(10)
        assert "ReplicaLost" not in [type(event).__name__ for event in script.events]
    assert served.answer.latency_s > 100
    assert served.answer.late
    assert (again.answer.latency_s, again.answer.late) == (0.01, False)
    assert times == sorted(times)
    assert times[-1] - times[0] < 30
    arena.close()


def e_prepare(script: Script) -> int:
    return next(event.query_id for event in script.events if isinstance(event, ev.Prepare))


class Mute(ProcessWorker):
    """A process whose heart is heard when the test says so."""

    def __init__(self, identity: str) -> None:
        boot = ReplicaBoot(name="mute", identity=identity, address="", token="", fd=0, slot_bytes=0, variant=VARIANT)
        super().__init__("mute", boot, {})
        self._end = os.eventfd(0)

    def start(self, address: str) -> int:
        return self._end

    def kill(self) -> None:
        os.eventfd_write(self._end, 1)

    def reap(self, *, wait_s: float = 5.0) -> str:
        os.close(self._end)
        return "killed"


@pytest.mark.parametrize("how", ["process", "thread", "maker"])
def test_a_replica_that_cannot_be_started_is_one_that_cannot_be_loaded(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process, thread or file is left for it: others serve, and the session goes on."""
    no_more = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    script = Script(
        Prepare=lambda e: (
            [start("bad"), act.StopReplica("bad", "not wanted"), act.KillReplica("bad", "now")]
            if how != "thread"
            else [start("bad")]
        ),
        ReplicaFailed=lambda e: [start()],
        ReplicaReady=lambda e: [act.Answer(e_prepare(script), VARIANT.name, "it is there", 0.0)],
        QueryArrived=lambda e: [serve_one(e)],
        BatchDone=lambda e: [answer(e)],
        Close=stop_all,
    )
    server = in_threads(script)
    server._process_address = "ipc://@nobody"
    make_replica, start_thread = server._make_replica, threading.Thread.start

    def make(action: act.StartReplica, identity: str) -> WorkerPeer:
        if action.replica != "bad" or how == "thread":
            return make_replica(action, identity)
        if how == "maker":
            raise no_more
        boot = ReplicaBoot(name="bad", identity=identity, address="", token="", fd=0, slot_bytes=0, variant=VARIANT)
        return ProcessWorker("bad", boot, system_env())

    def start_or_not(thread: threading.Thread) -> None:
        if "bad" in thread.name:
            raise RuntimeError("can't start new thread")
        start_thread(thread)

    def popen(*_: object, **__: object) -> None:
        raise no_more

    server._make_replica = make
    monkeypatch.setattr(threading.Thread, "start", start_or_not)
    monkeypatch.setattr("llamapipe.runtime.process.subprocess.Popen", popen)
    with server:
        server.prepare(Query(task="bright")).result(10)
        server.submit(Query(task="bright"), [picture()]).result(10)
    [failed] = [event for event in script.events if isinstance(event, ev.ReplicaFailed)]
    assert failed.replica == "bad"
    assert ("can't start new thread" if how == "thread" else "Resource temporarily unavailable") in failed.reason

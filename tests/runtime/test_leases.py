"""Who holds which slot: the engine with its real arena, store and journal, and workers that are played.

Processes write to what they were lent until they are reaped, late answers included. Every picture that is looked at
must be the one that its reference means, and in the end nothing is held.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from llamapipe.control import Controller, FaultPlan, RunPlan, StagePlan, WorkerPlan
from llamapipe.control import events as ev
from llamapipe.control.chains import chains_of
from llamapipe.data import Boxes, FrameRef
from llamapipe.media import BgrPicture
from llamapipe.runtime import shared
from llamapipe.runtime.arena import PictureSpace
from llamapipe.runtime.chaining import PassingSpace, run_chain
from llamapipe.runtime.crew import Lost
from llamapipe.runtime.engine import Engine
from llamapipe.runtime.observer import Observer
from llamapipe.runtime.shared import LentArena, SharedArena
from llamapipe.testing import FakeClock
from llamapipe.wire import (
    Close,
    Closed,
    Deliveries,
    Delivery,
    Done,
    Ended,
    Granted,
    Hello,
    Invoke,
    ItemInputs,
    ItemOutputs,
    Loaded,
    LoadReplica,
    NewFrames,
    Restored,
    RestoreState,
    Stop,
    Taken,
    decode,
    encode,
    encode_value,
)
from tests.control.plans import boxes, frames, plan, stage
from tests.examples import examples

_FAULTS = FaultPlan(
    straggler_floor_s=0.3, hang_floor_s=1.0, first_hang_s=3.0, dead_after_s=0.5, snapshot_frames=3, max_losses=50
)
_LENGTH = 16  # frames of the source
_SIZE = 8  # pixels


@pytest.fixture(autouse=True, scope="module")
def memory_is_given_back_all_the_time() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "_LOOK_EVERY", 2)
        patch.setattr(shared, "_GIVE_EVERY", 1)
        yield


def pictures(kinds: tuple[str, ...], num_workers: int) -> RunPlan:
    """Stages that make pictures, cut them, remember them and show them."""
    first, last = kinds[0], kinds[-1]
    made = plan(
        stage("negative", frames(), outputs={"frames": "frames"}, placement=first),
        stage("track", frames(stage="negative"), depth=2, stateful=True, placement=last),
        stage(
            "crop",
            frames(),
            boxes("track"),
            outputs={"frames": "frames"},
            fan_out=True,
            depth=3,
            max_items=3,
            placement=first,
        ),
        stage("faces", frames(stage="crop"), level="crop", depth=4, batch=2, placement=last),
        stage("draw", frames(stage="negative"), boxes("faces"), outputs={"frames": "frames"}, depth=5, placement=last),
        stage("age", frames(stage="draw"), outputs={"frames": "frames"}, depth=6, placement=last),
        stage("label", frames(stage="age"), boxes("track"), outputs={"frames": "frames"}, depth=7, placement=last),
        max_in_flight=4,
        faults=_FAULTS,
    )
    workers = tuple(WorkerPlan(f"{kind}{i}", kind) for kind in kinds for i in range(num_workers))
    made = replace(made, workers=workers)
    assert ("draw", "age", "label") in chains_of(made)
    return replace(made, chains=chains_of(made))


@dataclass
class _Peer:
    """A worker that is played. One that was given up stays until it is reaped."""

    name: str
    identity: str
    process: bool
    space: PassingSpace
    lends: LentArena | None = None
    joined: bool = False
    inbox: deque[Any] = field(default_factory=deque)
    lent: list[tuple[int, int]] = field(default_factory=list)  # what it may write to


class _Crew:
    """Stands in for `llamapipe.runtime.crew.Crew`."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.gone: list[Lost] = []

    def start(self, worker: str, peer: _Peer) -> None:
        self._rig.peers[peer.identity] = self._rig.here[worker] = peer

    def identity(self, worker: str) -> str:
        return self._rig.here[worker].identity

    def identities(self) -> list[str]:
        return [peer.identity for peer in self._rig.here.values()]

    def current(self, identity: str) -> str | None:
        return next((name for name, peer in self._rig.here.items() if peer.identity == identity), None)

    def is_process(self, worker: str) -> bool:
        return self._rig.here[worker].process

    def proves(self, identity: str, token: str) -> bool:
        return True

    def kill(self, worker: str, reason: str) -> None:
        self._rig.condemned.add(worker)

    def silence(self, now_s: float) -> list[tuple[str, bool]]:
        changed, self._rig.silence = self._rig.silence, []
        return changed

    def lost(self, readable: object) -> list[Lost]:
        gone, self.gone = self.gone, []
        return gone


class _Router:
    """Stands in for the socket."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._to = ""

    def send(self, part: bytes, flags: int = 0) -> None:
        if flags & zmq.SNDMORE:
            self._to = part.decode()
        else:
            self._rig.sent(self._to, decode(part))

    def send_multipart(self, parts: list[bytes]) -> None:
        assert isinstance(decode(parts[1]), Stop)  # to a thread that comes back when it was given up

    def recv_multipart(self, flags: int) -> list[bytes]:
        raise zmq.Again


class Rig:
    """An engine with everything around it played. Raises AssertionError where a picture is not the one meant."""

    def __init__(self, run_plan: RunPlan) -> None:
        self.plan = run_plan
        self.peers: dict[str, _Peer] = {}  # by identity, those given up included
        self.here: dict[str, _Peer] = {}  # by worker
        self.condemned: set[str] = set()
        self.silence: list[tuple[str, bool]] = []
        self.silent: set[str] = set()
        self.deliveries: deque[Delivery] = deque()
        self.credits = self.num_sent = 0
        self.stopped = self.ended = self.closing = False
        self.arena = SharedArena(_SIZE * _SIZE * 3)
        self.clock = FakeClock()
        self.engine = Engine(
            Controller(run_plan),
            arena=self.arena,
            clock=self.clock,
            make_worker=self._worker,  # type: ignore[arg-type]
            peers={},
            close_source=lambda stream: None,
            observer=Observer(),
            interrupt=threading.Event(),
            address="inproc://none",
        )
        self.crew = self.engine._crew = _Crew(self)  # type: ignore[assignment]
        self.engine._router = _Router(self)  # type: ignore[assignment]
        for role in ("source", "sink"):
            self.engine._threads[f"{role}:cam0"] = threading.Thread()
            self.tell(f"{role}:cam0", Hello(f"{role}:cam0", role))
        self.engine._tell(ev.Start())

    def _worker(self, name: str, incarnation: int) -> _Peer:
        process = name.startswith("process")
        memory = self.arena.memory
        lends = LentArena(memory.fd, memory.slot_bytes) if process else None
        return _Peer(name, f"{name}#{incarnation}", process, PassingSpace(lends or self.arena), lends)

    # -- what the engine is told --------------------------------------------------------------------------------

    def tell(self, peer: str, message: Any) -> None:
        self.engine._take(peer, decode(encode(message)))
        self.engine._flush()
        self.engine._controller.check_invariants()
        self.arena._table.check_invariants()

    def moves(self) -> list[Any]:
        moves: list[Any] = [self.pass_time] * 3
        for peer in list(self.peers.values()):
            here = self.here.get(peer.name) is peer
            if peer.inbox:
                moves += [lambda n, p=peer: self.answer(p, n)] * (6 if here else 1)
                if peer.process and peer.lent:
                    moves += [lambda n, p=peer: self.scribble(p, n)] * 2
            if here and not peer.joined:
                moves += [lambda n, p=peer: self.join(p)] * 6
            if here:
                moves += [lambda n, p=peer: self.lose(p, n)] * (4 if peer.name in self.condemned else 1)
                moves.append(lambda n, p=peer: self.change_silence(p))
        if not self.ended and self.credits and self.num_sent < _LENGTH and not self.stopped:
            moves += [lambda n: self.send()] * 4
        if self.deliveries:
            moves += [lambda n: self.commit(n)] * 3
        return moves

    def send(self) -> None:
        self.credits -= 1
        ref = self.arena.put(
            BgrPicture(_pixels(self.num_sent)),
            stream="cam0",
            seq=self.num_sent,
            pts=self.num_sent,
            time_base=(1, 10),
            captured_at_s=self.clock.now_s(),
        )
        self.num_sent += 1
        self.tell("source:cam0", NewFrames("cam0", [ref]))

    def commit(self, detail: int) -> None:
        last = -1
        for _ in range(min(len(self.deliveries), 1 + detail % 3)):
            delivery = self.deliveries.popleft()
            last = delivery.seq
            for payloads in delivery.values:
                for payload in payloads or ():
                    self.look(self.arena, payload, delivery.seq)
        self.tell("sink:cam0", Taken("cam0", "out", last, []))

    def join(self, peer: _Peer) -> None:
        peer.joined = True
        self.tell(peer.identity, Hello(peer.identity, "worker"))

    def lose(self, peer: _Peer, detail: int) -> None:
        """A process has been reaped; a thread is left to itself, and may answer yet."""
        del self.here[peer.name]
        self.condemned.discard(peer.name)
        self.silent.discard(peer.name)
        if peer.process:
            del self.peers[peer.identity]
        self.crew.gone.append(Lost(peer.name, peer.identity, "killed", reaped=peer.process))
        self.notice()

    def change_silence(self, peer: _Peer) -> None:
        self.silent ^= {peer.name}
        self.silence = [(peer.name, peer.name in self.silent)]
        self.notice()

    def notice(self) -> None:
        self.engine._notice_workers(self.clock.now_s(), ())
        self.engine._flush()

    def pass_time(self, detail: int) -> None:
        deadline_s = self.engine._controller.next_deadline_s()
        if detail % 2 and deadline_s is not None:
            self.clock.advance(max(0.0, deadline_s - self.clock.now_s()))
            self.engine._tell(ev.Tick())
            self.engine._flush()
        else:
            self.clock.advance((detail % 30) / 100)

    def finish(self) -> None:
        for _ in range(2000):
            if self.engine._result is not None:
                return
            for peer in list(self.here.values()):
                if peer.name in self.condemned:
                    self.lose(peer, 1)
                    continue
                if peer.name in self.silent:
                    self.change_silence(peer)
                if not peer.joined:
                    self.join(peer)
                while peer.inbox and self.here.get(peer.name) is peer:
                    self.answer(peer, 1)
            if self.deliveries:
                self.commit(100)
            if not self.ended:
                self.ended = True
                self.tell("source:cam0", Ended("cam0", self.num_sent))
            if self.closing:
                self.closing = False
                self.tell("sink:cam0", Closed("cam0", [], {}))
            if self.engine._result is None and not self.deliveries:
                self.pass_time(1)
        raise AssertionError("the run does not end")

    # -- what it says -------------------------------------------------------------------------------------------

    def sent(self, to: str, message: Any) -> None:
        if isinstance(message, Granted):
            self.credits += message.credits
        elif isinstance(message, Deliveries):
            self.deliveries += message.items
        elif isinstance(message, Close):
            self.closing = True
        elif isinstance(message, Stop):
            self.stopped |= to == "source:cam0"
        elif to in self.peers:
            self.peers[to].inbox.append(message)
            if isinstance(message, Invoke):
                self.peers[to].lent += message.reserved

    # -- workers ------------------------------------------------------------------------------------------------

    def answer(self, peer: _Peer, detail: int) -> None:
        message = peer.inbox.popleft()
        if isinstance(message, LoadReplica):
            self.tell(peer.identity, Loaded(message.replica, 0.1))
        elif isinstance(message, RestoreState):
            if self.here.get(peer.name) is peer:
                for item in message.journal:
                    self.look_at_inputs(peer, item)
            self.tell(peer.identity, Restored(message.stage, message.stream, "no" if detail % 9 == 8 else ""))
        elif isinstance(message, Invoke):
            self.tell(peer.identity, self.run(peer, message, detail))

    def run(self, peer: _Peer, message: Invoke, detail: int) -> Done:
        if peer.lends is not None:
            peer.lends.lent(message.reserved)
            peer.lent = [place for place in peer.lent if place not in set(message.reserved)]
        stages = [_Played(self, peer, of, detail) for of in (message.replica, *(c.replica for c in message.chain))]
        if message.chain:
            return run_chain(message, stages, peer.space, self.clock)  # type: ignore[arg-type]
        busy_s = (1 + detail % 5) / 100
        return Done(message.invocation, stages[0].run(message.items), 0.0, busy_s, b"" if message.snapshot else None)

    def results(self, peer: _Peer, made: StagePlan, items: Sequence[ItemInputs], detail: int) -> list[ItemOutputs]:
        results = []
        for i, item in enumerate(items):
            self.look_at_inputs(peer, item)
            if (detail + i) % 7 == 6:
                results.append(ItemOutputs(ev.FAILED_ITEM, [], [], "ValueError: no"))
                continue
            count = (detail + i) % 3 if made.fan_out else 1
            outputs: list[list[Any]] = []
            for kind in made.outputs.values():
                if kind != "frames":
                    outputs.append([encode_value(Boxes.empty())])
                elif (made.fan_out or made.name != "negative") and detail % 2:  # parts of the picture that came
                    outputs.append([item.inputs[0][0]] * count)
                else:
                    outputs.append([self.publish(peer, item) for _ in range(count)])
            results.append(ItemOutputs(count, outputs, []))
        return results

    def publish(self, peer: _Peer, item: ItemInputs) -> FrameRef:
        return peer.space.put(
            BgrPicture(_pixels(item.seq)),
            stream=item.stream,
            seq=item.seq,
            pts=item.seq,
            time_base=(1, 10),
            captured_at_s=0.0,
        )

    def scribble(self, peer: _Peer, detail: int) -> None:
        """A process writes to what it was lent, whatever the engine thinks of it by now."""
        slot, generation = peer.lent[detail % len(peer.lent)]
        self.arena.memory.write(slot, generation, BgrPicture(_pixels(255)))

    def look_at_inputs(self, peer: _Peer, item: ItemInputs) -> None:
        for payloads in item.inputs:
            for payload in payloads:
                self.look(peer.space, payload, item.seq)

    def look(self, space: PictureSpace, payload: Any, seq: int) -> None:
        if isinstance(payload, FrameRef):
            assert payload.seq == seq
            assert (space.image(payload).bgr == _pixels(seq)).all(), f"{payload} shows another picture"
            assert space.still_whole(payload)

    def held(self) -> int:
        """Slots in use once what is remembered of streams is forgotten."""
        for stage_plan in self.plan.stages:
            self.engine._journal.forget(stage_plan.name, "cam0")
        return self.arena.num_used


class _Played:
    """Stands in for `llamapipe.runtime.host.StageHost`."""

    def __init__(self, rig: Rig, peer: _Peer, replica: str, detail: int) -> None:
        self.plan = next(s for s in rig.plan.stages if replica.endswith(f"/{s.name}"))
        self._rig, self._peer, self._detail = rig, peer, detail + self.plan.depth

    def run(self, items: Sequence[ItemInputs]) -> list[ItemOutputs]:
        return self._rig.results(self._peer, self.plan, items, self._detail)


def _pixels(number: int) -> np.ndarray:
    return np.full((_SIZE, _SIZE, 3), number % 256, np.uint8)


@settings(max_examples=examples(150), deadline=None)
@given(
    st.sampled_from([("thread",), ("process",), ("thread", "process")]),
    st.integers(1, 2),
    st.lists(st.tuples(st.integers(0, 199), st.integers(0, 199)), max_size=150),
)
def test_no_slot_is_used_again_while_somebody_holds_it_and_all_are_free_at_the_end(
    kinds: tuple[str, ...], num_workers: int, choices: list[tuple[int, int]]
) -> None:
    rig = Rig(pictures(kinds, num_workers))
    for which, detail in choices:
        if rig.engine._result is None:
            moves = rig.moves()
            moves[which % len(moves)](detail)
    rig.finish()
    for peer in list(rig.peers.values()):  # threads that were given up come back in the end
        while peer.inbox:
            rig.answer(peer, 1)
    assert rig.held() == 0
    rig.arena.close()

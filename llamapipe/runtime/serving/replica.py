"""A replica: one variant in a thread or a process of its own, on cores of its own. Pictures in, boxes out.

It is told all when it starts, says Loaded (or why not), and then answers one batch after the other until it is told to
stop. The same loop serves threads and processes.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import zmq

from llamapipe.catalog import Variant
from llamapipe.clock import Clock
from llamapipe.data import Boxes, Image
from llamapipe.errors import LlamapipeError
from llamapipe.operator import Predictor
from llamapipe.runtime.arena import PictureSpace
from llamapipe.runtime.dealing import dealer
from llamapipe.runtime.process import ProcessBoot, begin_process
from llamapipe.runtime.shared import LentArena
from llamapipe.wire import Hello, Loaded, Predict, Predicted, Stop, Wanted, decode, encode, encode_value

__all__ = ["LoadVariant", "Replica", "ReplicaBoot", "serve_replica"]

LoadVariant = Callable[[Variant, int, tuple[str, ...], float | None], Predictor]
"""Loads a variant: (variant, batch, labels, min_score), as `llamapipe.inference.load_predictor` takes them."""

_WARM_UPS = 2  # libraries do part of their work with the first picture: no query shall wait for it
_BLANK = (432, 768)  # height and width of a picture that nobody asked about
_NO_SCORE = 0.001  # that nearly every place of a picture has
_LEAST_PRIORITY = 19
_KEPT = 16  # predictors for different labels and scores that share one network
_SWITCH_S = 0.0002  # the thread that predicts waits no longer than this for one that loads beside it
_REASON_LENGTH = 300
_OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "allocate", "Resource temporarily unavailable")  # in libraries' words


class ReplicaBoot(ProcessBoot, frozen=True, kw_only=True):
    """All that a replica's process is told."""

    module: ClassVar[str] = "llamapipe.runtime.serving.replica_process"

    variant: Variant
    models: tuple[tuple[str, str, tuple[str, ...], tuple[int, int]], ...] = ()  # as those of `Boot`
    batches: tuple[int, ...] = (1,)  # that it has networks for, rising
    memory_bytes: int = 0  # that it may take beside what a process takes before it has loaded anything; 0: any


class Replica:
    """One replica. ``identity`` is its name on the socket; ``batches`` begin with 1 and rise.

    It can be sent to as soon as it has a network for single pictures. Those for larger batches are loaded beside its
    work, when it is first given several pictures together: whoever asks for one at a time is not disturbed by them.
    """

    def __init__(
        self,
        identity: str,
        variant: Variant,
        *,
        batches: Sequence[int] = (1,),
        cores: Sequence[int] = (),
        load: LoadVariant,
        arena: PictureSpace,
        clock: Clock,
        token: str = "",
    ) -> None:
        self.identity = identity
        self._variant = variant
        self._wanted = sorted({1, *batches})[1:]
        self._batches = [1]  # those that it has a network for now
        self._later: deque[tuple[int, Predictor]] = deque()  # loaded, but not yet taken by the thread that predicts
        self._cores = tuple(cores)
        self._load = load
        self._arena = arena
        self._clock = clock
        self._token = token
        self._left = threading.Event()
        self._blank = np.full((*_BLANK, 3), 127, np.uint8)
        self._predictors: dict[tuple[int, tuple[str, ...], float | None], Predictor] = {}

    def leave(self) -> None:
        """Nobody takes its answers any more: end as soon as what it is at lets it. Called from another thread."""
        self._left.set()

    def serve(self, context: zmq.Context[Any], address: str) -> None:
        """Connect, load, and work until Stop. Blocks."""
        if self._cores:
            os.sched_setaffinity(0, self._cores)  # of this thread, and of those that libraries start from it
        socket = dealer(context, self.identity, address)
        larger = threading.Thread(target=self._load_larger, name="llamapipe larger batches", daemon=True)
        try:
            socket.send(encode(Hello(self.identity, "replica", token=self._token)))
            loaded = self._loaded()
            socket.send(encode(loaded))
            while not self._left.is_set() and not isinstance(message := decode(socket.recv()), Stop):
                if not isinstance(message, Predict):
                    raise LlamapipeError(f"replica {self.identity} cannot answer a {type(message).__name__}")
                if self._wanted and len(message.items) > 1 and larger.ident is None:
                    larger.start()
                socket.send(encode(self._answer(message)))
        finally:
            self._left.set()
            if larger.is_alive():
                larger.join()
            for predictor in (*self._predictors.values(), *(predictor for _, predictor in self._later)):
                _close(predictor)
            socket.close()

    def _loaded(self) -> Loaded:
        started_s = self._clock.now_s()
        try:
            predictor = self._predictor(1, (), None)
            for _ in range(_WARM_UPS):
                predictor.predict(self._blanks(1))
            # Of a blank nothing is found. What finds, merges and writes boxes is begun by some that nobody asked for.
            for found in self._predictor(1, (), _NO_SCORE).predict(self._blanks(1)):
                encode_value(found)
        except Exception as error:
            hint = error.hint if isinstance(error, LlamapipeError) else None
            return Loaded(self.identity, self._clock.now_s() - started_s, _told(error), hint)
        return Loaded(self.identity, self._clock.now_s() - started_s, variant=self._variant.name)

    def _load_larger(self) -> None:
        """Networks for larger batches, in a thread that gives way to the one that predicts."""
        if self._variant.threads == 1:  # else threads that the library keeps would give way for good, too
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LEAST_PRIORITY)
        for batch in self._wanted:
            if self._left.is_set():
                return
            try:
                predictor = self._load(self._variant, batch, (), None)
            except Exception:  # a network that takes one picture at a time serves larger batches one by one
                return
            try:
                for _ in range(_WARM_UPS):
                    predictor.predict(self._blanks(batch))
            except Exception:
                _close(predictor)
                return
            self._later.append((batch, predictor))

    def _take_larger(self) -> None:
        while self._later:
            batch, predictor = self._later.popleft()
            self._predictors[batch, (), None] = predictor
            self._batches.append(batch)

    def _predictor(self, batch: int, labels: tuple[str, ...], min_score: float | None) -> Predictor:
        key = batch, labels, min_score
        found = self._predictors.get(key)
        if found is None:
            found = self._predictors[key] = self._load(self._variant, batch, labels, min_score)
            plain = [key for key in self._predictors if key[1:] != ((), None)]  # the others keep the networks loaded
            while len(plain) > _KEPT:
                _close(self._predictors.pop(plain.pop(0)))
        return found

    def _blanks(self, number: int) -> list[Image]:
        return [Image.from_bgr(self._blank) for _ in range(number)]

    def _answer(self, message: Predict) -> Predicted:
        started_s = self._clock.now_s()
        self._take_larger()
        if message.blanks:
            for batch in self._batches_of(message.blanks):
                self._predictor(batch, (), None).predict(self._blanks(batch))
        boxes = [b""] * len(message.items)
        errors: dict[int, str] = {}
        groups: dict[tuple[tuple[str, ...], float | None], list[int]] = {}
        for i, item in enumerate(message.items):
            groups.setdefault((item.labels, item.min_score), []).append(i)
        for (labels, min_score), places in groups.items():
            for batch in self._batches_of(len(places)):
                part, places = places[:batch], places[batch:]
                try:
                    self._predict(batch, labels, min_score, part, message.items, boxes)
                except Exception as error:
                    if len(part) == 1:
                        errors[part[0]] = _told(error)
                        continue
                    for place in part:  # one bad picture is its own failure, never that of those beside it
                        try:
                            self._predict(1, labels, min_score, [place], message.items, boxes)
                        except Exception as own:
                            errors[place] = _told(own)
        return Predicted(message.batch, boxes, errors, started_s, self._clock.now_s())

    def _batches_of(self, number: int) -> list[int]:
        """Batches that there are networks for, together so many: the largest ones first."""
        found: list[int] = []
        for size in reversed(self._batches):
            found += [size] * (number // size)
            number %= size
        return found

    def _predict(
        self,
        batch: int,
        labels: tuple[str, ...],
        min_score: float | None,
        places: Sequence[int],
        items: Sequence[Wanted],
        boxes: list[bytes],
    ) -> None:
        images: list[Image] = [self._arena.image(items[place].picture) for place in places]
        found: Sequence[Boxes] = self._predictor(batch, labels, min_score).predict(images)
        for place, of_picture in zip(places, found, strict=True):
            boxes[place] = encode_value(of_picture)


def serve_replica(boot: ReplicaBoot, load: LoadVariant, clock: Clock) -> None:
    """Be a replica's process until told to stop, or until the server is gone."""
    context = begin_process(boot)
    sys.setswitchinterval(_SWITCH_S)
    if boot.memory_bytes:  # a variant that needs far more than is planned for it fails, and nobody else
        pages = int(Path("/proc/self/statm").read_text().split()[5])
        limit = pages * resource.getpagesize() + boot.memory_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    Replica(
        boot.identity,
        boot.variant,
        batches=boot.batches,
        load=load,
        arena=LentArena(boot.fd, boot.slot_bytes),
        clock=clock,
        token=boot.token,
    ).serve(context, boot.address)


def _told(error: Exception) -> str:
    text = error.message if isinstance(error, LlamapipeError) else f"{type(error).__name__}: {error}"
    short = isinstance(error, MemoryError) or any(word in text for word in _OUT_OF_MEMORY)
    return (f"memory is short: {text}" if short else text).splitlines()[0][:_REASON_LENGTH]


def _close(predictor: Predictor) -> None:
    close = getattr(predictor, "close", None)
    if close is not None:
        close()

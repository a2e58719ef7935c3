"""Keeps a run's checkpoints while it goes on, and puts away what is kept when it is over."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import msgspec

from llamapipe.clock import Clock
from llamapipe.control import Controller
from llamapipe.runtime import StreamPoint
from llamapipe.session.candidates import Choice
from llamapipe.session.checkpoints import Checkpoint, StageTally, Tallies
from llamapipe.session.prepare import Prepared, pinned_of

__all__ = ["Keeper"]


class Keeper:
    """One run's. ``first`` is what it begins with, or goes on with.

    Used as a context: on leaving, nothing remains in the folder. A run that goes on with another and comes to no good
    end leaves what it takes to go on once more, for that is hours at times.
    """

    def __init__(self, prepared: Prepared, clock: Clock, started_at: str) -> None:
        assert prepared.store is not None
        self._store = prepared.store
        self._earlier = prepared.earlier
        self._clock = clock
        self._started_s, self._started_cpu_s = clock.now_s(), clock.cpu_s()
        if prepared.earlier is None:
            choices = {stage.name: choice for stage in prepared.plan.stages if (choice := Choice.of(stage)) is not None}
            tuning = pinned_of(prepared.request)
            self.first = Checkpoint(dict(prepared.fingerprint), started_at, choices=choices, tuning=tuning)
        else:
            self.first = msgspec.structs.replace(prepared.earlier, resumed=prepared.earlier.resumed + 1)
        self._streams = dict(self.first.streams)
        self._remove = prepared.earlier is None

    def __enter__(self) -> Self:
        self._store.open(self.first, go_on=self._earlier is not None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.close(remove=self._remove)

    def checkpoint(
        self,
        stream: str,
        point: StreamPoint,
        running_s: float,
        stages: dict[str, StageTally],
        reserved_s: dict[str, dict[str, float]],
    ) -> None:
        """A stream has got further."""
        self._streams[stream] = point
        before = self.first.tallies
        wall_s = before.wall_s + self._clock.now_s() - self._started_s
        cpu_s = before.cpu_s + self._clock.cpu_s() - self._started_cpu_s
        tallies = Tallies(wall_s, running_s, cpu_s, stages, reserved_s)
        self._store.save(msgspec.structs.replace(self.first, streams=dict(self._streams), tallies=tallies))

    def over(self, outcome: str, controller: Controller) -> None:
        """The run has ended, and its summary is written."""
        before = sum(tally.delivered for point in self.first.streams.values() for tally in point.tallies.values())
        now = sum(account.delivered for account in controller.ledger.accounts.values())
        self._remove = self._remove or outcome == "done" or (outcome == "cancelled" and now > before)

    @property
    def notes(self) -> list[str]:
        """What a user should know."""
        if self._earlier is None:
            return [self._store.problem] if self._store.problem is not None else []
        places = ", ".join(
            f"{name} {'at its end' if point.ended else f'at frame {point.seq}'}"
            for name, point in self.first.streams.items()
        )
        times = "once" if self.first.resumed == 1 else f"{self.first.resumed} times"
        note = f"gone on with after it was killed, {times}; this time {places or 'from the beginning'}"
        return [note, *([self._store.problem] if self._store.problem is not None else [])]

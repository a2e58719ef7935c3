"""What is out to workers, and what they keep: invocations, streams' memories, answers that came ahead of their turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llamapipe.control.queues import Item
from llamapipe.control.workforce import Seat

__all__ = ["Ahead", "Home", "Invocation"]


@dataclass(slots=True)
class Invocation:
    """One batch of one stage, out to one seat."""

    number: int
    stage: int
    seat: Seat
    items: list[Item]
    choice: int = 0  # of the stage's candidates
    twin: Invocation | None = None  # the same items at another worker
    void: bool = False  # the twin has answered: this one only keeps its worker busy
    chain: tuple[int, ...] = ()  # stages that are run after it, on what it gives

    @property
    def stages(self) -> tuple[int, ...]:
        """All that it runs."""
        return (self.stage, *self.chain)


@dataclass(slots=True)
class Home:
    """Where a stage's memory of a stream is."""

    seat: Seat | None
    has_state: bool = False  # it has seen something
    touched: bool = False  # it has been sent something
    since_snapshot: int = 0  # items
    restoring: bool = False
    restored: int = 0  # times that it was brought up again

    def settle(self, seat: Seat) -> None:
        """Be there from now on."""
        self.seat = seat
        seat.homes += 1

    def leave(self) -> None:
        """Be nowhere."""
        if self.seat is not None:
            self.seat.homes -= 1
            self.seat.restoring -= self.restoring
        self.seat, self.restoring = None, False


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a stage that was run in a chain has made of a frame."""

    seat: Seat
    count: int
    measures: Sequence[float]
    error: str

"""What the engine notices of its workers."""

from __future__ import annotations

import os
from typing import Any

import pytest
import zmq

from llamapipe.runtime.crew import Crew
from llamapipe.runtime.process import Boot, ProcessWorker
from llamapipe.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def crew(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Any:
    """One process, w0, that has been started and never says a word."""
    ends: list[int] = []

    def start(worker: ProcessWorker, address: str) -> int:
        ends.append(os.eventfd(0))
        return ends[-1]

    monkeypatch.setattr(ProcessWorker, "start", start)
    made = Crew(zmq.Context.instance(), "", "ipc://@none", zmq.Poller(), clock, silent_after_s=1.5)
    boot = Boot(
        name="w0",
        identity="w0#0",
        address="",
        token="",
        fd=0,
        slot_bytes=0,
        stages=(),
        all_stages=(),
        streams={},
    )
    made.start("w0", ProcessWorker("w0", boot, {}))
    yield made
    for end in ends:
        os.close(end)


def test_a_process_is_silent_when_its_heart_was_not_heard_for_so_long_and_back_when_it_is(
    crew: Crew, clock: FakeClock
) -> None:
    crew.heard("w0#0", 10.0)
    assert crew.silence(11.4) == []
    assert crew.silence(11.6) == [("w0", True)]
    assert crew.silence(12.0) == []
    crew.heard("w0#0", 12.0)
    assert crew.silence(12.1) == [("w0", False)]


def test_a_process_that_is_never_heard_is_silent_after_the_time_that_starting_may_take(
    crew: Crew, clock: FakeClock
) -> None:
    assert crew.silence(59.0) == []
    assert crew.silence(61.0) == [("w0", True)]

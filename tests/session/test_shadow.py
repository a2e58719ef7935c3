"""Windows of frames that are looked at again, and that a look aside never stops a run."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from llamapipe.data import Boxes
from llamapipe.media.contract import Decoded, Undecodable
from llamapipe.session import shadow
from llamapipe.session.request import RunRequest
from llamapipe.tune import Predicted


class Source:
    info = stats = None

    def __init__(self, bad: int) -> None:
        self._bad = bad

    def __iter__(self) -> Iterator[Any]:
        for i in range(2000):
            yield Undecodable(i, "corrupt-packet") if i == self._bad else Decoded(i, i, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("bad", "windows"), [(-1, 20), (10, 19), (50, 20)])
def test_a_frame_that_cannot_be_decoded_costs_one_window_at_most(bad: int, windows: int) -> None:
    seen: list[Any] = []
    watched = shadow._Watched(Source(bad), lambda: 100, seen.append)  # type: ignore[arg-type]
    assert len(list(watched)) == 2000
    assert len(seen) == windows
    assert all(window.indices == tuple(range(window.indices[0], window.indices[0] + 24)) for window in seen)


def test_what_fails_in_a_look_aside_is_noted_and_the_run_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_sockets(*_: object, **__: object) -> None:
        raise OSError("too many open files")

    monkeypatch.setattr(shadow.Shadow, "_take", no_sockets)
    aside = shadow.Shadow(
        RunRequest("people", ["a.mp4"]),
        SimpleNamespace(floor=0.9),
        [],
        0.5,
        None,
        clock=SimpleNamespace(),
        env={},  # type: ignore[arg-type]
    )
    for first in (0, 100, 200, 300):
        aside._offer(SimpleNamespace(indices=(first,)))  # type: ignore[arg-type]
    aside.close(cancelled=False)
    assert "too many open files" in aside.notes[0]


def test_boxes_that_are_invented_are_drift_as_those_that_are_missed() -> None:
    def of(count: int) -> list[Boxes]:
        xyxy = np.array([[50 * i, 0, 50 * i + 40, 40] for i in range(count)], np.float32).reshape(-1, 4)
        return [Boxes(xyxy, np.full(count, 0.9, np.float32), np.zeros(count, np.int32), ("a",))] * 24

    predicted = Predicted(10, 0.1, 50, 0.95, 0.92, 0.98)
    tuning = SimpleNamespace(floor=0.9, predicted=predicted)
    for mine, its in ((5, 0), (0, 5)):
        aside = shadow.Shadow(
            RunRequest("people", ["a.mp4"]),
            tuning,  # type: ignore[arg-type]
            [],
            0.5,
            None,
            clock=SimpleNamespace(),  # type: ignore[arg-type]
            env={},
        )
        aside._pairs.extend([(of(mine), of(its))] * 4)
        assert aside._drift(aside._agreement(list(aside._pairs))) is not None
        aside.close(cancelled=True)

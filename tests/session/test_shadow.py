"""Windows of frames that are looked at again, and that a look aside never stops a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from llamapipe.data import Boxes
from llamapipe.media.contract import Decoded, SourceInfo, Undecodable
from llamapipe.session import shadow
from llamapipe.session.request import RunRequest
from llamapipe.session.stretches import Stretches
from llamapipe.tune import Predicted
from tests.session.test_tuned import TUNING


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


def boxes_of(count: int) -> Boxes:
    xyxy = np.array([[50 * i, 0, 50 * i + 40, 40] for i in range(count)], np.float32).reshape(-1, 4)
    return Boxes(xyxy, np.full(count, 0.9, np.float32), np.zeros(count, np.int32), ("a",))


def window(number: int) -> Stretches:
    first = 100 * number
    frames = tuple(Decoded(i, i, None) for i in range(first, first + 24))  # type: ignore[arg-type]
    rate = Fraction(25)
    info = SourceInfo("a", "a.mp4", 640, 480, rate, 1000, 40.0, 1 / rate, live=False, has_audio=False)
    return Stretches(info, frames, tuple(frame.seq for frame in frames), (0,) * 24)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(boxes of the configuration, boxes of its reference) in every frame, for one window after the other."""
    coming: list[tuple[int, int]] = []
    reference = TUNING.reference

    def trial(request: Any, video: Any, take: Callable[[Any], None], **_: object) -> Any:
        mine = dict(request.config.values) != dict(reference)
        mine_boxes, its_boxes = coming[0] if mine else coming.pop(0)
        for _ in range(24):
            take(SimpleNamespace(values={"d.boxes": boxes_of(mine_boxes if mine else its_boxes)}))
        return SimpleNamespace()

    monkeypatch.setattr(shadow, "run_trial", trial)
    return coming


def followed(change: Any) -> shadow.Shadow:
    clock: Any = SimpleNamespace()
    return shadow.Shadow(RunRequest("people", ["a.mp4"]), TUNING, ["d.boxes"], 0.5, change, clock=clock, env={})


def test_every_window_is_in_the_series_and_one_that_held_is_said_to_have(looks: list[tuple[int, int]]) -> None:
    looks += [(1, 1), (1, 1), (5, 5), (5, 5)]
    aside = followed(None)
    for number in range(4):
        aside._take(window(number))
    aside.close(cancelled=False)
    seen = aside.summary
    assert [one.verdict for one in seen.windows] == ["too little to judge", "too little to judge", "fine", "fine"]
    assert [one.frames for one in seen.windows] == [24, 48, 72, 96]
    assert [(one.at_s, one.frame) for one in seen.windows[:2]] == [(23 / 25, 23), (123 / 25, 123)]
    assert {one.ran for one in seen.windows} == {"detect.input_size=320x320"}
    assert (seen.judged, seen.thin, seen.least) == (2, 2, 1.0)
    assert aside.notes == [
        "shadow: 2 windows judged, agreement at least 1.000, the floor is 0.9; 2 more had too few boxes to judge by"
    ]


@pytest.mark.parametrize("finds", [True, False])
def test_what_follows_from_drift_is_in_the_series(
    looks: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, finds: bool
) -> None:
    better = {**TUNING.reference, "detect.batch": 4}
    predicted = Predicted(20.0, 0.1, 30.0, 0.95, 0.92, 0.97)
    again = structs.replace(TUNING, values=better if finds else TUNING.reference, predicted=predicted)
    monkeypatch.setattr(shadow, "tune_on", lambda *_, **__: again)
    told: list[str] = []
    looks += [(5, 5), (2, 5), (5, 5)]
    aside = followed(lambda _, why: told.append(why))
    for number in range(6):  # two are looked at, and four are gathered for the search
        aside._take(window(number))
    if finds:  # the reference does not drift from itself
        aside._take(window(6))
    aside.close(cancelled=False)
    verdicts = [one.verdict for one in aside.summary.windows]
    assert verdicts[:3] == ["fine", "below the floor", "changed to the reference"]
    end = aside.summary.windows[3]
    assert (end.frame, end.frames) == (523, 96)
    if finds:
        assert verdicts[3:] == ["re-tuned", "fine"]
        assert (end.ran, end.agreement, end.low) == ("detect.batch=4", 0.95, 0.92)
        assert aside.summary.windows[4].ran == "detect.batch=4"
        assert told == ["drift: the reference", "tuned on frames 200 to 523"]
    else:
        assert verdicts[3:] == ["nothing cheaper found"]
        assert (end.ran, end.agreement) == ("the reference", None)
        assert told == ["drift: the reference"]
    below = aside.summary.least
    assert below is not None
    assert below < 0.9
    assert not [note for note in aside.notes if note.startswith("shadow:")]

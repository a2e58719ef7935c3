"""Whatever a stream does, every delivered frame is in the file at its own time."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamapipe.data import Image
from llamapipe.media.contract import Outcome
from tests.media.sinks.clips import CAM, item, open_sink, picture

FRAMES = "$ops.draw.frames"
PICTURES = [Image.from_bgr(picture(i, 64, 48)) for i in range(4)]
BASES = [Fraction(1, 90000), Fraction(1, 1000), Fraction(1, 25), Fraction(1001, 30000), Fraction(1, 10**7)]
KINDS = [Outcome.DELIVERED, Outcome.DELIVERED, Outcome.FAILED, Outcome.DROPPED, Outcome.FILTERED, Outcome.CANCELLED]


@pytest.mark.parametrize("preset", ["quick", "veryfast"])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    base=st.sampled_from(BASES),
    first_s=st.integers(0, 10_000),
    gaps_ms=st.lists(st.one_of(st.integers(1, 60), st.integers(61, 5000)), max_size=24),
    outcomes=st.lists(st.sampled_from(KINDS), min_size=25, max_size=25),
    hides=st.booleans(),
    fps=st.sampled_from([None, Fraction(25), Fraction(2)]),
)
def test_times_survive(
    preset: str,
    base: Fraction,
    first_s: int,
    gaps_ms: list[int],
    outcomes: list[Outcome],
    hides: bool,
    fps: Fraction | None,
    tmp_path: Path,
) -> None:
    at = [round(first_s / base)]
    for gap in gaps_ms:
        at.append(at[-1] + max(1, round(Fraction(gap, 1000) / base)))
    info = replace(CAM, time_base=base, fps=fps)
    sink = open_sink("video", tmp_path, [FRAMES], info=info, hides=hides, force=True, params={"preset": preset})
    expected = []
    for seq, (pts, outcome) in enumerate(zip(at, outcomes, strict=False)):
        values = {FRAMES: PICTURES[seq % 4]} if outcome is Outcome.DELIVERED else {}
        sink.write(item(seq, values, pts=pts, pts_s=float(pts * base), outcome=outcome, stage="blur"))
        if values or (hides and outcome in (Outcome.FAILED, Outcome.DROPPED)):
            expected.append((pts - at[0]) * base)
    paths = sink.close()
    if Outcome.DELIVERED not in outcomes[: len(at)]:
        assert paths == []
        return
    with av.open(str(paths[0])) as container:
        found = [frame.pts * Fraction(frame.time_base) for frame in container.decode(video=0)]
        video = container.streams.video[0]
        length = video.duration * Fraction(video.time_base)
    assert found == expected
    assert length > expected[-1] - expected[0]


def test_a_gap_of_hours_does_not_squeeze_what_comes_after_it(tmp_path: Path) -> None:
    info = replace(CAM, time_base=Fraction(1, 10**6))  # as of a USB camera
    sink = open_sink("video", tmp_path, [FRAMES], info=info, force=True)
    at = [i * 40_000 for i in range(10)] + [3_000_000_000 + i * 40_000 for i in range(10)]
    for number, pts in enumerate(at):
        sink.write(item(number, {FRAMES: Image.from_bgr(picture(number, 64, 48))}, pts=pts, pts_s=pts / 1e6))
    with av.open(str(sink.close()[0])) as made:
        seen = [frame.time for frame in made.decode(video=0)]
    assert seen[:10] == pytest.approx([i * 0.04 for i in range(10)], abs=0.001)
    assert seen[-10:] == pytest.approx([3000 + i * 0.04 for i in range(10)], abs=0.001)

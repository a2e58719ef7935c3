"""What a report keeps of a run: bounded, evenly thinned, exact where it says so."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamapipe.data import Image
from llamapipe.media.contract import Outcome, SinkItem
from llamapipe.report.trace import LatencyTrace, PictureStrip, Span, TraceRecorder


def test_invocations_are_all_kept_until_there_are_too_many_and_thinned_evenly_then() -> None:
    recorder = TraceRecorder(max_spans=100)
    assert recorder.kept_share == 1.0
    for i in range(1000):
        recorder.add(Span("w", "s", i, i + 1, 1, i))
        if i == 99:
            assert recorder.kept_share == 1.0
    kept = [span.first_seq for span in recorder.spans]
    assert len(kept) <= 100
    assert {b - a for a, b in pairwise(kept)} == {16}
    assert recorder.kept_share == len(kept) / 1000


def test_without_latencies_there_are_no_quantiles() -> None:
    assert LatencyTrace().quantile(0.5) is None
    assert LatencyTrace().quantiles() is None


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_the_true_one_or_up_to_one_per_cent_above(latencies: list[float], q: float) -> None:
    trace = LatencyTrace()
    for i, latency in enumerate(latencies):
        trace.add(float(i), latency)
    true = sorted(latencies)[int(np.ceil(q * len(latencies))) - 1]
    found = trace.quantile(q)
    assert found is not None
    assert true * (1 - 1e-9) <= found <= true * 1.01 * (1 + 1e-9)


def test_count_mean_and_maximum_are_exact_and_in_milliseconds() -> None:
    trace = LatencyTrace()
    for latency_s in (0.1, 0.2, 0.6):
        trace.add(0.0, latency_s)
    quantiles = trace.quantiles()
    assert quantiles is not None
    assert (trace.count, quantiles.max) == (3, 600.0)
    assert quantiles.mean == pytest.approx(300.0)
    assert quantiles.p50 == pytest.approx(200.0, rel=0.01)


def test_points_are_bounded_and_in_order() -> None:
    trace = LatencyTrace(max_points=50)
    for i in range(10_000):
        trace.add(float(i), 0.1)
    assert len(trace.points) <= 50
    assert trace.points == sorted(trace.points)
    assert trace.points[0] == (0.0, 0.1)
    assert trace.count == 10_000


def strip_of(num_pictures: int, **more: Any) -> PictureStrip:
    strip = PictureStrip(**more)
    for seq in range(num_pictures):
        image = Image.from_bgr(np.full((90, 160, 3), seq % 256, np.uint8))
        strip.show(image, SinkItem("cam", seq, seq, seq / 10, Outcome.DELIVERED, {}))
    return strip


def test_few_pictures_are_all_shown_with_where_they_stood() -> None:
    pictures = strip_of(3).pictures
    assert [caption for caption, _ in pictures] == [f"cam, frame {i}, 0.{i}0 s" for i in range(3)]
    pixels = cv2.imdecode(np.frombuffer(pictures[2][1], np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape == (90, 160, 3)  # never enlarged
    assert abs(pixels.astype(int) - 2).max() <= 2


@pytest.mark.parametrize("num_pictures", [7, 100, 1000])
def test_of_many_pictures_as_many_as_asked_for_are_spread_over_the_run(num_pictures: int) -> None:
    captions = [caption for caption, _ in strip_of(num_pictures, most=6).pictures]
    frames = [int(caption.split("frame ")[1].split(",")[0]) for caption in captions]
    assert 4 <= len(frames) <= 6
    assert frames == sorted(set(frames))
    assert frames[0] == 0
    assert frames[-1] >= num_pictures / 2


def test_pictures_that_frames_wait_for_are_kept_apart() -> None:
    captions = [caption for caption, _ in strip_of(9, apart_s=0.25).pictures]
    assert [caption.split("frame ")[1].split(",")[0] for caption in captions] == ["0", "3", "6"]


def test_pictures_outlive_the_memory_they_were_in() -> None:
    strip = PictureStrip()
    pixels = np.full((90, 160, 3), 7, np.uint8)
    strip.show(Image.from_bgr(pixels), SinkItem("cam", 0, 0, 0.0, Outcome.DELIVERED, {}))
    pixels[:] = 200
    ((_, jpeg),) = strip.pictures
    assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).max() < 20


def test_wide_pictures_are_made_smaller_in_proportion() -> None:
    (_, jpeg), *_ = strip_of(1, width=80).pictures
    assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (45, 80, 3)

"""Objectives from text."""

from __future__ import annotations

import pytest

from llamapipe.errors import UsageError
from llamapipe.spec import SloSpec, format_slo, parse_slo
from llamapipe.spec.slo_text import parse_duration_s


@pytest.mark.parametrize(
    ("text", "slo"),
    [
        ("p95=200ms", SloSpec(latency_p95_ms=200)),
        ("p95<=200ms", SloSpec(latency_p95_ms=200)),
        ("P99 <= 0.2s", SloSpec(latency_p99_ms=200)),
        ("p50=1m", SloSpec(latency_p50_ms=60_000)),
        ("deadline=30s", SloSpec(deadline_s=30)),
        ("deadline=5m", SloSpec(deadline_s=300)),
        ("deadline=1h30m", SloSpec(deadline_s=5400)),
        ("p95=200ms,drops=1%", SloSpec(latency_p95_ms=200, max_drop_share=0.01)),
        ("drops=0.02, deadline=1s500ms", SloSpec(deadline_s=1.5, max_drop_share=0.02)),
    ],
)
def test_an_objective_is_read_from_text(text, slo):
    assert parse_slo(text) == slo
    assert parse_slo(format_slo(slo)) == slo


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected NAME=VALUE, got ''"),
        ("200ms", "expected NAME=VALUE, got '200ms'"),
        ("p95", "expected NAME=VALUE"),
        ("p90=200ms", "expected one of p50, p95, p99, deadline, drops, got 'p90'"),
        ("p95=200", "expected a time with its unit, over zero, got '200'"),
        ("p95=0ms", "over zero"),
        ("p95=-1ms", "got '-1ms'"),
        ("deadline=30s1h", "expected a time with its unit"),
        ("p95=1s,p95=2s", "p95 is there twice"),
        ("p95=1s,p99=2s", "expected one latency or a deadline"),
        ("p95=1s,deadline=2s", "expected one latency or a deadline"),
        ("drops=1%", "expected a latency or a deadline, got neither"),
        ("p95=1s,drops=101%", "drops: expected a share from 0% to 100%, got '101%'"),
        ("p95=1s,drops=few", "got 'few'"),
        ("p95=1s,drops=nan", "got 'nan'"),
    ],
)
def test_a_wrong_objective_says_what_was_expected(text, words):
    with pytest.raises(UsageError) as caught:
        parse_slo(text)
    assert words in caught.value.message
    assert caught.value.hint


def test_durations_go_from_large_units_to_small_ones_without_repeats():
    assert parse_duration_s("1h 30m") is None
    assert parse_duration_s("1m1m") is None
    assert parse_duration_s("2m3s") == 123

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.autotune.judging import against, met
from benchmarks.autotune.targets import right_enough, rounds_of, target_at


def row(
    name: str, p95_ms: float, reserved: float, cpu: float, *, agreement: float = 1.0, low: float = 0.95, batch: int = 1
) -> dict[str, Any]:
    stream = {"p95_ms": p95_ms, "p99_ms": 2 * p95_ms, "reserved": reserved, "cpu": cpu}
    return {
        "key": ["oracle", name, str(batch)],
        "values": {"detect.model": name, "detect.batch": batch},
        "workers": 1,
        "stream": {**stream, "agreement": agreement, "agreement_low": low},
    }


def test_static_is_the_cheapest_that_meets_the_objective_not_the_limit_without_its_margin() -> None:
    rows = [row("fast", 90, 4.0, 3.0), row("at-110", 110, 2.0, 3.5), row("late", 120, 1.0, 1.0)]
    target = target_at(rows, "stream", "fastest", 115.0, "agreement_low")
    assert target.static["reserved"]["values"]["detect.model"] == "at-110"
    assert target.static["cpu"]["values"]["detect.model"] == "fast"
    assert target.spread == {"reserved": pytest.approx(2.0), "cpu": pytest.approx(3.5 / 3.0)}
    assert target.counts("reserved")
    assert not target.counts("cpu")
    assert list(target.who("reserved")) == ["llamapipe", "tuned", "static", "first", "static, cpu"]


def test_p99_is_judged_by_p99() -> None:
    rows = [row("fast", 40, 4.0, 3.0), row("slow", 60, 2.0, 2.0)]
    target = target_at(rows, "stream", "fastest", 100.0, "agreement_low", 99)
    assert target.slo == "p99=100.0ms"
    assert target.static["reserved"]["values"]["detect.model"] == "fast"


def test_right_enough_is_what_proves_the_floor() -> None:
    rows = [row("reference", 90, 4.0, 3.0), row("sure", 80, 3.0, 2.0, agreement=0.95, low=0.91)]
    unsure = row("unsure", 70, 2.0, 1.0, agreement=0.95, low=0.85)
    assert right_enough([*rows, unsure], "stream") == (rows, "agreement_low")


def test_where_that_leaves_the_reference_alone_agreement_itself_counts() -> None:
    reference = [row("reference", 90, 4.0, 3.0, batch=batch) for batch in (1, 2)]
    unsure = row("unsure", 70, 2.0, 1.0, agreement=0.95, low=0.85)
    wrong = row("wrong", 60, 1.0, 0.5, agreement=0.8, low=0.7)
    assert right_enough([*reference, unsure, wrong], "stream") == ([*reference, unsure], "agreement")
    assert right_enough([*reference, wrong], "stream") == (reference, "agreement_low")


@pytest.mark.parametrize(
    ("who", "fresh", "rounds"),
    [
        ("tuned", False, ["cold", "warm", "warm"]),
        ("llamapipe", True, ["cold", "cold", "cold"]),
        ("static", True, ["-", "-", "-"]),
    ],
)
def test_rounds_of_whoever_remembers_are_cold_and_then_warm(who: str, fresh: bool, rounds: list[str]) -> None:
    assert rounds_of(who, fresh=fresh) == rounds


def rounds(*figures: tuple[bool, float]) -> list[dict[str, Any]]:
    return [{"met": met, "reserved": cost} for met, cost in figures]


def test_a_ratio_is_over_the_rounds_that_met_the_objective() -> None:
    others = rounds((True, 2.0), (False, 1.0), (True, 4.0))
    assert against(rounds((True, 3.0)), others, "reserved", 1.1) == "1.00 x"
    assert against(rounds((True, 6.0)), others, "reserved", 1.1) == "2.00 x (missed)"


def test_whoever_missed_it_in_most_rounds_is_no_measure() -> None:
    others = rounds((True, 2.0), (False, 1.0), (False, 1.0))
    assert against(rounds((True, 3.0)), others, "reserved", 1.1) == "(it met 1 of 3)"
    assert against(rounds((True, 3.0)), [{"refused": "no"}], "reserved", 1.1) == "(it met 0 of 1)"
    assert against(rounds((True, 3.0)), [], "reserved", 1.1) == "-"


def test_a_refused_round_did_not_meet_it() -> None:
    assert met([{"refused": "no"}, *rounds((True, 1.0))]) == 1

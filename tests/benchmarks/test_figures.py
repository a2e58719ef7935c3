from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import faults, simulation
from benchmarks.autotune import decisions, drift
from benchmarks.fidelity import errors_of, medians
from benchmarks.injection import Log, Order, frames_in_order, strays_s
from benchmarks.profiler import half_difference
from benchmarks.selection import mean_cost
from benchmarks.store import Store
from llamapipe.sim.planners import PLANNERS
from llamapipe.sim.scenario import load_scenario


def test_order_counts_what_is_twice_and_what_is_late() -> None:
    assert (Order.of([0, 1, 2]).wrong, str(Order.of([0, 1, 2]))) == (0, "3 in order, each once")
    assert Order.of([0, 2, 1, 2]) == Order(4, 1, 1)
    assert Order.of([]).wrong == 0


def test_frames_are_read_as_they_were_written(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [{"frame": frame, "pts_s": frame / 10, "stage": "detect"} for frame in (0, 0, 2, 1)]
    lines.append({"frame": 3, "outcome": "dropped"})
    (tmp_path / "detections.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert frames_in_order(tmp_path) == [(0, 0.0), (2, 0.2), (1, 0.1)]


def test_a_time_that_strays_from_when_its_frame_came_is_seen() -> None:
    captured_s = {0: 100.0, 1: 100.1, 2: 100.2, 3: 103.0}
    assert strays_s([(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.3), (9, 0.9)], captured_s) == pytest.approx([0, 0, 0, 2.7])
    assert strays_s([], captured_s) == []


def test_a_row_of_faults_goes_on_with_all_that_it_had(tmp_path: Path) -> None:
    store = Store(tmp_path / "rows.jsonl")
    row = faults.Row(injected=3, replaced=2, recovery_s=[1.0])
    assert faults.goes_on(store.add(("unfinished", "it"), asdict(row))) == row
    assert faults.goes_on({**asdict(row), "code": "0.0.1+other"}) == faults.Row()
    assert faults.goes_on(None) == faults.Row()


def test_faults_say_what_was_found() -> None:
    assert faults.told(faults.Row(), "identical") == "identical, in order"
    assert faults.told(faults.Row(differs=1, misplaced=2), "identical") == "not identical, not in order"
    assert "**2 misplaced**" in faults.table({"disk-full": asdict(faults.Row(misplaced=2))})


def test_fidelity_counts_what_follows_from_nothing_else() -> None:
    round_ = {"fps": (10.0, 11.0), "core-s": (4.0, 8.0), "p50 ms": (20.0, 18.0), "p95 ms": (0.0, 1.0)}
    assert errors_of([round_]) == pytest.approx([0.1, 0.1])
    assert medians([round_, round_, dict.fromkeys(round_, (0.0, 0.0))])["fps"] == (10.0, 11.0)


def test_two_sweeps_are_half_their_difference_from_their_mean() -> None:
    assert half_difference(0.9, 1.1) == pytest.approx(0.1)
    assert half_difference(0.9, 1.1) == pytest.approx(1.1 / 1.0 - 1)


def test_a_choice_costs_what_all_its_answers_cost() -> None:
    oracle = {"cheap": {"cost": 1.0}, "dear": {"cost": 5.0}}
    assert mean_cost({"cheap": 3, "dear": 1}, oracle) == pytest.approx(2.0)


def test_a_policy_that_misses_a_scenario_has_no_mean() -> None:
    def judged(*missing: str) -> Any:
        return {policy: SimpleNamespace(met=policy not in missing) for policy in PLANNERS}

    found = simulation.meeting_all({"one": judged("fixed"), "other": judged("gg", "fixed")})
    assert found == [policy for policy in PLANNERS if policy not in ("fixed", "gg")]


def test_scenarios_without_candidates_leave_no_choice() -> None:
    found = {name: simulation.has_choice(load_scenario(simulation.SCENARIOS / f"{name}.yaml")) for name in
             ("people", "denoise")}  # fmt: skip
    assert found == {"people": True, "denoise": False}


def test_choices_that_nobody_saw_are_not_timed() -> None:
    with decisions._Timed() as timed:
        pass
    with pytest.raises(SystemExit, match="make interpreted"):
        timed.check()


def test_a_run_has_the_parts_that_were_noticed_and_found() -> None:
    changes = [
        {"why": "drift: the reference", "frame": 150, "error": ""},
        {"why": "tuned on frames 160 to 400", "frame": 300, "error": "it cannot"},
        {"why": "tuned on frames 160 to 400", "frame": 420, "error": ""},
    ]
    assert drift.parts_of(100, changes, 500) == [
        ("before", 0, 100),
        ("changed, unnoticed", 100, 150),
        ("the reference runs", 150, 420),
        ("tuned anew", 420, 500),
    ]
    assert drift.parts_of(100, [], 500) == [("before", 0, 100), ("changed, unnoticed", 100, 500)]
    assert drift.parts_of(100, [{"why": "drift: it", "frame": 60, "error": ""}], 500)[1:] == [
        ("the reference runs", 60, 100),
        ("changed, unnoticed", 100, 500),
    ]


def test_processor_time_is_taken_between_two_moments() -> None:
    assert drift.cpu_between([(0.0, 0.0), (10.0, 5.0), (20.0, 25.0)], 5.0, 15.0) == pytest.approx(12.5)


def test_latency_ends_with_the_last_sink() -> None:
    def step(t: float, **event: Any) -> dict[str, Any]:
        return {"t": t, "event": event, "actions": []}

    log = Log(
        [
            step(1.0, type="FramesArrived", first_seq=0, captured_at_s=[0.5, 0.75]),
            step(2.0, type="Committed", sink="video", seq=1),
            step(3.0, type="Committed", sink="lines", seq=0),
            step(3.5, type="Committed", sink="lines", seq=1),
        ]
    )
    assert drift.latencies_of(log) == {0: pytest.approx(2.5), 1: pytest.approx(2.75)}


def test_boxes_are_compared_by_frame() -> None:
    line = json.dumps({"frame": 0, "stage": "follow", "items": [{"box": [0, 0, 10, 10], "score": 0.9}]})
    found = drift.boxes_of({0: [line], 1: [json.dumps({"frame": 1, "outcome": "dropped"})]}, "follow")
    assert list(found) == [0]
    assert drift._f1(found, found, 0, 10) == 1.0
    assert drift._f1(found, {}, 0, 10) is None

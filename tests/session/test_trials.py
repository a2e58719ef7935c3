"""What of a pipeline's results is compared, and how it is scored."""

from __future__ import annotations

import numpy as np
import pytest

from llamapipe.data import Boxes
from llamapipe.media.contract import Outcome
from llamapipe.session import FrameResult, load_pipeline
from llamapipe.session.labelled import Row
from llamapipe.session.trials import Judge, judged_results


@pytest.mark.parametrize(
    ("pipeline", "results"),
    [
        ("people", ["follow.tracks"]),
        ("traffic", ["faces.boxes", "follow.tracks", "people.boxes"]),
        ("blur-faces", ["follow.tracks", "held.boxes"]),
        ("vintage", []),
    ],
)
def test_results_at_sinks_are_compared_unless_another_there_is_made_of_them(pipeline: str, results: list[str]) -> None:
    loaded = load_pipeline(pipeline, env={})
    manifests = {op.name: loaded.registry.manifest(op.type) for op in loaded.spec.ops}
    assert judged_results(loaded.spec, manifests) == results


def boxes(*lefts: float) -> Boxes:
    places = np.array([[x, 0, x + 10, 10] for x in lefts], np.float32).reshape(-1, 4)
    return Boxes(places, np.full(len(lefts), 0.9, np.float32), np.zeros(len(lefts), np.int32), ["person"])


def results(*frames: Boxes) -> dict[int, FrameResult]:
    return {
        10 + i: FrameResult(
            "s", i, i / 25, Outcome.DELIVERED, values={"follow.tracks": found, "detect.boxes": boxes(99)}
        )
        for i, found in enumerate(frames)
    }


def test_the_first_is_the_reference_and_agrees_with_itself() -> None:
    judge = Judge(["follow.tracks"])
    assert judge.score(results(boxes(0, 20), boxes(5))) == (1.0, 1.0, 1.0)
    assert judge.found == 3
    score = judge.score(results(boxes(0), boxes(5)))
    assert score is not None
    value, low, high = score
    assert value == pytest.approx(0.8)
    assert low < value < high


def test_some_of_the_frames_are_compared_with_the_same_of_the_reference() -> None:
    judge = Judge(["follow.tracks"])
    judge.score(results(boxes(0, 20), boxes(5)))
    first = dict([*results(boxes(0, 20)).items()])
    assert judge.score(first) is not None
    assert judge.score(first)[0] == 1.0  # type: ignore[index]


def test_nothing_in_few_frames_is_no_proof() -> None:
    judge = Judge(["follow.tracks"])
    judge.score(results(*[boxes()] * 10))
    score = judge.score(results(*[boxes()] * 10))
    assert score is not None
    assert score[0] == 1.0
    assert score[1] < 0.8


def test_against_labels_it_is_average_precision() -> None:
    truths = {10: [Row(10, (0, 0, 10, 10), 1, "", -1)], 11: [Row(11, (5, 0, 15, 10), 1, "", -1)]}
    judge = Judge(["follow.tracks"], truths)
    assert judge.metric == "ap50"
    score = judge.score(results(boxes(0), boxes(5), boxes(50)))
    assert score is not None
    assert score[0] == 1.0
    assert judge.score(results(boxes(0), boxes(60)))[0] == pytest.approx(0.5)  # type: ignore[index]


def test_without_boxes_nothing_is_compared() -> None:
    judge = Judge([])
    assert judge.metric == "none"
    assert judge.score(results(boxes(0))) is None


def test_labels_of_the_truth_count_each_for_itself() -> None:
    row = Row(10, (0, 0, 10, 10), 1, "person", -1)
    person = Judge(["follow.tracks"], {10: [row]})
    assert person.score(results(boxes(0, 50))) == (1.0, 1.0, 1.0)
    car = Judge(["follow.tracks"], {10: [row, Row(10, (50, 0, 60, 10), 1, "car", -1)]})
    assert car.score(results(boxes(0, 50)))[0] == 0.5  # type: ignore[index]  # nobody called it a car

"""Detections in every form against truth in every form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llamapipe.errors import UsageError
from llamapipe.session import evaluate

MOT = "1,7,0,0,10,10,1,-1,-1,-1\n2,7,5,0,10,10,1,-1,-1,-1\n3,7,10,0,10,10,1,-1,-1,-1\n2,8,50,50,5,5,0,-1,-1,-1\n"
LEFTS = (0, 5, 10)


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def lines(stage: str = "detect", **more: Any) -> str:
    rows = [
        {
            "stream": "s",
            "frame": i,
            "stage": stage,
            "items": [{"box": [x, 0, x + 10, 10], "label": "person", "score": 0.9, **more}],
        }
        for i, x in enumerate(LEFTS)
    ]
    return "\n".join(json.dumps(row) for row in rows)


def coco(**changed: Any) -> dict[str, Any]:
    """Image ids begin at 1 and are in no order, as in COCO's own files."""
    return {
        "images": [{"id": 30, "frame": 2}, {"id": 10, "frame": 0}, {"id": 20, "frame": 1}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"id": i, "image_id": 10 * (i + 1), "category_id": 1, "bbox": [x, 0, 10, 10]} for i, x in enumerate(LEFTS)
        ],
        **changed,
    }


def test_json_lines_against_motchallenge(tmp_path: Path) -> None:
    """Rows of confidence 0 are there to be ignored."""
    found = evaluate(write(tmp_path / "detections.jsonl", lines()), write(tmp_path / "gt.txt", MOT), ious=(0.5, 0.75))
    assert (found.frames, found.truths, found.detections) == (3, 3, 3)
    assert found.ap == {"0.5": 1, "0.75": 1}
    assert (found.f1, found.best_score, found.tracking) == (1, 0.9, {})


def test_json_lines_against_coco(tmp_path: Path) -> None:
    assert evaluate(write(tmp_path / "d.jsonl", lines()), write(tmp_path / "gt.json", coco())).ap == {"0.5": 1}


def test_coco_results_are_read_with_the_ids_of_the_truth(tmp_path: Path) -> None:
    results = [{**a, "score": 0.9} for a in coco()["annotations"]]
    found = evaluate(write(tmp_path / "results.json", results), write(tmp_path / "gt.json", coco()))
    assert (found.ap, found.ap_by_label) == ({"0.5": 1}, {"person": 1})


def test_a_coco_file_with_images_is_read_with_its_own_ids(tmp_path: Path) -> None:
    """As the coco sink writes it; against another numbering and against MOTChallenge."""
    mine = coco(
        images=[{"id": i + 1, "frame": i} for i in range(3)],
        annotations=[{**a, "image_id": i + 1, "score": 0.9} for i, a in enumerate(coco()["annotations"])],
    )
    for truth in (write(tmp_path / "gt.json", coco()), write(tmp_path / "gt.txt", MOT)):
        assert evaluate(write(tmp_path / "mine.json", mine), truth).ap == {"0.5": 1}


def test_frames_that_a_run_did_not_get_to_are_not_held_against_it(tmp_path: Path) -> None:
    short = coco(images=[{"id": 1, "frame": 0}], annotations=[{**coco()["annotations"][0], "image_id": 1}])
    truth = write(tmp_path / "gt.txt", MOT)
    assert evaluate(write(tmp_path / "short.json", short), truth).frames == 1
    assert evaluate(write(tmp_path / "short.jsonl", lines().splitlines()[0]), truth).frames == 1


def test_an_image_that_the_truth_does_not_have_is_an_error(tmp_path: Path) -> None:
    results = [{"image_id": 99, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]
    with pytest.raises(UsageError, match="no image 99"):
        evaluate(write(tmp_path / "results.json", results), write(tmp_path / "gt.json", coco()))


def test_a_box_counts_for_truths_of_its_label_only(tmp_path: Path) -> None:
    """One of the three is a car that was taken for a person: AP of cars 0, of people 1 where the car's box is last."""
    truth = coco(categories=[{"id": 1, "name": "person"}, {"id": 2, "name": "car"}])
    truth["annotations"][2]["category_id"] = 2
    found = evaluate(write(tmp_path / "d.jsonl", lines()), write(tmp_path / "gt.json", truth))
    assert found.ap_by_label == {"car": 0, "person": pytest.approx(1)}
    assert found.ap["0.5"] == pytest.approx(0.5)


def test_tracks_have_mota_and_idf1(tmp_path: Path) -> None:
    pytest.importorskip("motmetrics", reason="pip install 'llamapipe[metrics]'")
    detections, truth = write(tmp_path / "d.jsonl", lines("follow", track_id=3)), write(tmp_path / "gt.txt", MOT)
    assert evaluate(detections, truth, stage="follow").tracking == {"mota": 1, "idf1": 1, "switches": 0}
    assert "every frame" in evaluate(detections, truth, every=2).tracking_note


def test_only_frames_asked_for_are_judged(tmp_path: Path) -> None:
    found = evaluate(write(tmp_path / "d.jsonl", lines()), write(tmp_path / "gt.txt", MOT), every=2)
    assert (found.frames, found.truths) == (2, 2)


@pytest.mark.parametrize(
    ("detections", "truth", "message"),
    [
        (lines(), "one,two", "expected MOTChallenge text"),
        (lines(), "{}", "expected COCO ground truth"),
        (lines(), "{", "no JSON"),
        ("{", MOT, "no JSON"),
        (lines("a") + "\n" + lines("b"), MOT, "several stages"),
        (lines().replace('"frame": ', '"frame": 10'), MOT, "none of the frames"),
    ],
)
def test_what_is_no_such_file_is_said(detections: str, truth: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        evaluate(write(tmp_path / "detections.jsonl", detections), write(tmp_path / "gt.txt", truth))

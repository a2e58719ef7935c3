"""What the text and table sinks say of a frame."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamapipe.data import Boxes, Classes, Event, Events
from llamapipe.errors import UsageError
from llamapipe.media.contract import Outcome, Sink, SinkItem
from llamapipe.media.sinks.lines import box_items
from tests.media.sinks.clips import boxes, item, open_sink

BOXES = "$ops.detect.boxes"


def written(sink: Sink, *items: SinkItem) -> Path:
    for one in items:
        sink.write(one)
    (path,) = sink.close()
    return path


def json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_line_a_frame_and_stage(tmp_path: Path) -> None:
    found = boxes((1.111, 2.222, 3.336, 4), (5, 6, 7, 8), names=("car", "person"), label=[1, 0], track=[7, -1])
    event = Events([Event("line-crossed", name="gate", track_id=7, x=1.5)])
    sink = open_sink("jsonl", tmp_path, [BOXES, "$ops.lines.events"])
    lines = json_lines(written(sink, item(4, {BOXES: found, "$ops.lines.events": event})))
    assert lines == [
        {
            "stream": "cam",
            "frame": 4,
            "pts_s": 0.16,
            "stage": "detect",
            "items": [
                {"box": [1.11, 2.22, 3.34, 4.0], "label": "person", "score": 0.8765, "track_id": 7},
                {"box": [5.0, 6.0, 7.0, 8.0], "label": "car", "score": 0.8765},
            ],
        },
        {
            "stream": "cam",
            "frame": 4,
            "pts_s": 0.16,
            "stage": "lines",
            "events": [{"kind": "line-crossed", "name": "gate", "track_id": 7, "x": 1.5}],
        },
    ]


def test_the_port_is_named_where_a_stage_has_two(tmp_path: Path) -> None:
    inputs = ["$ops.zones.boxes", "$ops.zones.events", BOXES]
    sink = open_sink("jsonl", tmp_path, inputs)
    values = {inputs[0]: boxes(), inputs[1]: Events(), inputs[2]: Classes.empty()}
    lines = json_lines(written(sink, item(values=values)))
    assert [(line["stage"], line.get("port")) for line in lines] == [
        ("zones", "boxes"),
        ("zones", "events"),
        ("detect", None),
    ]


def test_outcomes_decide_which_lines_there_are(tmp_path: Path) -> None:
    sink = open_sink("jsonl", tmp_path, [BOXES])
    path = written(
        sink,
        item(0, {BOXES: boxes()}),
        item(1),  # the stage was skipped
        item(2, outcome=Outcome.FAILED, stage="detect", reason="detect: ValueError"),
        item(3, outcome=Outcome.DROPPED, reason="overload"),
        item(4, outcome=Outcome.FILTERED),
        item(5, outcome=Outcome.CANCELLED),
        item(6, outcome=Outcome.FAILED, stage="source", reason="source: corrupt-packet"),
    )
    lines = json_lines(path)
    assert [line["frame"] for line in lines] == [0, 2, 3, 6]
    assert lines[0]["items"] == []
    assert lines[1] == {
        "stream": "cam",
        "frame": 2,
        "pts_s": 0.08,
        "outcome": "failed",
        "stage": "detect",
        "reason": "detect: ValueError",
    }
    assert lines[2]["outcome"] == "dropped"
    assert lines[3]["pts_s"] is None  # there was no picture to have a time


def test_empty_lines_can_be_left_out(tmp_path: Path) -> None:
    sink = open_sink("jsonl", tmp_path, [BOXES], params={"empty": False})
    lines = json_lines(written(sink, item(0, {BOXES: boxes()}), item(1, {BOXES: boxes((1, 2, 3, 4))})))
    assert [line["frame"] for line in lines] == [1]


@pytest.mark.parametrize("track", [None, [3, -1, 2]])
def test_the_array_path_says_what_iteration_says(track: list[int] | None) -> None:
    rows = np.random.default_rng(1).random((3, 4)) * 1000
    found = boxes(*rows.tolist(), names=("a", "b"), label=[1, 0, 1], track=track)
    plain = [
        {"box": b.box, "label": b.label, "score": b.score, **({"track_id": b.track_id} if b.track_id >= 0 else {})}
        for b in box_items(found)
    ]
    assert plain == list(found)


def test_labels_of_any_script_survive(tmp_path: Path) -> None:
    label = 'naïve, "ラマ"'
    found = boxes((1, 2, 3, 4), names=(label,))
    path = written(open_sink("csv", tmp_path, [BOXES]), item(values={BOXES: found}))
    with path.open(newline="", encoding="utf-8") as file:
        assert next(csv.DictReader(file))["label"] == label
    path = written(open_sink("jsonl", tmp_path, [BOXES]), item(values={BOXES: found}))
    assert json_lines(path)[0]["items"][0]["label"] == label


def test_csv_has_one_row_a_box(tmp_path: Path) -> None:
    sink = open_sink("csv", tmp_path, [BOXES, "$ops.track.tracks"])
    found, tracked = boxes((1, 2, 3.5, 4)), boxes((1, 2, 3.5, 4), track=[9])
    path = written(sink, item(0, {BOXES: found, "$ops.track.tracks": tracked}), item(1, {BOXES: Boxes.empty()}))
    assert path.read_text().splitlines() == [
        "stream,frame,pts_s,stage,label,score,x1,y1,x2,y2,track_id",
        "cam,0,0.0,detect,person,0.8765,1.0,2.0,3.5,4.0,",
        "cam,0,0.0,track,person,0.8765,1.0,2.0,3.5,4.0,9",
    ]


def test_parquet_has_the_rows_of_csv_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("llamapipe.media.sinks.table._GROUP_ROWS", 4)
    sink = open_sink("parquet", tmp_path, [BOXES])
    path = written(sink, *(item(i, {BOXES: boxes((i, 2, 3, 4), (5, 6, 7, 8), track=[3, -1])}) for i in range(5)))
    assert parquet.ParquetFile(path).metadata.num_row_groups == 3
    rows = parquet.read_table(path).to_pylist()
    assert len(rows) == 10
    first = {**rows[2], "score": round(rows[2]["score"], 4)}
    assert first == {
        "stream": "cam",
        "frame": 1,
        "pts_s": 0.04,
        "stage": "detect",
        "label": "person",
        "score": 0.8765,
        "x1": 1.0,
        "y1": 2.0,
        "x2": 3.0,
        "y2": 4.0,
        "track_id": 3,
    }
    assert rows[3]["track_id"] is None


def test_parquet_without_a_box_is_a_table_without_rows(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(written(open_sink("parquet", tmp_path, [BOXES])))
    assert table.num_rows == 0
    assert table.column_names[-1] == "track_id"


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"llamapipe\[parquet\]"):
        open_sink("parquet", tmp_path, [BOXES])


def test_mot_counts_frames_from_one_and_gives_sizes(tmp_path: Path) -> None:
    sink = open_sink("mot", tmp_path, [BOXES], params={"labels": ["person"]})
    found = boxes(
        (10, 20, 30.5, 60), (1, 1, 2, 2), (3, 3, 4, 4), names=("person", "car"), label=[0, 1, 0], track=[5, 6, -1]
    )
    path = written(sink, item(0, {BOXES: found}))
    assert path.read_text().splitlines() == [
        "1,5,10.00,20.00,20.50,40.00,0.8765,-1,-1,-1",
        "1,-1,3.00,3.00,1.00,1.00,0.8765,-1,-1,-1",
    ]


def test_mot_takes_one_input(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one boxes input, got 2"):
        open_sink("mot", tmp_path, [BOXES, "$ops.track.tracks"])


def test_coco_is_one_object_whose_ids_agree(tmp_path: Path) -> None:
    sink = open_sink("coco", tmp_path, [BOXES])
    found = boxes((10, 20, 30, 60), (1, 1, 2, 3), names=("person", "car"), label=[1, 0], track=[4, -1])
    path = written(sink, item(0, {BOXES: boxes()}), item(1, {BOXES: found}), item(2, outcome=Outcome.FAILED))
    data = json.loads(path.read_text())
    assert data["categories"] == [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}]
    assert [(image["id"], image["frame"], image["width"]) for image in data["images"]] == [(1, 0, 640), (2, 1, 640)]
    assert data["annotations"] == [
        {
            "id": 1,
            "image_id": 2,
            "category_id": 2,
            "bbox": [10.0, 20.0, 20.0, 40.0],
            "area": 800.0,
            "iscrowd": 0,
            "score": 0.8765,
            "track_id": 4,
        },
        {
            "id": 2,
            "image_id": 2,
            "category_id": 1,
            "bbox": [1.0, 1.0, 1.0, 2.0],
            "area": 2.0,
            "iscrowd": 0,
            "score": 0.8765,
        },
    ]


def test_coco_without_a_frame_is_still_an_object(tmp_path: Path) -> None:
    data = json.loads(written(open_sink("coco", tmp_path, [BOXES])).read_text())
    assert data == {"annotations": [], "categories": [], "images": []}

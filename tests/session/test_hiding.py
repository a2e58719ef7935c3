"""What is to be hidden and cannot be looked at is not shown: more of it than a stage may make pictures of."""

from __future__ import annotations

from pathlib import Path

import pytest

import llamapipe
from llamapipe import Pipeline

OPERATORS = """
import numpy as np

from llamapipe.data import Boxes, Image
from llamapipe.operator import operator


@operator("test/crowd@v1", inputs={"frames": "frames"}, outputs={"boxes": "boxes"})
def crowd(frames: Image) -> Boxes:
    \"\"\"Three of them, and in frame 5 four.\"\"\"
    left = 20.0 * np.arange(4 if frames.seq == 5 else 3, dtype=np.float32)
    xyxy = np.stack([left, left, left + 15, left + 15], axis=1)
    return Boxes(xyxy, np.full(len(left), 0.9, np.float32), np.zeros(len(left), np.int32), ("person",))


@operator("test/inside@v1", inputs={"frames": "frames"}, outputs={"boxes": "boxes"})
def inside(frames: Image) -> Boxes:
    \"\"\"All of a crop.\"\"\"
    xyxy = np.array([[0, 0, frames.width, frames.height]], np.float32)
    return Boxes(xyxy, np.ones(1, np.float32), np.zeros(1, np.int32), ("face",))
"""


@pytest.mark.parametrize("hides", [True, False])
def test_where_something_is_to_be_hidden_no_box_is_left_out_without_a_word(
    hides: bool, clip: Path, tmp_path: Path
) -> None:
    ops = tmp_path / "crowd.py"
    ops.write_text(OPERATORS)
    pipeline = Pipeline("crowd")
    people = pipeline.add(
        "test/crowd@v1", name="people", inputs={"frames": pipeline.frames}, outputs={"boxes": "boxes"}
    )
    heads = pipeline.add(
        "llamapipe/crop@v1",
        name="heads",
        inputs={"frames": pipeline.frames, "boxes": people.boxes},
        outputs={"frames": "frames"},
        max_items=3,
    )
    faces = pipeline.add("test/inside@v1", name="faces", inputs={"frames": heads.frames}, outputs={"boxes": "boxes"})
    if hides:
        pipeline.add(
            "llamapipe/blur@v1",
            name="blurred",
            inputs={"frames": pipeline.frames, "boxes": faces.boxes},
            outputs={"frames": "frames"},
        )
    summary = llamapipe.run(pipeline, clip, output=tmp_path / "out", ops_files=[ops])
    if hides:
        told = "heads: OperatorError: more than 3 boxes, and what is not cut would be shown: raise max_items"
        assert summary.frames.failed == {told: 1}
    else:
        assert summary.frames.failed == {}

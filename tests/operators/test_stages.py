"""Operators as functions: what a type checker lets through, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

RIGHT = """
from llamapipe import Pipeline
from llamapipe.spec import BoxesPort, TracksPort
from llamapipe_operators import annotate, blur, crop, detect, motion_gate, track

pipeline = Pipeline("p")
gate = motion_gate(pipeline.frames)
people = detect(gate.frames)
found: BoxesPort = people.boxes
tracks: TracksPort = track(people).tracks
blurred = blur(pipeline.frames, [people, tracks, detect(crop(pipeline.frames, people))])
annotate(blurred, track(people), events=[gate.events], when=people.boxes.count() >= 1)
"""

WRONG = """
from llamapipe import Pipeline
from llamapipe_operators import blur, crop, detect, track, zones

pipeline = Pipeline("p")
people = detect(pipeline.frames)
people.frames
track(people).boxes
crop(people, people)
detect(track(people))
blur(pipeline.frames, crop(pipeline.frames, people))
track(zones(people, zones=[]))
"""


def test_stages_complete_and_check_what_they_give_and_nothing_else(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api")
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(WRONG)
    files = [str(tmp_path / name) for name in ("right.py", "wrong.py")]
    # The project's own settings: what `make check` has looked at already is not looked at again.
    out, err, _ = api.run(["--config-file", str(ROOT / "pyproject.toml"), "--no-error-summary", *files])
    errors = [line for line in out.splitlines() if ": error: " in line]
    assert err == ""
    assert [line.split(": error: ")[0].rpartition("/")[2] for line in errors] == [f"wrong.py:{n}" for n in range(7, 13)]

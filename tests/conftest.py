"""Fixtures for every test."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import llamapipe
from llamapipe.clock import system_env
from llamapipe.inference import cache_root, registered, use_catalogue
from tests.parallel import pytest_collection_modifyitems, pytest_xdist_make_scheduler

__all__ = ["pytest_collection_modifyitems", "pytest_xdist_make_scheduler"]

LABELLED = "cd0835334c78114f6fe014c78f7135809b262858bf100dd78d7a0783a565d49f"


def pytest_configure() -> None:
    """Compiled modules hide what was edited since."""
    for compiled in Path(llamapipe.__file__).parent.rglob("*.so"):
        source = compiled.with_name(compiled.name.partition(".")[0] + ".py")
        if source.is_file() and source.stat().st_mtime > compiled.stat().st_mtime:
            pytest.exit(f"{source} is newer than what was compiled of it: `make compiled`, or `make interpreted`")


@pytest.fixture(autouse=True)
def _no_profiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was once measured on this machine must not decide what a test sees."""
    monkeypatch.setenv("LLAMAPIPE_PROFILES", "off")


@pytest.fixture(autouse=True)
def _catalogue_as_before() -> Iterator[None]:
    """Whatever a test looked models up in, and however it ended. What whole modules look in was set before this."""
    before = registered._root
    yield
    use_catalogue(before if before is not None else cache_root(system_env()))


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of labelled clips and models; the test is skipped where it is not there."""
    named = os.environ.get("LLAMAPIPE_ASSET_MIRROR")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "assets"
    clip = folder / "TUD-Stadtmitte.mp4"
    if not clip.is_file():
        pytest.skip(f"no labelled clips in {folder}: set LLAMAPIPE_ASSET_MIRROR to a folder that holds them")
    if hashlib.sha256(clip.read_bytes()).hexdigest() != LABELLED:
        pytest.skip(f"{clip} is not the video that the labels are of (sha256 {LABELLED[:12]}...)")
    return folder

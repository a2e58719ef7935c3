"""Fixtures for every test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_profiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was once measured on this machine must not decide what a test sees."""
    monkeypatch.setenv("LLAMAPIPE_PROFILES", "off")


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of labelled clips and models; the test is skipped where it is not there."""
    named = os.environ.get("LLAMAPIPE_ASSET_MIRROR")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "assets"
    if not (folder / "TUD-Stadtmitte.mp4").is_file():
        pytest.skip(f"no labelled clips in {folder}: set LLAMAPIPE_ASSET_MIRROR to a folder that holds them")
    return folder

"""Clips that the tests of sources share; nobody writes to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.media.sinks.clips import make_clip


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 pictures at 20 a second, B-frames, a keyframe each 12."""
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", times=range(40))

"""Building that was killed goes on where it was: what was built and judged is not done again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import cv2
import pytest

from llamapipe.catalog import Profile
from llamapipe.inference import open_catalogue
from llamapipe.session.building import build

pytestmark = [pytest.mark.assets, pytest.mark.slow]


@pytest.fixture
def env(tmp_path: Path, assets: Path) -> dict[str, str]:
    return {**os.environ, "LLAMAPIPE_CACHE": str(tmp_path / "cache"), "LLAMAPIPE_ASSET_MIRROR": str(assets)}


def building(env: dict[str, str], calibrate: Path) -> subprocess.Popen[str]:
    words = ["models", "build", "fastestdet", "--calibrate", str(calibrate), "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "llamapipe", *words],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def killed_at(process: subprocess.Popen[str], step: str) -> None:
    with process:
        assert process.stderr is not None
        found = any(line.startswith(step) for line in process.stderr)
        process.send_signal(signal.SIGKILL)
    assert found, f"there was no step {step!r}"


def known(process: subprocess.Popen[str]) -> dict[str, Any]:
    """By variant, whether an earlier call had built it."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return {one["variant"].removeprefix("fastestdet/"): one["known"] for one in json.loads(out)["variants"]}


def judged(env: dict[str, str]) -> dict[str, Profile]:
    """By variant, without its threads."""
    with open_catalogue(env) as store:
        found = {p.variant.name: p for p in store.profiles(model="fastestdet") if p.variant.threads == 1}
    return {name.removeprefix("fastestdet/").removesuffix("/t1"): profile for name, profile in found.items()}


def left_behind(env: dict[str, str]) -> list[Path]:
    return list((Path(env["LLAMAPIPE_CACHE"]) / "catalogue").glob(".build-*"))


@pytest.fixture
def pictures(tmp_path: Path, assets: Path) -> Path:
    """Few are enough: what is asked is what is done again, not how well."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    with av.open(str(assets / "TUD-Stadtmitte.mp4")) as video:
        for number, frame in enumerate(video.decode(video=0)):
            if number % 10 == 0:
                cv2.imwrite(str(folder / f"{number:03d}.png"), frame.to_ndarray(format="bgr24"))
    return folder


def test_killed_building_goes_on_with_the_variant_that_it_was_killed_at(env: dict[str, str], pictures: Path) -> None:
    """Killed while it quantises, and again at the next variant: each time, what was judged is not done again."""
    killed_at(building(env, pictures), "fastestdet: int8, ")
    begun = judged(env)
    assert {"onnxruntime/cpu/fp32/352x352", "openvino/cpu/fp32/352x352"} <= set(begun)
    assert not any("int8" in name for name in begun)
    assert left_behind(env)
    killed_at(building(env, pictures), "fastestdet/openvino/cpu/int8/352x352: ")
    assert set(judged(env)) == {*begun, "onnxruntime/cpu/int8/352x352"}
    resumed = known(building(env, pictures))
    assert {name for name, was in resumed.items() if not was} == {"openvino/cpu/int8/352x352"}
    assert not left_behind(env)
    whole = judged(env)
    again = build(["fastestdet"], calibrate=[str(pictures)], env=env)
    assert {one.known for one in again.built} == {True}
    assert judged(env) == whole

"""``llamapipe simulate`` and ``llamapipe capacity`` on a small scenario."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

SCENARIO = """
name: small
duration_s: 5
machines:
  - {type: cpu, device: cpu, workers: 3, price_per_hour: 1, source: test}
pipeline:
  slo: {latency_p95_ms: 300}
  stages:
    - {name: detect, item_ms: 30, source: test}
    - {name: draw, after: detect, item_ms: 2, source: test}
streams: {count: 2, fps: 10}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO)
    return path


def test_a_row_a_policy_and_the_bound(cli: Cli, scenario: Path, tmp_path: Path) -> None:
    ended = cli("simulate", str(scenario), "--policy", "all", "-o", str(tmp_path / "out"))
    assert ended.code == 0
    rows = [line.split()[0] for line in ended.out.splitlines()]
    assert rows[0] == "policy"
    assert rows[-1] == "oracle"
    assert {"llamapipe", "llama", "nexus", "infaas"} < set(rows)
    page = (tmp_path / "out" / "simulation.html").read_text()
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert (tmp_path / "out" / "simulation.csv").read_text().startswith("scenario,policy,at_s")
    again = cli("simulate", str(scenario), "-o", str(tmp_path / "out"))
    assert again.code == 1
    assert "--force" in again.err


def test_the_same_seed_gives_the_same_files(cli: Cli, scenario: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert cli("simulate", str(scenario), "-o", str(tmp_path / name)).code == 0
    for file in ("simulation.json", "simulation.csv", "simulation.html"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_capacity_finds_a_fleet_and_more_traffic_needs_more(cli: Cli, scenario: Path) -> None:
    found = [json.loads(cli("capacity", str(scenario), "--json", "--scale", str(n)).out)["best"] for n in (1, 4)]
    assert found[0]["met"]
    assert found[1]["price_per_hour"] > found[0]["price_per_hour"]


def test_mistakes_are_named(cli: Cli, scenario: Path) -> None:
    assert "unknown policy 'best'" in cli("simulate", str(scenario), "--policy", "best").err
    assert "cannot be read" in cli("simulate", "nowhere.yaml").err
    for scale in ("0", "nan", "inf"):
        assert f"scale of {scale}: expected a number above 0" in cli("capacity", str(scenario), "--scale", scale).err
    assert "--seed '-1'" in cli("simulate", str(scenario), "--seed=-1").err
    impossible = scenario.with_name("impossible.yaml")
    impossible.write_text(SCENARIO.replace("300", "10"))
    ended = cli("capacity", str(impossible), "-q")
    assert ended.code == 2
    assert "no fleet" in ended.err

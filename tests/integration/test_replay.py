"""Real runs, told again: the log through a fresh control, and the same plan in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llamapipe.control import read_log, replay
from llamapipe.session import RunRequest, run
from llamapipe.sim import profile_of_log, simulate
from llamapipe.spec import OpSpec, PipelineSpec, SinkSpec

CLIPS = {"people": "TUD-Stadtmitte.mp4", "blur-faces": "TUD-Stadtmitte.mp4", "traffic": "car-detection.mp4"}
# Too much for any machine at the clip's own 25 frames a second.
SLOW = '''
import time

from llamapipe.data import Events, Image
from llamapipe.operator import operator


@operator("test/slow@v1", inputs={"frames": "frames"}, outputs={"events": "events"})
def slow(frames: Image) -> Events:
    """Takes its time."""
    time.sleep(0.1)
    return Events([])
'''


def recorded(tmp_path: Path, **request: Any) -> list[bytes]:
    summary = run(RunRequest(output=tmp_path / "out", record_events=True, **request))
    assert summary.outcome == "done"
    return (tmp_path / "out" / "events.jsonl").read_bytes().splitlines()


@pytest.fixture(autouse=True)
def mirror(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMAPIPE_ASSET_MIRROR", str(assets))


@pytest.mark.assets
@pytest.mark.parametrize("pipeline", CLIPS)
def test_a_run_replays_to_the_same_actions_and_the_simulator_ends_with_its_ledger(
    pipeline: str, assets: Path, tmp_path: Path
) -> None:
    """With what the run's own log shows: mean durations, and the moments of everything."""
    lines = recorded(tmp_path, pipeline=pipeline, sources=[str(assets / CLIPS[pipeline])], max_frames=16)
    controller = replay(lines)
    controller.check_invariants()
    assert controller.ledger.decoded == {Path(CLIPS[pipeline]).stem: 16}
    plan, entries = read_log(lines)
    steps = list(entries)
    for moments in (False, True):
        result = simulate(plan, profile_of_log(plan, steps, moments=moments))
        assert result.outcome == "done"
        assert result.ledger.to_dict() == controller.ledger.to_dict()


@pytest.mark.assets
@pytest.mark.parametrize("policy", ["drop-oldest", "drop-newest"])
def test_the_frames_that_a_paced_run_dropped_are_dropped_again(policy: Any, assets: Path, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    op = OpSpec(name="slow", type="test/slow@v1", inputs={"frames": ("$source.frames",)})
    sink = SinkSpec(name="lines", type="llamapipe/jsonl@v1", inputs=("$ops.slow.events",))
    lines = recorded(
        tmp_path,
        pipeline=PipelineSpec(name="slow", ops=(op,), sinks=(sink,)),
        ops_files=[tmp_path / "slow.py"],
        sources=[str(assets / CLIPS["people"])],
        max_frames=60,
        realtime=True,
        drop_policy=policy,
        workers=1,
    )
    controller = replay(lines)
    assert controller.ledger.accounts["TUD-Stadtmitte", "lines"].dropped["overload"] > 0
    plan, entries = read_log(lines)
    simulated: list[Any] = []
    result = simulate(
        plan, profile_of_log(plan, entries, moments=True), observe=lambda _, __, actions: simulated.extend(actions)
    )
    assert result.ledger.to_dict() == controller.ledger.to_dict()
    assert simulated == [action for entry in read_log(lines)[1] for action in entry.actions]

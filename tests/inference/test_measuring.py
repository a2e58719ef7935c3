"""A measurement is made in a process of its own, and whatever happens there is told."""

from pathlib import Path

import numpy as np
import pytest

from llamapipe.catalog import Variant
from llamapipe.clock import system_env
from llamapipe.inference import AssetStore, cache_root, measuring, models
from llamapipe.inference.measuring import Care, measure
from llamapipe.inference.models import register_file
from llamapipe.testing.clock import FakeClock
from tests.inference.networks import always

CARE = Care(least_s=0.01, least_calls=5, most_s=0.1, attempts=1)
FRAMES = np.zeros((2, 48, 64, 3), np.uint8)


@pytest.fixture
def variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Variant:
    monkeypatch.setattr(models, "_LOCAL", {})
    path = always(tmp_path / "net.onnx", np.zeros((1, 85, 2, 2), np.float32))
    model = register_file(path, decoder="fastestdet", labels=[str(i) for i in range(80)], input_size=(32, 32))
    return Variant(model.name, "onnxruntime", "cpu", "fp32", (32, 32), 1)


def measured(variant: Variant, batches):
    env = system_env()
    return list(measure(variant, batches, FRAMES, assets=AssetStore(cache_root(env), env=env), env=env, care=CARE))


def test_each_batch_is_measured_or_says_why_not(variant):
    one, two = measured(variant, [1, 2])
    assert not one.error
    assert len(one.seconds) >= 5
    assert 0 < one.median_s <= one.p95_s < 1
    assert 0 < one.core_s < 1
    assert 0 < one.load_s < 10
    assert 0 < one.peak_memory_bytes < 500_000_000
    assert (two.batch, two.seconds) == (2, ())
    assert "expected (3, 85, 2, 2)" in two.error  # no batch gives more than one answer


def test_a_process_that_dies_says_how(variant, tmp_path, monkeypatch):
    """Nothing follows after it."""
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\necho out of luck >&2\nkill -SEGV $$\n")
    dying.chmod(0o755)
    monkeypatch.setattr(measuring.sys, "executable", str(dying))
    [only] = measured(variant, [1, 2])
    assert only.error == "the measuring process ended with signal 11: out of luck"


def test_a_disturbed_measurement_is_repeated_and_the_calmest_counts(monkeypatch):
    shares = iter([0.5, 0.2, 0.3, 0.4, 0.6])
    monkeypatch.setattr(measuring, "_called", lambda call, care, clock: ([share := next(shares)], share, share))
    slept = FakeClock()
    best = measuring._calmest(lambda: 0.0, Care(), slept)
    assert best == ([0.2], 0.2, 0.2)
    shares = iter([0.5, 0.01, 0.3])
    assert measuring._calmest(lambda: 0.0, Care(), slept)[2] == 0.01
    assert next(shares) == 0.3

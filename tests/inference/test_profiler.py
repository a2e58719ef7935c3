"""Profiles come from few measurements, are kept as they come, and are gone on with after an interruption."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from llamapipe.catalog import Profile, ProfileState, Variant
from llamapipe.errors import UsageError
from llamapipe.inference.catalogue import CatalogueStore
from llamapipe.inference.measuring import Measurement
from llamapipe.inference.models import MODELS
from llamapipe.inference.profiler import Candidate, Profiled, candidates, profile_models

BATCHES = (1, 2, 4, 8, 16)


def variant(side=416, threads=1, backend="openvino", precision="fp32", model="yolox-nano"):
    return Variant(model, backend, "cpu", precision, (side, side), threads)


FOUND = [
    Candidate(variant(side, threads, precision=precision), BATCHES)
    for precision in ("bf16", "fp32")
    for side in (256, 416)
    for threads in (1, 2)
]


class Machine:
    """Latencies by a formula; remembers what was measured, and stops after so many."""

    def __init__(self, *, most: int | None = None, errors=lambda variant, batch: "") -> None:
        self.asked: list[tuple[str, int]] = []
        self._most = most
        self._errors = errors

    def __call__(self, variant, batches):
        for batch in batches:
            if self._most is not None and len(self.asked) >= self._most:
                raise KeyboardInterrupt
            self.asked.append((variant.name, batch))
            error = self._errors(variant, batch)
            if error:
                yield Measurement(batch, error)
                continue
            seconds = 1e-7 * variant.input_size[0] ** 2 * batch / variant.threads + 0.001
            yield Measurement(batch, "", 0.3, 50_000_000, (seconds,) * 9, seconds * variant.threads)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CatalogueStore]:
    with CatalogueStore(tmp_path, hardware="here") as store:
        yield store


def test_a_share_of_the_grid_is_measured_and_every_batch_is_kept(store):
    machine = Machine()
    profiled = profile_models(FOUND, store=store, measure=machine)
    assert profiled.num_points == 40
    assert profiled.num_measured <= 6
    kept = store.profiles()
    assert [p.variant.name for p in kept] == sorted(c.variant.name for c in FOUND)
    assert all(tuple(point.batch for point in p.points) == BATCHES for p in kept)
    assert sum(bool(point.count) for p in kept for point in p.points) == profiled.num_measured
    assert all(p.tasks == MODELS["yolox-nano"].tasks for p in kept)
    assert all(p.accuracy_of("coco_ap").value == 0.258 for p in kept)
    assert all(point.p95_s >= point.median_s and point.spread >= 0 for p in kept for point in p.points)


def test_a_profiling_that_was_interrupted_goes_on(store):
    with pytest.raises(KeyboardInterrupt):
        profile_models(FOUND, store=store, measure=Machine(most=3))
    assert sum(len(p.points) for p in store.profiles()) == 3
    machine = Machine()
    profiled = profile_models(FOUND, store=store, measure=machine)
    assert profiled.num_known == 3
    whole = Machine()
    with CatalogueStore(store.folder.parent / "other", hardware="here") as other:
        profile_models(FOUND, store=other, measure=whole)
    assert set(machine.asked).isdisjoint(whole.asked[:3])
    assert profiled.num_measured <= 6


def test_what_is_known_is_not_measured_again_unless_asked(store):
    profile_models(FOUND, store=store, measure=Machine())
    idle = Machine()
    profile_models(FOUND, store=store, measure=idle)
    assert idle.asked == []
    profile_models(FOUND, store=store, measure=idle, again=True)
    assert len(idle.asked) >= 4


def test_batches_that_the_network_refuses_are_left_out(store):
    machine = Machine(errors=lambda variant, batch: "the batch of 1 is built in" if batch > 1 else "")
    profiled = profile_models(FOUND, store=store, measure=machine)
    assert profiled.num_points == 8
    assert all([point.batch for point in p.points] == [1] for p in store.profiles())
    assert sum(batch > 1 for _, batch in machine.asked) <= 2


def test_a_variant_that_cannot_be_loaded_is_kept_with_the_reason(store):
    found = [Candidate(variant(precision=precision), BATCHES) for precision in ("bf16", "fp32")]
    machine = Machine(errors=lambda variant, batch: "out of memory" if variant.precision == "bf16" else "")
    profile_models(found, store=store, measure=machine, share=1.0)
    bf16, fp32 = store.profiles()
    assert (bf16.state, bf16.reason) == (ProfileState.REJECTED, "cannot be loaded: out of memory")
    assert fp32.state == ProfileState.READY
    with pytest.raises(UsageError, match="out of memory"):
        profile_models(found[:1], store=store, measure=machine, again=True)


def test_a_rejected_variant_is_left_as_it_is(store):
    rejected = Profile(FOUND[0].variant, "here", ProfileState.REJECTED.value, "agreement 0.4")
    store.put(rejected)
    machine = Machine()
    for again in (False, True):
        profile_models(FOUND, store=store, measure=machine, again=again)
        assert store.profile(rejected.variant.name) == rejected
        assert rejected.variant.name not in {name for name, _ in machine.asked}


def test_predictions_of_too_few_measurements_are_called_guesses(store):
    def profiled(deviation: float) -> Profiled:
        return Profiled((), 10, 2, 0, 0.03, deviation)

    assert profiled(1.02).guessed
    assert not profiled(0.1).guessed


def test_accuracies_that_were_found_stay(store):
    from llamapipe.catalog import AccuracyFigure

    figure = AccuracyFigure("f1", 0.97, "clip", "agreement", 0.95, 0.98)
    store.put(Profile(FOUND[0].variant, "here", accuracy=(figure,), file_sha256="source"))
    profile_models(FOUND, store=store, measure=Machine(), digests={"yolox-nano": "source"})
    kept = store.profile(FOUND[0].variant.name)
    assert kept.accuracy == (figure,)
    assert kept.file_sha256 == "source"


def test_what_was_measured_of_another_file_is_measured_anew(store):
    first = profile_models(FOUND, store=store, measure=Machine(), digests={"yolox-nano": "old"})
    assert profile_models(FOUND, store=store, measure=Machine(), digests={"yolox-nano": "old"}).num_known > 0
    again = profile_models(FOUND, store=store, measure=Machine(), digests={"yolox-nano": "new"})
    assert again.num_known == 0
    assert again.num_measured == first.num_measured


def test_candidates_are_what_the_libraries_here_can_do():
    found = candidates(MODELS["mtcnn"], max_threads=2)
    assert {c.variant.backend for c in found} <= {"onnxruntime", "openvino"}
    assert {c.batches for c in found} == {(1,)}
    assert {c.variant.threads for c in found} == {1, 2}
    assert len({c.variant.name for c in found}) == len(found)
    assert msgspec.json.encode([c.variant for c in found])

"""Which variants a stage may be run with: what the user named, what is right enough, what nothing else beats."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llamapipe.catalog import AccuracyFigure, BatchPoint, Configuration, Floor, Profile, Variant
from llamapipe.errors import UsageError
from llamapipe.session.candidates import Needs, candidates_for

DEFAULT = Variant("nano", "onnxruntime", input_size=(416, 416))
CHOOSING = Needs(floor=Floor(0.8), chooses=True, latency_s=0.2, threads=1)


def profile(
    model: str = "nano",
    backend: str = "onnxruntime",
    *,
    size: int = 416,
    precision: str = "fp32",
    threads: int = 1,
    ms: float = 10.0,
    batch_ms: float | None = None,
    agreement: float = 0.9,
    state: str = "ready",
    coco_ap: float | None = None,
) -> Profile:
    variant = Variant(model, backend, "cpu", precision, (size, size), threads)
    last = 8 * ms if batch_ms is None else batch_ms
    points = (
        BatchPoint(1, ms / 1e3, 1.2 * ms / 1e3, ms / 1e3),
        BatchPoint(8, last / 1e3, 1.2 * last / 1e3, last / 1e3),
    )
    figures = [AccuracyFigure("agreement", agreement, "calibration", "agreement")]
    if coco_ap is not None:
        figures.append(AccuracyFigure("coco_ap", coco_ap, "coco", "published"))
    return Profile(variant, "here", state=state, points=points, accuracy=tuple(figures), tasks=("person-detection",))


def chosen(profiles: list[Profile], needs: Needs, **wanted: object) -> list[tuple[str, int]]:
    given = {"task": "person-detection", **wanted}
    found = candidates_for(DEFAULT, given, profiles, needs, lambda v, n: Configuration(v, n))
    return [(c.configuration.variant.name, c.configuration.batch) for c in found if c.configuration.variant]


def test_nothing_measured_leaves_the_first_variant_that_fits() -> None:
    assert chosen([], CHOOSING) == []


def test_the_cheapest_that_is_right_enough_is_budgeted_for() -> None:
    profiles = [profile(ms=10), profile("tiny", ms=4, agreement=0.7), profile("small", ms=20, agreement=1.0)]
    names = [name for name, _ in chosen(profiles, CHOOSING)]
    assert names[0] == "nano/onnxruntime/cpu/fp32/416x416/t1"
    assert not any(name.startswith("tiny") for name in names)


def test_what_is_beaten_in_everything_is_not_loaded() -> None:
    profiles = [profile(ms=10), profile(backend="openvino", ms=12), profile(precision="int8", ms=6, agreement=0.85)]
    assert [name.split("/")[3] for name, _ in chosen(profiles, CHOOSING)] == ["int8"]
    batching = profile(precision="int8", ms=14, batch_ms=32, agreement=0.85)
    assert [name.split("/")[3] for name, _ in chosen([profile(ms=10), batching], CHOOSING)] == ["int8", "fp32"]


def test_without_an_objective_there_is_one_candidate() -> None:
    profiles = [profile(ms=10), profile(precision="int8", ms=6, agreement=0.85)]
    assert len(chosen(profiles, Needs(floor=Floor(0.8)))) == 1


def test_without_a_floor_the_model_its_size_and_its_precision_stay() -> None:
    profiles = [profile(ms=10), profile(backend="openvino", ms=7), profile(size=256, ms=3), profile("tiny", ms=1)]
    profiles += [profile(backend="openvino", precision=precision, ms=2) for precision in ("bf16", "int8")]
    assert chosen(profiles, Needs(threads=1)) == [("nano/openvino/cpu/fp32/416x416/t1", 1)]


def test_what_the_user_named_is_kept() -> None:
    profiles = [profile(ms=10), profile(backend="openvino", ms=7), profile("tiny", ms=1)]
    assert chosen(profiles, CHOOSING, backend="onnxruntime", model="nano")[0][0].startswith("nano/onnxruntime")


def test_rejected_variants_and_other_thread_counts_are_left_out() -> None:
    profiles = [profile(ms=10), profile(precision="int8", ms=1, state="rejected"), profile(ms=5, threads=2)]
    assert [name for name, _ in chosen(profiles, CHOOSING)] == ["nano/onnxruntime/cpu/fp32/416x416/t1"]


def test_a_batch_is_as_large_as_it_pays() -> None:
    assert chosen([profile(ms=10)], CHOOSING)[0][1] == 1
    assert chosen([profile(ms=10, batch_ms=20)], CHOOSING)[0][1] == 8
    assert chosen([profile(ms=10, batch_ms=20)], CHOOSING, batch=4)[0][1] == 4


def test_a_floor_that_nothing_reaches_is_refused_with_the_best_there_is() -> None:
    with pytest.raises(UsageError, match=r"agreement >= 0\.99 cannot be had: the best .* nano/.* with 0\.900"):
        chosen([profile()], Needs(floor=Floor(0.99)))
    with pytest.raises(UsageError, match="no variant here has that figure"):
        chosen([profile()], Needs(floor=Floor(0.25, "coco_ap")))
    assert chosen([profile(coco_ap=0.258)], Needs(floor=Floor(0.25, "coco_ap")))


def test_a_second_floor_lets_less_right_ones_in_for_an_overload() -> None:
    profiles = [profile(ms=10), profile("tiny", ms=2, agreement=0.6)]
    needs = Needs(floor=Floor(0.8), second_floor=0.5, chooses=True, latency_s=0.2, threads=1)
    names = [name for name, _ in chosen(profiles, needs)]
    assert names[0].startswith("nano")
    assert names[1].startswith("tiny")


def test_a_batch_is_no_larger_than_what_comes_in_time() -> None:
    cheaper = [profile(ms=10, batch_ms=30)]

    def batch(latency_s: float | None, frames_per_s: float | None, **wanted: object) -> int:
        needs = replace(CHOOSING, latency_s=latency_s, frames_per_s=frames_per_s)
        return chosen(cheaper, needs, **wanted)[0][1]

    assert batch(0.03, 25.0) == 1  # the second frame would come after the first is late
    assert batch(0.2, 25.0) == 3
    assert batch(0.2, 20 * 25.0) == 8
    assert batch(0.03, None) == 8  # a file that is read as fast as it goes
    assert batch(None, 25.0) == 8
    assert batch(0.03, 25.0, batch=4) == 4  # it was asked for

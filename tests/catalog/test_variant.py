"""Variants and configurations: values that name, compare and travel."""

from __future__ import annotations

import msgspec
import pytest

from llamapipe.catalog import Accuracy, AccuracyKind, Configuration, Precision, Variant

VARIANT = Variant("yolox-nano", "onnxruntime", input_size=(416, 640), threads=2)


def test_a_variant_is_named_by_all_that_makes_it_one() -> None:
    """Height stands before width, as in arrays."""
    assert VARIANT.name == "yolox-nano/onnxruntime/cpu/fp32/416x640/t2"


@pytest.mark.parametrize(
    "change",
    [{"model": "m"}, {"backend": "b"}, {"device": "d"}, {"precision": "p"}, {"input_size": (1, 2)}, {"threads": 9}],
)
def test_two_variants_that_differ_have_different_names(change: dict[str, object]) -> None:
    other = msgspec.structs.replace(VARIANT, **change)
    assert other != VARIANT
    assert other.name != VARIANT.name


def test_a_variant_is_a_key_and_cannot_change() -> None:
    assert {VARIANT: 1}[Variant("yolox-nano", "onnxruntime", "cpu", "fp32", (416, 640), 2)] == 1
    with pytest.raises(AttributeError):
        VARIANT.threads = 1  # type: ignore[misc]


def test_precision_is_explicit_from_the_start() -> None:
    assert Variant("m", "b").precision == Precision.FP32 == "fp32"


@pytest.mark.parametrize("configuration", [Configuration(), Configuration(VARIANT, 8, {"pad": 0.2}, 0.3, ("person",))])
def test_a_configuration_travels_unchanged(configuration: Configuration) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(configuration), type=Configuration) == configuration


def test_figures_of_different_kinds_are_not_equal() -> None:
    figures = {Accuracy("f1", 0.9, "bikes", kind) for kind in AccuracyKind}
    assert len(figures) == 3

"""A variant is how a model runs; a configuration is a variant and every other knob of a stage."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

__all__ = ["Configuration", "Precision", "Variant"]


class Precision(StrEnum):
    """Numeric precision of inference; always explicit, never a library's default."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"


class Variant(msgspec.Struct, frozen=True, array_like=True):
    """model x backend x device x precision x input size x threads."""

    model: str
    backend: str  # "onnxruntime", "openvino", "torch", "tensorrt"
    device: str = "cpu"
    precision: str = "fp32"
    input_size: tuple[int, int] = (0, 0)  # (height, width)
    threads: int = 1

    @property
    def name(self) -> str:
        """``yolox-nano/onnxruntime/cpu/fp32/416x416/t1``."""
        height, width = self.input_size
        return f"{self.model}/{self.backend}/{self.device}/{self.precision}/{height}x{width}/t{self.threads}"


class Configuration(msgspec.Struct, frozen=True):
    """What a stage runs with: a variant (None for operators without a model), a batch, the other knobs."""

    variant: Variant | None = None
    batch: int = 1
    params: Mapping[str, Any] = {}  # the operator's parameters, defaults filled in
    min_score: float | None = None  # boxes below are not kept; None: the model's own default
    labels: tuple[str, ...] = ()  # only these labels are kept; empty: all
    partial: bool = False  # batches are often not full: they are to take no longer than what is in them

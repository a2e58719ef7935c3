"""What a backend is: an inference library behind one interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["BATCH", "Backend", "BackendStatus", "LoadRequest", "Network", "Request"]

BATCH = "batch"
"""Name of the dimension that stands for the number of pictures in networks that take any."""


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """What can be done with a backend here, for `llamapipe doctor`."""

    name: str
    available: bool
    version: str = ""
    devices: tuple[str, ...] = ()
    reason: str = ""  # why it is not available
    hint: str = ""  # the command that mends it


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """A network to load. ``input_size`` is (height, width)."""

    path: Path
    format: str  # "onnx", "tflite", "tf-graph", "openvino-ir", "torchscript", "torch-export"
    input_size: tuple[int, int]
    layout: str  # "nchw" or "nhwc"
    batch: int
    device: str
    precision: str
    threads: int
    output_names: tuple[str, ...] = ()  # outputs wanted, in order; empty: all
    any_size: bool = False  # pictures and batches differ from call to call; input_size and batch say nothing
    options: Mapping[str, str] = field(default_factory=dict)
    compiled: Path | None = None  # folder in which the backend may keep what it compiles, for the next load


class Request(Protocol):
    """One caller's own way into a network. Used by one thread."""

    def infer(self, tensor: NDArray[np.generic]) -> Sequence[NDArray[np.float32]]:
        """Outputs in order; they stay valid until the next call."""
        ...


class Network(Protocol):
    """A loaded network. Any number of requests may be used at once."""

    @property
    def output_shapes(self) -> Sequence[Sequence[int]]:
        """Per output, -1 where only a run can tell."""
        ...

    def request(self) -> Request:
        """A way in for one thread."""
        ...


class Backend(Protocol):
    """An inference library."""

    @property
    def name(self) -> str:
        """As users write it."""
        ...

    @property
    def formats(self) -> frozenset[str]:
        """Formats of networks that it reads."""
        ...

    def status(self) -> BackendStatus:
        """What works here. Imports the library."""
        ...

    def precisions(self, device: str) -> frozenset[str]:
        """What it can compute in on a device of this machine."""
        ...

    def load(self, request: LoadRequest) -> Network:
        """Load a network. Raises BackendError where it cannot."""
        ...

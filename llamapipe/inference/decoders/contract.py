"""What a decoder is: how pictures become a network's input, and its outputs boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Boxes
from llamapipe.errors import DecoderError

__all__ = ["Decoder", "Letterbox", "Preprocess", "Wanted", "fits", "refuse"]


@dataclass(frozen=True, slots=True)
class Preprocess:
    """What a network wants to be given: ``(pixel * scale - mean) / std`` per channel."""

    resize: Literal["letterbox-topleft", "letterbox-center", "stretch"]
    colour: Literal["bgr", "rgb"]
    layout: Literal["nchw", "nhwc"] = "nchw"
    dtype: Literal["float32", "uint8"] = "float32"
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pad_value: float = 0.0  # pixel value beside a letterboxed picture


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where a picture lies in the network's input: ``network = picture * scale + pad``, pixels."""

    scale_x: float
    scale_y: float
    pad_x: float
    pad_y: float
    width: int  # of the picture
    height: int

    def to_picture(self, xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes (n, 4) in the picture's pixels, cut at its edges."""
        pad = np.array([self.pad_x, self.pad_y] * 2, np.float32)
        scale = np.array([self.scale_x, self.scale_y] * 2, np.float32)
        limit = np.array([self.width, self.height] * 2, np.float32)
        moved: NDArray[np.float32] = np.clip((xyxy - pad) / scale, 0, limit).astype(np.float32, copy=False)
        return moved


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which of a network's findings are kept."""

    names: tuple[str, ...]  # label table of the network
    min_score: float
    input_size: tuple[int, int]  # (height, width) of the network's input
    labels: NDArray[np.int32] | None = None  # indices into names; None: all
    max_iou: float = 0.5  # of two boxes that overlap more, the surer one is kept
    max_items: int = 300


class Decoder(Protocol):
    """Turns one architecture's outputs into boxes."""

    @property
    def name(self) -> str:
        """As users write it."""
        ...

    @property
    def preprocess(self) -> Preprocess:
        """What the network wants."""
        ...

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs that it reads, in this order; empty: all of them in the network's order."""
        ...

    @property
    def default_min_score(self) -> float:
        """Below it most findings are wrong."""
        ...

    def check(
        self, shapes: Sequence[Sequence[int]], *, batch: int, input_size: tuple[int, int], num_labels: int
    ) -> None:
        """Raise DecoderError unless outputs of these shapes are the decoder's own. -1: unknown until it has run."""
        ...

    def decode(
        self, outputs: Sequence[NDArray[np.float32]], letterboxes: Sequence[Letterbox], wanted: Wanted
    ) -> list[Boxes]:
        """Boxes of each picture in its own pixels, best score first. ``outputs`` may hold more pictures (padding)."""
        ...


def refuse(decoder: str, expected: str, shapes: Sequence[Sequence[int]]) -> DecoderError:
    """The error for outputs that are none of the decoder's."""
    got = ", ".join("x".join(str(n) for n in shape) for shape in shapes) or "no outputs"
    return DecoderError(
        f"decoder {decoder}: expected {expected}, the network gives {got}",
        hint="name the decoder that the network was made for",
    )


def fits(shape: Sequence[int], expected: Sequence[int]) -> bool:
    """Whether a shape is the expected one, -1 standing for anything."""
    return len(shape) == len(expected) and all(n in (-1, m) for n, m in zip(shape, expected, strict=True))

"""How networks' outputs become boxes. A decoder refuses outputs that it was not made for."""

from collections.abc import Mapping

from llamapipe.inference.decoders.anchors import BlazeFace
from llamapipe.inference.decoders.contract import Decoder, Letterbox, Preprocess, Wanted
from llamapipe.inference.decoders.finished import Classifier, Ssd
from llamapipe.inference.decoders.grids import FastestDet, YoloV8, Yolox
from llamapipe.inference.decoders.suppression import suppress

__all__ = ["DECODERS", "Decoder", "Letterbox", "Preprocess", "Wanted", "suppress"]

DECODERS: Mapping[str, Decoder] = {
    decoder.name: decoder for decoder in (Yolox(), FastestDet(), Ssd(), BlazeFace(), Classifier(), YoloV8())
}
"""Decoders by the name that users write."""

"""Sources and sinks."""

from llamapipe.media.contract import (
    Decoded,
    Outcome,
    Sink,
    SinkContext,
    SinkItem,
    SourceInfo,
    Undecodable,
    VideoSource,
)
from llamapipe.media.expand import SourceSpec, expand_sources
from llamapipe.media.packing import PictureLayout, layout_of, pack, unpack
from llamapipe.media.pictures import AvPicture, BgrPicture
from llamapipe.media.sinks import SINKS, SinkType, parse_sink
from llamapipe.media.sources import open_source

__all__ = [
    "SINKS",
    "AvPicture",
    "BgrPicture",
    "Decoded",
    "Outcome",
    "PictureLayout",
    "Sink",
    "SinkContext",
    "SinkItem",
    "SinkType",
    "SourceInfo",
    "SourceSpec",
    "Undecodable",
    "VideoSource",
    "expand_sources",
    "layout_of",
    "open_source",
    "pack",
    "parse_sink",
    "unpack",
]

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
from llamapipe.media.pictures import AvPicture, BgrPicture
from llamapipe.media.sinks import SINKS, SinkType, parse_sink
from llamapipe.media.sources import open_source

__all__ = [
    "SINKS",
    "AvPicture",
    "BgrPicture",
    "Decoded",
    "Outcome",
    "Sink",
    "SinkContext",
    "SinkItem",
    "SinkType",
    "SourceInfo",
    "SourceSpec",
    "Undecodable",
    "VideoSource",
    "expand_sources",
    "open_source",
    "parse_sink",
]

"""Sources and sinks."""

from llamapipe.media.access import check_part, open_source, open_sources
from llamapipe.media.awaiting import AwaitedSource
from llamapipe.media.connecting import ReconnectPolicy
from llamapipe.media.contract import (
    Decoded,
    Outcome,
    Sink,
    SinkContext,
    SinkItem,
    SourceInfo,
    SourceStats,
    Undecodable,
    VideoSource,
)
from llamapipe.media.expand import SourceSpec, expand_sources
from llamapipe.media.packing import PictureLayout, layout_of, pack, renewed, unpack
from llamapipe.media.pictures import AvPicture, BgrPicture
from llamapipe.media.sampling import activity, sample_frames
from llamapipe.media.sinks import SINKS, SinkType, parse_sink

__all__ = [
    "SINKS",
    "AvPicture",
    "AwaitedSource",
    "BgrPicture",
    "Decoded",
    "Outcome",
    "PictureLayout",
    "ReconnectPolicy",
    "Sink",
    "SinkContext",
    "SinkItem",
    "SinkType",
    "SourceInfo",
    "SourceSpec",
    "SourceStats",
    "Undecodable",
    "VideoSource",
    "expand_sources",
    "layout_of",
    "check_part",
    "open_source",
    "open_sources",
    "pack",
    "parse_sink",
    "activity",
    "renewed",
    "sample_frames",
    "unpack",
]

"""Sources and sinks."""

from llamapipe.media.sinks import SINKS, SinkType, parse_sink

__all__ = ["SINKS", "SinkType", "parse_sink"]

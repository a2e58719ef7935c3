"""Where results go: files that appear when complete, and endpoints."""

from llamapipe.media.sinks.kinds import SINKS, SinkType, parse_sink, sink_type

__all__ = ["SINKS", "SinkType", "parse_sink", "sink_type"]

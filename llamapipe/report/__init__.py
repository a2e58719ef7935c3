"""What a run did: the summary and the HTML report."""

from llamapipe.report.html import write_report_html
from llamapipe.report.plan_view import Considered, PlanView, StageView
from llamapipe.report.shadowed import ShadowSummary, ShadowWindow
from llamapipe.report.summary import (
    ConfigurationChange,
    CoresHeld,
    CostSummary,
    Decided,
    FrameCounts,
    Quantiles,
    RunSummary,
    ServedBy,
    SloResult,
    StageRuns,
    StageSummary,
    StreamSummary,
)
from llamapipe.report.trace import LatencyTrace, PictureStrip, Span, TraceRecorder
from llamapipe.report.tuned import TriedRow, TuningSummary
from llamapipe.report.written import PAGE, check_replaceable, write_run_json, write_whole

__all__ = [
    "PAGE",
    "ConfigurationChange",
    "CoresHeld",
    "Considered",
    "CostSummary",
    "Decided",
    "FrameCounts",
    "LatencyTrace",
    "PictureStrip",
    "PlanView",
    "Quantiles",
    "RunSummary",
    "ServedBy",
    "ShadowSummary",
    "ShadowWindow",
    "SloResult",
    "Span",
    "StageRuns",
    "StageSummary",
    "StageView",
    "StreamSummary",
    "TraceRecorder",
    "TriedRow",
    "TuningSummary",
    "check_replaceable",
    "write_report_html",
    "write_run_json",
    "write_whole",
]

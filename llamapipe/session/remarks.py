"""What is known of a run before its first frame that its user should know, too."""

from __future__ import annotations

from llamapipe.report import SloResult
from llamapipe.session.prepare import Prepared
from llamapipe.spec.cautions import cautions

__all__ = ["disturbed", "remarks_of"]


_MUCH = 0.02  # of the cores' time: what other machines of a host took was seen to double the 99th percentile from here


def disturbed(slo: SloResult | None, foreign: float) -> list[str]:
    """What else a missed objective may be due to; ``foreign`` is the share of the cores' time that others took."""
    if slo is None or slo.met or not slo.judged or foreign < _MUCH:
        return []
    who = "other processes, or other machines of this host,"
    return [f"{who} took {foreign:.0%} of the cores' time meanwhile: {slo.objective} may be met without them"]


def remarks_of(prepared: Prepared) -> list[str]:
    """A sentence each: for the notes of a plan, of a dry run, and of the run's summary."""
    request = prepared.request
    said = [str(caution) for caution in cautions(prepared.compiled.spec, tuned=request.config is not None)]
    agreed = request.agreed
    if request.without:
        said.append(f"without {', '.join(request.without)}, as was asked for")
    return [*request.remarks, *said, *([agreed.note] if agreed is not None and agreed.warns else [])]

"""What is known of a run before its first frame that its user should know, too."""

from __future__ import annotations

from llamapipe.session.prepare import Prepared
from llamapipe.spec.cautions import cautions

__all__ = ["remarks_of"]


def remarks_of(prepared: Prepared) -> list[str]:
    """A sentence each: for the notes of a plan, of a dry run, and of the run's summary."""
    request = prepared.request
    said = [str(caution) for caution in cautions(prepared.compiled.spec, tuned=request.config is not None)]
    agreed = request.agreed
    if request.without:
        said.append(f"without {', '.join(request.without)}, as was asked for")
    return [*request.remarks, *said, *([agreed.note] if agreed is not None and agreed.warns else [])]

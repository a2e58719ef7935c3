"""Which objective a run is judged by, and whether it can be judged at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llamapipe.errors import UsageError
from llamapipe.spec import SloSpec, parse_slo

__all__ = ["Objective", "objective_of"]


@dataclass(frozen=True, slots=True)
class Objective:
    """The objective of a run. ``unjudged`` says why it is not judged; empty when it is."""

    slo: SloSpec | None
    unjudged: str = ""

    @property
    def quantile(self) -> tuple[float, float] | None:
        """(quantile in 0..1, seconds) of the tightest latency bound; None for a deadline or nothing."""
        return None if self.slo is None else self.slo.latency

    @property
    def text(self) -> str:
        """``p95<=200ms``, ``deadline=30s``, with ``, drops<=1%`` where some may be; empty without an objective."""
        if self.slo is None:
            return ""
        drops = f", drops<={self.slo.max_drop_share * 100:g}%" if self.slo.max_drop_share else ""
        if self.slo.deadline_s is not None:
            return f"deadline={self.slo.deadline_s:g}s{drops}"
        bound = self.quantile
        return "" if bound is None else f"p{bound[0] * 100:g}<={bound[1] * 1000:g}ms{drops}"


def objective_of(
    given: str | None, spec_slo: SloSpec | None, *, unpaced: Sequence[str], live: Sequence[str]
) -> Objective:
    """The command line's objective, else the pipeline's.

    ``unpaced`` are the sources read as fast as they can be: their frames have no time of capture, so a latency
    cannot be judged on them. Raises UsageError where the command line asks for it all the same.
    """
    slo = parse_slo(given) if given is not None else spec_slo
    objective = Objective(slo)
    if objective.quantile is not None and unpaced:
        if given is not None:
            raise UsageError(
                f"--slo {given}: {unpaced[0]} is read as fast as it can be, so its frames have no latency to judge",
                hint="pace it with --realtime, or give a job's objective: --slo deadline=30s",
            )
        return Objective(slo, "a file read as fast as it can be has no latency to judge; use --realtime")
    if slo is not None and slo.deadline_s is not None and live:
        if given is not None:
            raise UsageError(
                f"--slo {given}: {live[0]} is a live source, it has no end to meet a deadline with",
                hint="give a latency: --slo p95=200ms",
            )
        return Objective(slo, "a live source has no end to meet a deadline with")
    return objective

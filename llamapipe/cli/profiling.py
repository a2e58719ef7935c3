"""``llamapipe models profile``: measure what variants take on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llamapipe.cli.options import Json, ModelNames, ModelsOfTask, Quiet, Verbose, terminal_of
from llamapipe.cli.terminal import Terminal

if TYPE_CHECKING:
    from llamapipe.catalog import Profile
    from llamapipe.inference.profiler import Profiled, Step

__all__ = ["profile"]


def profile(
    ctx: typer.Context,
    names: ModelNames = None,
    task: ModelsOfTask = None,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", metavar="VIDEO", help="What the models are called with.")
    ] = None,
    share: Annotated[
        float, typer.Option("--share", metavar="SHARE", help="Of the grid of variants and batches to measure at most.")
    ] = 0.15,
    again: Annotated[bool, typer.Option("--again", help="Measure anew what is known already.")] = False,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of the order of measuring.")] = 0,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Measure what the variants of models take on this machine: load time, latency by batch, cores, memory.

    A few points are measured and the others predicted; all is kept for every pipeline and query. Interrupted, it goes
    on where it was. Leave the machine alone meanwhile.
    """
    from llamapipe.clock import system_env
    from llamapipe.session.profiling import profile as run

    terminal = terminal_of(ctx)
    profiled = run(
        names or (),
        task=task,
        pictures=pictures,
        share=share,
        seed=seed,
        again=again,
        env=system_env(),
        on_step=lambda step: _show(terminal, step),
        on_fetch=terminal.note,
    )
    if json:
        terminal.json(_described(profiled))
        _warn(terminal, profiled, share)
        return
    terminal.table(
        ("variant", "load s", "MB", "ms at 1", "p95", "best batch", "items/s", "core-ms an item", "measured"),
        [_row(one) for one in profiled.profiles],
    )
    terminal.note(
        f"measured {profiled.num_measured} of {profiled.num_points} points"
        + (f" ({profiled.num_known} of them earlier)" if profiled.num_known else "")
        + f"; two measurements of a point differ by {profiled.spread:.1%}"
        + ("" if profiled.guessed else f", predictions are sure to {profiled.deviation:.1%}")
    )
    _warn(terminal, profiled, share)


def _warn(terminal: Terminal, profiled: Profiled, share: float) -> None:
    if profiled.guessed:
        predicted = profiled.num_points - profiled.num_measured
        terminal.warning(
            f"predictions of the {predicted} points that were not measured are no better than a guess (they may be "
            f"wrong by {profiled.deviation:.0%}): too little was measured",
            f"give --share {_larger(share):g}: what is measured already counts",
        )


def _larger(share: float) -> float:
    """The usual share, of which predictions are mostly good; where that was not enough, twice as much."""
    from llamapipe.tune import SHARE

    return SHARE if share < SHARE else min(1.0, 2 * share)


def _show(terminal: Terminal, step: Step) -> None:
    what = f"{step.num_measured}/{step.budget} {step.variant.name} batch {step.batch}"
    if step.measurement is None:
        return
    if step.measurement.error:
        terminal.note(f"{what}: cannot be had: {step.measurement.error}")
        return
    terminal.note(
        f"{what}: {step.measurement.median_s * 1e3:.2f} ms, p95 {step.measurement.p95_s * 1e3:.2f}, "
        f"load {step.measurement.load_s:.2f} s, {step.measurement.peak_memory_bytes / 1e6:.0f} MB"
        + (f"; others took {step.measurement.foreign:.0%} of its cores" if step.measurement.foreign > 0.05 else "")
    )


def _row(profile: Profile) -> tuple[object, ...]:
    if not profile.points:
        return (profile.variant.name, "-", "-", "-", "-", "-", "-", "-", profile.reason or "nothing")
    first, best = profile.points[0], profile.best_batch()
    return (
        profile.variant.name,
        f"{profile.load_s:.2f}",
        f"{profile.peak_memory_bytes / 1e6:.0f}",
        f"{first.median_s * 1e3:.2f}",
        f"{first.p95_s * 1e3:.2f}",
        best,
        f"{profile.throughput(best):.1f}",
        f"{profile.core_s_per_item(best) * 1e3:.2f}",
        f"{sum(bool(point.count) for point in profile.points)} of {len(profile.points)}",
    )


def _described(profiled: Profiled) -> dict[str, Any]:
    import msgspec

    fields = ("batch", "median_s", "p95_s", "core_s", "count", "spread", "peak_memory_bytes")
    return {
        "points": profiled.num_points,
        "measured": profiled.num_measured,
        "known": profiled.num_known,
        "spread": profiled.spread,
        "deviation": profiled.deviation,
        "profiles": [
            {
                "variant": one.variant.name,
                "hardware": one.hardware,
                "state": one.state,
                "reason": one.reason,
                "load_s": one.load_s,
                "peak_memory_bytes": one.peak_memory_bytes,
                "points": [dict(zip(fields, msgspec.structs.astuple(point), strict=True)) for point in one.points],
            }
            for one in profiled.profiles
        ],
    }

"""``llamapipe simulate`` and ``llamapipe capacity``: what would be, in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llamapipe.cli.options import Json, Quiet, Verbose, terminal_of
from llamapipe.errors import UsageError

__all__ = ["capacity", "simulate"]

Scenario = Annotated[Path, typer.Argument(metavar="SCENARIO.yaml", help="What is simulated; see samples/scenarios.")]
Scale = Annotated[float, typer.Option("--scale", metavar="FACTOR", help="So many times the streams of the file.")]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", min=0, help="Another seed than the file's.")]


def simulate(
    ctx: typer.Context,
    scenario: Scenario,
    policies: Annotated[
        list[str] | None,
        typer.Option("--policy", metavar="NAME", help="Another policy than the file's, or all; repeatable."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Folder for simulation.html, .csv and .json.")
    ] = None,
    scale: Scale = 1.0,
    seed: Seed = None,
    force: Annotated[bool, typer.Option("--force", help="Write over what is there.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Simulate pipelines, streams and machines with the very decisions of a run, and say what they come to.

    llamapipe simulate samples/scenarios/amber-alert.yaml --policy all -o out
    """
    from llamapipe.report.simulation import COLUMNS, simulation_rows
    from llamapipe.session.simulation import POLICIES, read_scenario, simulate_scenario

    terminal = terminal_of(ctx)
    wanted: list[str] = []
    for name in policies or []:
        wanted += POLICIES if name == "all" else [name]
    unknown = [name for name in wanted if name not in POLICIES]
    if unknown:
        raise UsageError(f"unknown policy {unknown[0]!r}: expected all, {', '.join(POLICIES)}")
    result = simulate_scenario(
        read_scenario(scenario, scale=scale, seed=seed),
        list(dict.fromkeys(wanted)),
        output=output,
        force=force,
        on_policy=lambda name: terminal.detail(f"simulating {name}"),
    )
    if json:
        terminal.json(result)
        return
    terminal.table(COLUMNS, simulation_rows(result.judgements, result.bound), title=result.scenario)
    if output is not None:
        terminal.note(f"wrote {output / 'simulation.html'}")


def capacity(
    ctx: typer.Context,
    scenario: Scenario,
    policy: Annotated[
        str | None, typer.Option("--policy", metavar="NAME", help="Another policy than the file's.")
    ] = None,
    scale: Scale = 1.0,
    seed: Seed = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Find the cheapest fleet that holds the scenario's objective: how many workers of each of its machine types.

    llamapipe capacity samples/scenarios/amber-alert.yaml --scale 2
    """
    from llamapipe.session.simulation import POLICIES, read_scenario
    from llamapipe.session.simulation import capacity as plan
    from llamapipe.sim.capacity import Trial

    terminal = terminal_of(ctx)
    if policy is not None and policy not in POLICIES:
        raise UsageError(f"unknown policy {policy!r}: expected one of {', '.join(POLICIES)}")

    def tell(trial: Trial) -> None:
        terminal.note(f"{_fleet(trial.fleet)}: {trial.price_per_hour:.2f} an hour, {trial.attainment:.2%} in time")

    found = plan(read_scenario(scenario, scale=scale, seed=seed), policy=policy, on_trial=None if json else tell)
    if json:
        terminal.json(found)
    elif found.best is not None:
        best = found.best
        p95 = "-" if best.p95_s is None else f"{best.p95_s * 1000:.0f}"
        rows = [(_fleet(best.fleet), f"{best.price_per_hour:.2f}", f"{best.attainment:.2%}", p95)]
        terminal.table(("fleet", "an hour", "in time", "p95 ms"), rows)
    if found.best is None:
        raise UsageError(found.reason, hint="loosen the objective, or add a faster machine type or candidate")


def _fleet(fleet: dict[str, int]) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in fleet.items()) or "nothing"

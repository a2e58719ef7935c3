"""Simulate a scenario, or find the cheapest fleet for it, and write down what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path

import msgspec

from llamapipe.errors import OutputError, UsageError
from llamapipe.report.simulation import render_simulation, simulation_csv
from llamapipe.report.written import write_whole
from llamapipe.sim.capacity import Capacity, Trial, plan_capacity
from llamapipe.sim.judge import Judgement, bound_of, judge
from llamapipe.sim.planners import PLANNERS
from llamapipe.sim.scenario import Scenario, load_scenario

__all__ = ["POLICIES", "Simulation", "capacity", "read_scenario", "simulate_scenario"]

POLICIES = tuple(PLANNERS)


class Simulation(msgspec.Struct, frozen=True):
    """Every policy's judgement, and the cost that none can go below."""

    scenario: str
    seed: int
    bound: float
    judgements: list[Judgement]


def read_scenario(path: Path, *, scale: float = 1.0, seed: int | None = None) -> Scenario:
    """The file's scenario with ``scale`` times as many streams. Raises SpecError and UsageError."""
    scenario = load_scenario(path)
    if not 0 < scale < inf:
        raise UsageError(f"scale of {scale:g}: expected a number above 0", hint="2 doubles the traffic")
    streams = scenario.streams.model_copy(update={"count": max(1, round(scenario.streams.count * scale))})
    changed: dict[str, object] = {"streams": streams}
    if seed is not None:
        changed["seed"] = seed
    return scenario.model_copy(update=changed)


def simulate_scenario(
    scenario: Scenario,
    policies: Sequence[str] = (),
    *,
    output: Path | None = None,
    force: bool = False,
    on_policy: Callable[[str], None] | None = None,
) -> Simulation:
    """Run the scenario under each policy, its own unless others are named.

    With ``output``, writes simulation.json, simulation.csv and simulation.html there. Raises UsageError, OutputError.
    """
    if output is not None:
        _may_write(output, force)
    judgements: list[Judgement] = []
    for policy in policies or [scenario.policy]:
        if on_policy is not None:
            on_policy(policy)
        judgements.append(judge(scenario, policy))
    result = Simulation(scenario.name, scenario.seed, bound_of(scenario, judgements[0].frames), judgements)
    if output is not None:
        _write(output, scenario, result)
    return result


def capacity(
    scenario: Scenario, *, policy: str | None = None, on_trial: Callable[[Trial], None] | None = None
) -> Capacity:
    """See `llamapipe.sim.capacity.plan_capacity`."""
    return plan_capacity(scenario, policy=policy, on_trial=on_trial)


def _may_write(folder: Path, force: bool) -> None:
    there = [name for name in ("simulation.json", "simulation.csv", "simulation.html") if (folder / name).exists()]
    if there and not force:
        raise OutputError(f"{folder / there[0]} is there already", hint="name another folder, or add --force")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror or error}") from error


def _write(folder: Path, scenario: Scenario, result: Simulation) -> None:
    slo = scenario.pipeline.slo
    limit_s = slo.latency[1] if slo is not None and slo.latency is not None else None
    facts = {
        "streams": f"{scenario.streams.count} x {scenario.streams.fps:g} fps",
        "simulated": f"{scenario.duration_s:g} s",
        **{f"workers {m.type}, {m.price_per_hour:g} an hour": str(m.workers) for m in scenario.machines},
        "seed": str(scenario.seed),
    }
    html = render_simulation(
        result.judgements, result.bound, limit_s=limit_s, description=scenario.description, facts=facts
    )
    write_whole(folder / "simulation.html", html.encode())
    write_whole(folder / "simulation.csv", simulation_csv(result.judgements).encode())
    data = msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n"
    write_whole(folder / "simulation.json", data)

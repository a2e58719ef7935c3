"""A scenario as the plan that control starts from, and the world that the simulation plays to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice, pairwise

import numpy as np

from llamapipe.catalog import BatchPoint, Configuration, Variant
from llamapipe.control import (
    Candidate,
    EdgePlan,
    FaultPlan,
    JobPlan,
    PolicyPlan,
    RunPlan,
    SinkPlan,
    StagePlan,
    StreamPlan,
    WorkerPlan,
)
from llamapipe.control import actions as act
from llamapipe.control.events import FAILED_ITEM
from llamapipe.sim.arrivals import constant, diurnal, poisson, ramp, spike, steady
from llamapipe.sim.profile import ItemOutcome, Moments, SourceTrace
from llamapipe.sim.scenario import CandidateSpec, ContentSpec, Scenario, StageSpec

__all__ = ["Content", "ScenarioWorld", "candidates_of", "price_of", "run_plan_of"]

_HOUR_S = 3600.0
_MASK = (1 << 64) - 1


def price_of(scenario: Scenario, device: str) -> float:
    """Of a second on the cheapest worker with the device."""
    prices = [machine.price_per_hour for machine in scenario.machines if machine.device == device]
    return min(prices, default=math.inf) / _HOUR_S


def candidates_of(scenario: Scenario, stage: StageSpec) -> tuple[Candidate, ...]:
    """What a stage may be run with on the scenario's machines, in the file's order."""
    devices = {machine.device for machine in scenario.machines if machine.workers}
    if not stage.candidates:
        assert stage.item_ms is not None
        point = BatchPoint(1, stage.item_ms / 1e3, stage.item_ms / 1e3, stage.item_ms / 1e3)
        return (Candidate(Configuration(), (point,), 1.0, min(price_of(scenario, d) for d in devices)),)
    found = []
    for spec in stage.candidates:
        if spec.device in devices:
            variant = Variant(spec.variant, "simulated", spec.device)
            configuration = Configuration(variant, spec.points[-1][0])
            found.append(Candidate(configuration, _points(spec), spec.accuracy, price_of(scenario, spec.device)))
    return tuple(found)


def _points(spec: CandidateSpec) -> tuple[BatchPoint, ...]:
    return tuple(BatchPoint(n, ms / 1e3, spec.p95_factor * ms / 1e3, ms / 1e3) for n, ms in spec.points)


def run_plan_of(
    scenario: Scenario, candidates: Sequence[tuple[Candidate, ...]], policy: PolicyPlan, *, in_flight_s: float = 1.0
) -> RunPlan:
    """The plan. ``candidates`` are those of every stage that the policy may choose among, the budgeted one first."""
    pipeline, streams = scenario.pipeline, scenario.streams
    stages: list[StagePlan] = []
    levels: dict[str, str] = {}
    depths: dict[str, int] = {}
    for spec, choices in zip(pipeline.stages, candidates, strict=True):
        fan_out = spec.crops is not None
        above = {levels[name] for name in spec.after} - {""}
        levels[spec.name] = spec.name if fan_out else (above.pop() if len(above) == 1 else "")
        needed = [*spec.after, *(name for name in (spec.crops, spec.when) if name is not None)]
        depths[spec.name] = 1 + max((depths[name] for name in needed), default=0)
        stages.append(
            StagePlan(
                name=spec.name,
                type=f"scenario/{spec.name}@v1",
                inputs=tuple(EdgePlan("input", name, "out", "boxes") for name in spec.after)
                or (EdgePlan("input", "", "frames", "frames"),),
                outputs={"out": "boxes"},
                configuration=choices[0].configuration,
                level="" if fan_out else levels[spec.name],
                depth=depths[spec.name],
                stateful=spec.stateful,
                fan_out=fan_out,
                when=f"count($ops.{spec.when}.out) > 0" if spec.when is not None else None,
                candidates=choices,
            )
        )
    fed = {name for spec in pipeline.stages for name in (*spec.after, spec.crops, spec.when)}
    ends = [spec.name for spec in pipeline.stages if spec.name not in fed]
    slo = pipeline.slo
    latency = slo.latency if slo is not None else None
    names = [f"s{i}" for i in range(streams.count)]
    frames = streams.frames or int(scenario.duration_s * streams.fps)
    drop = streams.drop or ("block" if streams.job else "drop-oldest")
    window = max(16, math.ceil(streams.fps * max(in_flight_s, 0.0 if latency is None else 4 * latency[1])))
    return RunPlan(
        pipeline=scenario.name,
        stages=tuple(stages),
        sinks=(SinkPlan("out", "scenario/out@v1", tuple(EdgePlan("input", end, "out", "boxes") for end in ends)),),
        streams=tuple(
            StreamPlan(
                name, drop if streams.job else streams.drop or "drop-oldest", max_pending=window, paced=not streams.job
            )
            for name in names
        ),
        workers=tuple(
            WorkerPlan(f"{machine.type}-{i}", device=machine.device)
            for machine in scenario.machines
            for i in range(machine.workers)
        ),
        max_in_flight=window * streams.count if not streams.job else 64 * streams.count,
        latency_slo_s=None if latency is None else latency[1],
        job=JobPlan(0.0, slo.deadline_s, dict.fromkeys(names, frames)) if slo is not None and slo.deadline_s else None,
        policy=policy,
        faults=FaultPlan(straggler_floor_s=0.0),
        seed=scenario.seed,
    )


class Content:
    """What is seen in a frame: a number that hangs on nothing but the seed, the stage, the stream and the time."""

    def __init__(self, spec: ContentSpec, seed: int, fps: float) -> None:
        self._spec = spec
        self._seed = seed
        self._frames = max(1, round(spec.persists_s * fps))
        self._fps = fps
        self._known: dict[tuple[int, int], int] = {}

    def count(self, stream: int, seq: int) -> int:
        """Things in the frame."""
        block = seq // self._frames
        key = (stream, block)
        found = self._known.get(key)
        if found is None:
            if len(self._known) > 100_000:
                self._known.clear()
            found = self._known[key] = self._draw(stream, block)
        return found

    def _draw(self, stream: int, block: int) -> int:
        chance = _uniform(self._seed, stream, block)
        mean = self._mean(block * self._frames / self._fps)
        number, weight = 0, math.exp(-mean)
        total = weight
        while chance > total and number < 64:
            number += 1
            weight *= mean / number
            total += weight
        return number

    def _mean(self, at_s: float) -> float:
        over = self._spec.over
        if not over:
            return self._spec.mean
        for (t0, m0), (t1, m1) in pairwise(over):
            if t0 <= at_s < t1:
                return m0 + (m1 - m0) * (at_s - t0) / (t1 - t0)
        return over[0][1] if at_s < over[0][0] else over[-1][1]


def _uniform(*parts: int) -> float:
    """A number in 0..1 that looks drawn by chance, the same for the same parts in every process (splitmix64)."""
    state = 0x9E3779B97F4A7C15
    for part in parts:
        state = (state ^ (part & _MASK)) & _MASK
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state / 2**64


class _Chances:
    """Numbers by chance, drawn many at a time: one call a number would cost more than the decision it is for."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._normals: list[float] = []
        self._uniforms: list[float] = []

    def normal(self) -> float:
        if not self._normals:
            self._normals = self._rng.standard_normal(4096).tolist()
        return self._normals.pop()

    def uniform(self) -> float:
        if not self._uniforms:
            self._uniforms = self._rng.random(4096).tolist()
        return self._uniforms.pop()


class ScenarioWorld:
    """See `llamapipe.sim.profile.World`."""

    moments: Moments | None = None

    def __init__(self, scenario: Scenario, plan: RunPlan) -> None:
        self.scenario = scenario
        self.cores = scenario.cores
        self._chances = _Chances(scenario.seed)
        self._stages = {stage.name: stage for stage in plan.stages}
        self._specs = {spec.name: spec for spec in scenario.pipeline.stages}
        fps = scenario.streams.fps
        self._content = {
            spec.name: Content(spec.finds, _seed_of(scenario.seed, spec.name), fps)
            for spec in scenario.pipeline.stages
            if spec.finds is not None
        }
        self._streams = {stream.stream: i for i, stream in enumerate(plan.streams)}
        self._starts = {
            f"{machine.type}-{i}": machine.start_s for machine in scenario.machines for i in range(machine.workers)
        }
        self._loads = {
            (spec.name, candidate.variant, candidate.device): candidate.load_s
            for spec in scenario.pipeline.stages
            for candidate in spec.candidates
        }
        self._spread = {
            (spec.name, candidate.variant, candidate.device): math.log(candidate.p95_factor) / 1.645
            for spec in scenario.pipeline.stages
            for candidate in spec.candidates
        }
        network = scenario.network
        self._fixed_s = 2 * network.latency_ms / 1e3
        self._item_s = network.item_mb / network.mb_per_s if network.mb_per_s else 0.0
        self._tables: dict[tuple[str, int, int], tuple[float, float]] = {}  # -> median, spread
        self._traces: dict[str, SourceTrace] = {}
        self._failing = scenario.failures.fail_share > 0 or scenario.failures.slow_share > 0
        self._ones = [ItemOutcome()]
        self._probed = {spec.when for spec in scenario.pipeline.stages if spec.when is not None}

    def trace(self, stream: str) -> SourceTrace:
        """Frame times of the stream; streams are spread over the first frame's time."""
        found = self._traces.get(stream)
        if found is None:
            found = self._traces[stream] = self._trace(self._streams[stream])
        return found

    def _trace(self, index: int) -> SourceTrace:
        scenario, streams = self.scenario, self.scenario.streams
        number = streams.frames or int(scenario.duration_s * streams.fps)
        if streams.job:
            return SourceTrace(tuple(i / streams.fps for i in range(number)), decode_s=streams.decode_ms / 1e3)
        # Machines start and load first: a camera's clock begins when somebody can look at its pictures.
        begin_s = max(self._starts.values(), default=0.0) + self._all_loads_s() + 0.001
        offset_s = begin_s + index / (streams.fps * streams.count)
        times = self._times(index, number)
        return SourceTrace(tuple(offset_s + t for t in times), paced=True, decode_s=streams.decode_ms / 1e3)

    def _all_loads_s(self) -> float:
        """What it takes a worker to load everything there is, whichever of it a policy wants: all begin alike."""
        return sum(candidate.load_s for spec in self.scenario.pipeline.stages for candidate in spec.candidates)

    def _times(self, index: int, number: int) -> list[float]:
        streams, duration_s = self.scenario.streams, self.scenario.duration_s
        arrivals = streams.arrivals
        low = arrivals.low if arrivals.low is not None else streams.fps / 5
        if arrivals.kind == "constant":
            return [i / streams.fps for i in range(number)]
        if arrivals.kind == "recorded":
            return list(arrivals.times_s)
        if arrivals.kind == "poisson":
            return list(poisson(steady(streams.fps, duration_s), _seed_of(self.scenario.seed, f"stream {index}")))
        if arrivals.kind == "ramp":
            rate = ramp(low, streams.fps, duration_s)
        elif arrivals.kind == "spike":
            rate = spike(low, streams.fps, duration_s, start_s=arrivals.start_s, length_s=arrivals.length_s)
        else:
            rate = diurnal(low, streams.fps, duration_s, period_s=arrivals.period_s)
        times = constant(rate)
        return list(islice(times, streams.frames) if streams.frames else times)

    def work_s(self, dispatch: act.Dispatch, now_s: float) -> float:
        """A log-normal time around the profiled median of the batch, and what failures and the network add."""
        n = len(dispatch.items)
        key = (dispatch.stage, dispatch.choice, n)
        known = self._tables.get(key)
        if known is None:
            known = self._tables[key] = self._median(*key)
        median_s, spread = known
        work_s = median_s * math.exp(spread * self._chances.normal()) if spread else median_s
        failures = self.scenario.failures
        if failures.slow_share and self._chances.uniform() < failures.slow_share:
            work_s *= failures.slow_factor
        return work_s + self._fixed_s + self._item_s * n

    def _median(self, stage: str, choice: int, n: int) -> tuple[float, float]:
        candidate = self._stages[stage].candidates[choice]
        variant = candidate.configuration.variant
        if variant is None:
            return candidate.points[0].median_s * n, 0.0
        points = candidate.points
        spread = self._spread[stage, variant.model, variant.device]
        for lower, upper in pairwise(points):
            if lower.batch <= n <= upper.batch:
                share = (n - lower.batch) / (upper.batch - lower.batch)
                return lower.median_s + share * (upper.median_s - lower.median_s), spread
        nearest = points[0] if n < points[0].batch else points[-1]
        return nearest.median_s * (1.0 if n <= nearest.batch else n / nearest.batch), spread

    def weight(self, dispatch: act.Dispatch) -> float:
        """One core: a worker is one."""
        return 1.0

    def outcomes_of(self, dispatch: act.Dispatch) -> list[ItemOutcome]:
        """What is found in every item; all of a failed invocation's items fail."""
        failures = self.scenario.failures
        if failures.fail_share and self._chances.uniform() < failures.fail_share:
            return [ItemOutcome(FAILED_ITEM, (), "injected")] * len(dispatch.items)
        spec = self._specs[dispatch.stage]
        if spec.crops is None and dispatch.stage not in self._probed:
            return self._ones * len(dispatch.items)
        return [self.outcome(dispatch.stage, *item) for item in dispatch.items]

    def outcome(self, stage: str, stream: str, seq: int, index: int) -> ItemOutcome:
        """See `World`."""
        spec = self._specs[stage]
        if spec.crops is not None:
            return ItemOutcome(self._content[spec.crops].count(self._streams[stream], seq))
        if stage in self._probed:
            return ItemOutcome(1, (float(self._content[stage].count(self._streams[stream], seq)),))
        return ItemOutcome()

    def loading_s(self, worker: str, stage: str, choice: int) -> float:
        """See `World`."""
        variant = self._stages[stage].choice(choice).variant
        return 0.0 if variant is None else self._loads[stage, variant.model, variant.device]

    def starting_s(self, worker: str) -> float:
        """See `World`."""
        return self._starts[worker]

    def sinking_s(self, stream: str, sink: str, seq: int) -> float:
        """See `World`."""
        return self.scenario.sink_ms / 1e3

    def dies_after_s(self, worker: str, incarnation: int) -> float | None:
        """An exponential life."""
        mtbf_s = self.scenario.failures.worker_mtbf_s
        if mtbf_s is None:
            return None
        chance = _uniform(self.scenario.seed, _seed_of(0, worker), incarnation)
        return -mtbf_s * math.log(1.0 - chance)


def _seed_of(seed: int, name: str) -> int:
    """A number of a name, the same in every process (FNV-1a)."""
    value = 0xCBF29CE484222325 ^ seed
    for byte in name.encode():
        value = ((value ^ byte) * 0x100000001B3) & _MASK
    return value

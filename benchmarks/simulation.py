"""What the simulator says, and how fast it says it.

    python -m benchmarks.simulation policies      a table of policies over samples/scenarios
    python -m benchmarks.simulation speed         simulated invocations a second of processor time, one core
    python -m benchmarks.simulation decisions     cost of a decision over workers and variants, and a plot of it
    python -m benchmarks.simulation large         1,000 streams of 25 fps on 10,000 workers for --minutes

Times are of the processor, so that other programs on the machine matter less.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

from llamapipe.control import controller
from llamapipe.sim.judge import Judgement, bound_of, judge
from llamapipe.sim.planners import PLANNERS
from llamapipe.sim.scenario import Scenario, load_scenario

SCENARIOS = Path(__file__).parents[1] / "samples" / "scenarios"
ORDER = ("amber-alert", "blur-faces", "people", "denoise", "toonify")


def policies() -> None:
    """The table, and means over the scenarios against this project's policy."""
    judgements: dict[str, dict[str, Judgement]] = {}
    for name in ORDER:
        scenario = load_scenario(SCENARIOS / f"{name}.yaml")
        judged = {policy: judge(scenario, policy) for policy in PLANNERS}
        ours = judged["llamapipe"]
        if has_choice(scenario):
            judgements[name] = judged
        bound = bound_of(scenario, ours.frames)
        print(f"\n{name}: {scenario.streams.count} streams, cost of the oracle {bound:.4g}\n")
        print("| policy | in time | met | p50 ms | p95 ms | accuracy | cost used | against llamapipe |")
        print("|---|--:|---|--:|--:|--:|--:|--:|")
        for policy, it in judged.items():
            times = it.cost_used / ours.cost_used
            print(
                f"| {policy} | {it.attainment:.1%} | {'yes' if it.met else 'no'} | {ms(it.p50_s)} | {ms(it.p95_s)} "
                f"| {it.accuracy:.3f} | {it.cost_used:.4g} | {times:.2f} x |",
                flush=True,
            )
    whole = meeting_all(judgements)
    print(
        f"\nGeometric means over {', '.join(judgements)}, where there is a choice; llamapipe = 1. A policy that misses"
    )
    print("one of them has no mean: over the others it would be one of other scenarios.\n")
    print("| policy | met | cost used | p95 |\n|---|--:|--:|--:|")
    for policy in PLANNERS:
        met = f"{sum(judged[policy].met for judged in judgements.values())} of {len(judgements)}"
        if policy not in whole or "llamapipe" not in whole:
            print(f"| {policy} | {met} | - | - |")
            continue
        pairs = [(judged[policy], judged["llamapipe"]) for judged in judgements.values()]
        cost = statistics.geometric_mean(it.cost_used / ours.cost_used for it, ours in pairs)
        latency = statistics.geometric_mean(max((it.p95_s or 0.0) / (ours.p95_s or 1.0), 1e-9) for it, ours in pairs)
        print(f"| {policy} | {met} | {cost:.2f} x | {latency:.2f} x |")


def has_choice(scenario: Scenario) -> bool:
    """Whether any stage has more than one candidate: where none has, all policies do the same."""
    return any(len(stage.candidates) > 1 for stage in scenario.pipeline.stages)


def meeting_all(judgements: Mapping[str, Mapping[str, Judgement]]) -> list[str]:
    """Policies that met the objective of every scenario: what is dropped or too late costs nothing."""
    return [policy for policy in PLANNERS if all(judged[policy].met for judged in judgements.values())]


def ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f}"


def speed() -> None:
    """All scenarios under the full policy."""
    print(
        "compiled" if Path(controller.__file__).suffix != ".py" else "interpreted; `make compiled` for what wheels hold"
    )
    for name in ORDER:
        scenario = load_scenario(SCENARIOS / f"{name}.yaml")
        judged, took_s = timed(scenario)
        print(
            f"{name}: {judged.invocations} invocations, {judged.events} events in {took_s:.1f} s: "
            f"{judged.invocations / took_s:,.0f} invocations/s, {judged.events / took_s:,.0f} events/s, "
            f"{judged.frames / took_s:,.0f} frames/s",
            flush=True,
        )


def timed(scenario: Scenario) -> tuple[Judgement, float]:
    begun_s = time.process_time()
    judged = judge(scenario)
    return judged, time.process_time() - begun_s


def scaled(
    *, streams: int, fps: float, workers: int, variants: int, duration_s: float, busy_ms: float | None = None
) -> Scenario:
    """A detector with so many variants and a drawing after it; frames take so long that a third of the workers is busy.

    ``busy_ms``: they take that long instead.
    """
    busy = 1000 * workers / (3 * streams * fps) if busy_ms is None else busy_ms
    candidates = [
        {
            "variant": f"v{i}",
            "points": [[1, 0.8 * busy * (1 + i / variants)], [4, 2.4 * busy * (1 + i / variants)]],
            "accuracy": 0.5 + 0.5 * i / variants,
            "source": "made up for a measurement",
        }
        for i in range(variants)
    ]
    return Scenario.model_validate(
        {
            "name": "scale",
            "duration_s": duration_s,
            "machines": [{"type": "cpu", "workers": workers, "price_per_hour": 1, "source": "made up"}],
            "pipeline": {
                "slo": {"latency_p95_ms": 20 * busy},
                "accuracy": {"min": 0.5},
                "stages": [
                    {"name": "detect", "candidates": candidates},
                    {"name": "draw", "after": "detect", "item_ms": 0.2 * busy, "source": "made up"},
                ],
            },
            "streams": {"count": streams, "fps": fps},
        }
    )


def marginal(
    *, streams: int, workers: int, variants: int, duration_s: float, busy_ms: float | None = None
) -> tuple[float, int]:
    """Microseconds of one more invocation, and how many there were: what begins a run is in both of two lengths."""

    def run(times: int) -> tuple[Judgement, float]:
        lasts_s = times * duration_s
        return timed(
            scaled(streams=streams, fps=25, workers=workers, variants=variants, duration_s=lasts_s, busy_ms=busy_ms)
        )

    (short, short_s), (long, long_s) = run(1), run(3)
    return 1e6 * (long_s - short_s) / (long.invocations - short.invocations), long.invocations


def decisions(output: Path | None) -> None:
    """Microseconds an invocation, everything in it: events, decisions, the simulation itself."""
    by_workers, by_scale = [], []
    for workers in (10, 100, 1_000, 10_000):
        cost_us, number = marginal(streams=10, workers=workers, variants=4, duration_s=40, busy_ms=13)
        by_workers.append((workers, cost_us))
        print(f"{workers} workers for 10 streams: {cost_us:.0f} us an invocation ({number})", flush=True)
    for workers in (10, 100, 1_000, 10_000):
        streams = workers // 10
        cost_us, number = marginal(streams=streams, workers=workers, variants=4, duration_s=max(4.0, 200 / streams))
        by_scale.append((workers, cost_us))
        print(f"{workers} workers for {streams} streams: {cost_us:.0f} us an invocation ({number})", flush=True)
    by_variants = []
    for variants in (1, 4, 16, 64, 256):
        cost_us, number = marginal(streams=20, workers=200, variants=variants, duration_s=16)
        by_variants.append((variants, cost_us))
        print(f"{variants} variants: {cost_us:.0f} us an invocation ({number})", flush=True)
    if output is not None:
        output.write_text(plot({"workers": by_workers, "workers and streams": by_scale, "variants": by_variants}))
        print(f"wrote {output}")


def plot(lines: dict[str, list[tuple[int, float]]]) -> str:
    """All lines over a logarithmic axis: what grows with the logarithm is straight."""
    width, height, left, bottom = 640, 300, 60, 40
    top = 1.15 * max(y for line in lines.values() for _, y in line)
    decades = math.log10(max(x for line in lines.values() for x, _ in line))

    def place(x: float, y: float) -> str:
        across = left + math.log10(x) / decades * (width - left - 20)
        return f"{across:.1f},{height - bottom - y / top * (height - 60):.1f}"

    box = f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {box}>']
    for (name, line), colour in zip(lines.items(), ("#2a6fdb", "#2a8f4f", "#b97a08"), strict=True):
        points = " ".join(place(x, y) for x, y in line)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/>')
        x, y = place(*line[-1]).split(",")
        parts.append(f'<text x="{x}" y="{float(y) - 8}" fill="{colour}" text-anchor="end">{name}</text>')
    for decade in range(int(decades) + 1):
        x, _ = place(10**decade, 0).split(",")
        parts.append(f'<text x="{x}" y="{height - 20}" fill="#777" text-anchor="middle">{10**decade:,}</text>')
    for i in range(5):
        _, y = place(1, i / 4 * top).split(",")
        parts.append(f'<text x="{left - 8}" y="{y}" fill="#777" text-anchor="end">{i / 4 * top:.0f} us</text>')
    return "".join([*parts, "</svg>\n"])


def large(minutes: float) -> None:
    begun_s = time.monotonic()
    scenario = scaled(streams=1000, fps=25, workers=10_000, variants=4, duration_s=60 * minutes)
    judged, took_s = timed(scenario)
    print(
        f"{judged.frames:,} frames, {judged.invocations:,} invocations, {judged.attainment:.2%} in time: "
        f"{took_s:.0f} s of processor, {time.monotonic() - begun_s:.0f} s of wall clock for {minutes:g} min simulated"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("policies", "speed", "decisions", "large"))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--plot", type=Path, help="SVG of decisions")
    arguments = parser.parse_args()
    if arguments.what == "policies":
        policies()
    elif arguments.what == "speed":
        speed()
    elif arguments.what == "decisions":
        decisions(arguments.plot)
    else:
        large(arguments.minutes)


if __name__ == "__main__":
    main()

"""``llamapipe query`` and ``llamapipe load``: ask for what is needed, and let llamapipe choose who answers."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llamapipe.cli import completion
from llamapipe.cli.failures import INTERRUPTED
from llamapipe.cli.interrupts import first_finalises
from llamapipe.cli.options import Json, Quiet, Verbose, terminal_of
from llamapipe.cli.terminal import Terminal
from llamapipe.errors import QueryRefused, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llamapipe.data import Boxes
    from llamapipe.session.load import LoadReport
    from llamapipe.session.serve import Answer, QueryOptions, Session

__all__ = ["load", "query"]

_WHAT = "What is asked"
_NEEDS = "How well"
_COURSE = "Course of the load"


class Arrivals(StrEnum):
    """How queries come."""

    CONSTANT = "constant"
    POISSON = "poisson"
    RAMP = "ramp"
    SPIKE = "spike"
    DIURNAL = "diurnal"
    TRACE = "trace"


class Policy(StrEnum):
    """Who decides: llamapipe, or one to compare it with."""

    LLAMAPIPE = "llamapipe"
    INFAAS = "infaas"
    STATIC = "static"


Task = Annotated[
    str | None,
    typer.Option(
        "--task", metavar="TASK", help="What to find.", rich_help_panel=_WHAT, autocompletion=completion.tasks
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="Instead of a task: any variant of this model.",
        rich_help_panel=_WHAT,
        autocompletion=completion.models,
    ),
]
VariantName = Annotated[
    str | None,
    typer.Option(
        "--variant",
        metavar="VARIANT",
        help="Instead of a task: just this one, as in llamapipe models show.",
        rich_help_panel=_WHAT,
    ),
]
LatencyMs = Annotated[
    float | None,
    typer.Option("--latency-ms", metavar="MS", help="From arrival to answer, at most.", rich_help_panel=_NEEDS),
]
AccuracyText = Annotated[
    str | None,
    typer.Option(
        "--accuracy",
        metavar="FLOOR",
        help="At least: 0.8 (agreement with the best variant), or coco_ap>=0.25.",
        rich_help_panel=_NEEDS,
    ),
]
MaxCost = Annotated[
    float | None,
    typer.Option("--max-cost", metavar="CORE_S", help="Core-seconds a picture, at most.", rich_help_panel=_NEEDS),
]
MinScore = Annotated[
    float | None, typer.Option("--min-score", metavar="SCORE", help="Leave out boxes below.", rich_help_panel=_WHAT)
]
Labels = Annotated[
    str | None,
    typer.Option("--labels", metavar="A,B", help="Keep only these labels.", rich_help_panel=_WHAT),
]


def query(
    ctx: typer.Context,
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="Pictures; with --offline folders and videos as well.")
    ],
    task: Task = None,
    model: ModelName = None,
    variant: VariantName = None,
    latency_ms: LatencyMs = None,
    accuracy: AccuracyText = None,
    max_cost: MaxCost = None,
    labels: Labels = None,
    min_score: MinScore = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Whole folders and videos, with only what nobody else wants.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> int:
    """Look at pictures with whatever variant meets what you need, and say which that was and why."""
    from llamapipe.session.serve import Session

    terminal = terminal_of(ctx)
    options = _options(task, model, variant, latency_ms, accuracy, max_cost, labels, min_score)
    with Session(workers="thread") as session:
        if offline:
            return 0 if _offline(session, images, options, terminal, json) else QueryRefused.exit_code
        answer = session.query(images, **options)
    if json:
        terminal.json(_described(images, answer))
        return 0
    terminal.table(
        ("image", "label", "score", "box"),
        [(image, *row) for image, boxes in zip(images, answer.boxes, strict=True) for row in _rows(boxes)],
    )
    figure = answer.accuracy
    shown = "" if figure is None else f", {figure.metric} {figure.value:.3g} ({figure.kind})"
    terminal.note(
        f"{answer.variant}: {answer.latency_s * 1000:.1f} ms, {answer.cost * 1000:.2f} core-ms a picture{shown}\n"
        f"{answer.why}"
    )
    return 0


def _offline(session: Session, sources: list[str], options: QueryOptions, terminal: Terminal, json: bool) -> bool:
    """Whether any picture was answered, or there was none."""
    import msgspec

    answered = asked = 0
    for source in sources:
        for found in session.offline(source, **options):
            answer = found.answer
            asked, answered = asked + 1, answered + (answer is not None)
            if json:  # a line a picture: a video has many
                line = {"source": found.source, "seq": found.seq, "error": found.error or None}
                if answer is not None:
                    line |= {"variant": answer.variant, "boxes": _plain(answer.boxes[0])}
                terminal.data(msgspec.json.encode(line).decode())
            elif answer is None:
                terminal.warning(f"{found.source} {found.seq}: {found.error}")
            else:
                text = ", ".join(f"{label} {score}" for label, score, _ in _rows(answer.boxes[0])) or "nothing"
                terminal.data(f"{found.source} {found.seq}: {text}")
    return bool(answered) or not asked


def load(
    ctx: typer.Context,
    source: Annotated[
        str, typer.Option("-i", "--input", metavar="SOURCE", help="Folder of pictures, or video, to ask about.")
    ] = "sample:bikes",
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            metavar="TASK",
            help="What to find; several are asked for by a Zipf distribution, the first most.",
            rich_help_panel=_WHAT,
            autocompletion=completion.tasks,
        ),
    ] = None,
    model: ModelName = None,
    variant: VariantName = None,
    latency_ms: LatencyMs = None,
    accuracy: AccuracyText = None,
    max_cost: MaxCost = None,
    arrivals: Annotated[
        Arrivals, typer.Option("--arrivals", help="How queries come.", rich_help_panel=_COURSE)
    ] = Arrivals.POISSON,
    rate: Annotated[
        float,
        typer.Option("--rate", metavar="QPS", help="Queries a second; the lower of two.", rich_help_panel=_COURSE),
    ] = 10.0,
    peak: Annotated[
        float | None,
        typer.Option(
            "--peak",
            metavar="QPS",
            help="The higher rate of ramp, spike and diurnal; 4 x --rate.",
            rich_help_panel=_COURSE,
        ),
    ] = None,
    duration: Annotated[
        float, typer.Option("--duration", metavar="S", help="Seconds.", rich_help_panel=_COURSE)
    ] = 30.0,
    period: Annotated[
        float | None,
        typer.Option("--period", metavar="S", help="Of a day, for diurnal; the duration.", rich_help_panel=_COURSE),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace", metavar="FILE", help="Arrival times in seconds, one a line, for trace.", rich_help_panel=_COURSE
        ),
    ] = None,
    zipf: Annotated[
        float, typer.Option("--zipf", metavar="S", help="Exponent, for several tasks.", rich_help_panel=_COURSE)
    ] = 1.0,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Same seed, same load.", rich_help_panel=_COURSE)
    ] = 0,
    policy: Annotated[Policy, typer.Option("--policy", help="Who decides.")] = Policy.LLAMAPIPE,
    static: Annotated[
        list[str] | None,
        typer.Option("--static", metavar="VARIANT=N", help="What the static policy keeps running; repeatable."),
    ] = None,
    workers: Annotated[str, typer.Option("--workers", help="Replicas in a process each, or in threads.")] = "process",
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> int:
    """Send queries as a real load would, in an open loop, and say how many were answered in time and at what cost.

    Exit code 130 where it was interrupted: the figures are those of what was sent until then.
    """
    from itertools import islice

    from llamapipe.clock import SystemClock, system_env
    from llamapipe.inference import AssetStore, cache_root
    from llamapipe.session.asked_pictures import pictures_of
    from llamapipe.session.load import generate_load
    from llamapipe.session.serve import Session
    from llamapipe.sim import arrivals as processes

    terminal = terminal_of(ctx)
    clock, env = SystemClock(), system_env()
    tasks = task or []
    if static and policy is not Policy.STATIC:
        raise UsageError(f"--static {static[0]}: policy {policy.value} keeps nothing running", hint="--policy static")
    if policy is Policy.STATIC and not static:
        raise UsageError("--policy static: nothing is to be kept running", hint="--static VARIANT=N")
    options = _options(tasks[0] if tasks else None, model, variant, latency_ms, accuracy, max_cost, None, None)
    times_s = _times(arrivals, rate, peak if peak is not None else 4 * rate, duration, period, trace, seed)
    assets = AssetStore(cache_root(env), env=env)
    found = [picture for *_, picture in islice(pictures_of(source, assets, env, clock), 64)]
    pictures = [picture for picture in found if not isinstance(picture, str)]
    if not pictures:
        raise UsageError(f"{source}: no picture in it can be read")
    asked = processes.zipf(tasks, seed, exponent=zipf) if len(tasks) > 1 else None
    with (
        first_finalises(terminal) as interrupt,
        Session(workers=workers, policy=policy, static=_static(static)) as session,
    ):
        for of_task in tasks[1:]:
            session.prepare(items_per_s=rate, **_of_task(options, of_task))
        session.prepare(items_per_s=rate, **options)
        report = generate_load(session, times_s, asked, pictures, clock=clock, interrupt=interrupt, **options)
    if json:
        terminal.json(report)
    else:
        _show(report, terminal)
    return INTERRUPTED if interrupt.is_set() else 0


def _times(
    arrivals: Arrivals,
    rate: float,
    peak: float,
    duration_s: float,
    period_s: float | None,
    trace: Path | None,
    seed: int,
) -> Iterator[float]:
    from llamapipe.sim import arrivals as processes

    if (arrivals == Arrivals.TRACE) != (trace is not None):
        raise UsageError("--trace FILE and --arrivals trace go together")
    if trace is not None:
        return processes.recorded(_recorded(trace), duration_s=duration_s)
    steady = processes.steady(rate, duration_s)
    match arrivals:
        case Arrivals.CONSTANT:
            return processes.constant(steady)
        case Arrivals.RAMP:
            course = processes.ramp(rate, peak, duration_s)
        case Arrivals.SPIKE:
            third_s = duration_s / 3
            course = processes.spike(rate, peak, duration_s, start_s=third_s, length_s=third_s)
        case Arrivals.DIURNAL:
            course = processes.diurnal(rate, peak, duration_s, period_s=period_s or duration_s)
        case _:
            course = steady
    return processes.poisson(course, seed)


def _recorded(path: Path) -> list[float]:
    try:
        return [float(line.split(",")[0]) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    except OSError as error:
        raise UsageError(f"--trace {path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    except ValueError as error:
        raise UsageError(
            f"--trace {path}: {error}", hint="seconds, one a line; what follows a comma is left out"
        ) from None


def _static(pairs: list[str] | None) -> dict[str, int]:
    found: dict[str, int] = {}
    for pair in pairs or ():
        name, equals, number = pair.rpartition("=")
        if not equals or not number.isdecimal() or int(number) < 1:
            raise UsageError(f"--static {pair!r}: expected VARIANT=N")
        found[name] = int(number)
    return found


def _options(
    task: str | None,
    model: str | None,
    variant: str | None,
    latency_ms: float | None,
    accuracy: str | None,
    max_cost: float | None,
    labels: str | None,
    min_score: float | None,
) -> QueryOptions:
    return {
        "task": task,
        "model": model,
        "variant": variant,
        "latency_ms": latency_ms,
        "accuracy": accuracy,
        "max_cost": max_cost,
        "labels": tuple(label.strip() for label in labels.split(",")) if labels else (),
        "min_score": min_score,
    }


def _of_task(options: QueryOptions, task: str) -> QueryOptions:
    changed = options.copy()
    changed["task"] = task
    return changed


def _described(images: list[str], answer: Answer) -> dict[str, Any]:
    figure = answer.accuracy
    return {
        "variant": answer.variant,
        "why": answer.why,
        "latency_ms": answer.latency_s * 1000,
        "late": answer.late,
        "cost_core_s": answer.cost,
        "accuracy": None
        if figure is None
        else {"metric": figure.metric, "value": figure.value, "kind": figure.kind, "dataset": figure.dataset},
        "images": [{"image": image, "boxes": _plain(boxes)} for image, boxes in zip(images, answer.boxes, strict=True)],
    }


def _plain(boxes: Boxes) -> list[dict[str, Any]]:
    return [
        {
            "label": boxes.names[int(boxes.label[i])],
            "score": round(float(boxes.score[i]), 4),
            "xyxy": [round(float(side), 1) for side in boxes.xyxy[i]],
        }
        for i in range(len(boxes))
    ]


def _rows(boxes: Boxes) -> list[tuple[str, str, str]]:
    return [
        (box["label"], f"{box['score']:.2f}", " ".join(f"{side:.0f}" for side in box["xyxy"])) for box in _plain(boxes)
    ]


def _show(report: LoadReport, terminal: Terminal) -> None:
    refused = ", ".join(f"{number} {why}" for why, number in report.refused.items())
    terminal.table(
        ("sent", "in time", "late", "refused", "p50 ms", "p95 ms", "p99 ms", "reserved core-s"),
        [
            (
                report.num_sent,
                f"{report.num_in_time} ({report.attainment:.1%})",
                report.num_late,
                refused or "0",
                f"{report.p50_ms:.1f}",
                f"{report.p95_ms:.1f}",
                f"{report.p99_ms:.1f}",
                f"{report.reserved_core_s:.1f}",
            )
        ],
    )
    for name, number in report.variants.items():
        terminal.data(f"{number:>7}  {name}")
    if report.sent_late_ms > 20:
        terminal.warning(
            f"the generator itself was {report.sent_late_ms:.0f} ms behind at times",
            hint="this machine is too busy to send that load: latencies count from when queries were due",
        )

"""``llamapipe models``: which models there are, registering and fetching them, and what their variants take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llamapipe.cli import completion
from llamapipe.cli.options import Json, LeastAgreement, Quiet, Verbose, terminal_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llamapipe.catalog import Model, Profile
    from llamapipe.cli.terminal import Terminal
    from llamapipe.inference import AssetStore

__all__ = ["app", "store"]

app = typer.Typer(help="Models: list, show, compare, register, remove, pull.", no_args_is_help=True)


def store() -> AssetStore:
    """The user's cache of models and clips."""
    from llamapipe.clock import system_env
    from llamapipe.inference import AssetStore, cache_root, use_catalogue

    env = system_env()
    use_catalogue(cache_root(env))
    return AssetStore(cache_root(env), env=env)


@app.command("list")
def list_models(
    ctx: typer.Context,
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            metavar="TASK",
            help="Only models for it, the preferred one first.",
            autocompletion=completion.tasks,
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """List the models that pipelines can use by task or by name."""
    from llamapipe.inference import all_models, find_models

    terminal, assets = terminal_of(ctx), store()
    models = list(all_models().values()) if task is None else find_models(task)
    if json:
        terminal.json([_described(model, assets) for model in models])
        return
    terminal.table(
        ("model", "tasks", "input", "published accuracy", "licence", "MB", "here"),
        [
            (
                model.name,
                ", ".join(model.tasks),
                " ".join(f"{height}x{width}" for height, width in model.input_sizes),
                ", ".join(f"{a.metric} {a.value:g} ({a.dataset})" for a in model.accuracy) or "-",
                model.licence or "-",
                f"{sum(file['size_bytes'] for file in files) / 1e6:.1f}",
                "yes" if all(file["path"] for file in files) else "no",
            )
            for model in models
            for files in [_files(model, assets)]
        ],
    )


Html = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write the charts and the table as a page that needs nothing else."),
]
Metric = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="METRIC",
        help="Accuracy to compare by; left out: ap50 where there are labels, else agreement.",
    ),
]


@app.command()
def show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="MODEL", autocompletion=completion.models)],
    metric: Metric = None,
    html: Html = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Show one model: what it finds, where it comes from, and what its variants take on this machine."""
    from llamapipe.inference import model_named

    terminal, assets = terminal_of(ctx), store()
    model = model_named(name)
    described, profiles = _described(model, assets), _profiles(model=name)
    _check_metric(metric, [model], profiles)
    if json:
        terminal.json({**described, "variants": profiles})
    else:
        _show_model(terminal, model, described)
        terminal.data("")
        _show_variants(terminal, profiles, metric)
    if not profiles:
        terminal.note(f"no variant of {name} has been measured on this machine")
    _write_html(terminal, html, name, profiles, metric)


@app.command()
def compare(
    ctx: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", autocompletion=completion.models)] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", metavar="TASK", help="All models for it.", autocompletion=completion.tasks),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also variants that are beaten in every way.")] = False,
    metric: Metric = None,
    html: Html = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Compare the measured variants of several models: those that no other beats in accuracy, latency and cost."""
    from llamapipe.errors import UsageError
    from llamapipe.inference import find_models, model_named

    terminal = terminal_of(ctx)
    store()
    if not names and task is None:
        raise UsageError("no model and no task is named", hint="for example --task person-detection")
    models = [model_named(name).name for name in names] if names else [m.name for m in find_models(task or "")]
    profiles = [profile for model in models for profile in _profiles(model=model)]
    if task is not None:
        profiles = [profile.for_task(task) for profile in profiles if task in profile.tasks or not profile.tasks]
    _check_metric(metric, [model_named(name) for name in models], profiles)
    if json:
        terminal.json(profiles)
    elif profiles:
        _show_variants(terminal, profiles, metric, everything=everything)
    unmeasured = [model for model in models if not any(profile.variant.model == model for profile in profiles)]
    if unmeasured:
        terminal.note(f"not measured on this machine: {', '.join(unmeasured)}")
    _write_html(terminal, html, task or ", ".join(models), profiles, metric)


@app.command()
def register(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="PATH", help=".onnx, .xml, .tflite, .pb, .pt2, .torchscript, .engine, or torchvision:NAME."
        ),
    ],
    task: Annotated[
        list[str],
        typer.Option(
            "--task",
            metavar="TASK",
            help="What it does; repeatable.",
            autocompletion=completion.tasks,
            show_default=False,
        ),
    ],
    decoder: Annotated[
        str | None, typer.Option("--decoder", metavar="DECODER", help="How its outputs are read, such as yolox.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="FILE|coco|A,B", help="Its classes, in its own order: one a line in a file."),
    ] = None,
    accuracy: Annotated[
        list[str] | None,
        typer.Option("--accuracy", metavar="METRIC=VALUE[@DATASET]", help="What was published of it; repeatable."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Else the file's name.")] = None,
    input_size: Annotated[
        str | None, typer.Option("--input-size", metavar="SIDE|HxW", help="Where the file does not say it.")
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option("--calibrate", metavar="VIDEO|FOLDER", help="Pictures like those that it will see."),
    ] = None,
    ground_truth: Annotated[
        Path | None,
        typer.Option("--ground-truth", metavar="FILE", help="Boxes of that video: MOTChallenge text or COCO JSON."),
    ] = None,
    least_agreement: LeastAgreement = 0.8,
    licence: Annotated[str, typer.Option("--licence", metavar="TEXT", help="Under which it may be used.")] = "",
    description: Annotated[str, typer.Option("--description", metavar="TEXT", help="In a line.")] = "",
    build: Annotated[
        bool, typer.Option("--build/--no-build", help="Also build its variants, check and measure them.")
    ] = True,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Make your own network a model: checked, copied into the cache, and found by its name and task from then on.

    Then its variants (libraries, precisions, input sizes) are built, checked on real pictures and measured.

    llamapipe models register parts.onnx --task part-detection --decoder yolov8 --labels parts.txt
    """
    from llamapipe.inference import parse_accuracy
    from llamapipe.session.registering import register_model

    terminal, assets = terminal_of(ctx), store()
    model = register_model(
        source,
        task=task,
        decoder=decoder,
        labels=labels.split(",") if labels is not None and "," in labels else labels,
        accuracy=[parse_accuracy(text) for text in accuracy or ()],
        name=name,
        input_size=_size(input_size),
        calibrate=calibrate,
        ground_truth=ground_truth,
        licence=licence,
        description=description,
    )
    if json:
        terminal.json(_described(model, assets))
    else:
        terminal.data(model.name)
    height, width = model.input_sizes[0]
    what = f"{len(model.labels)} label{'' if len(model.labels) == 1 else 's'}"
    terminal.note(f"registered {model.name}: {', '.join(model.tasks)}, {what}, {height}x{width}")
    terminal.note(f"use it with model: {model.name}, or --set STAGE.model={model.name}")
    if build:
        _build(terminal, model.name, least_agreement)


def _build(terminal: Terminal, name: str, least_agreement: float) -> None:
    """What `models build` and `models profile` do, for a model that was just registered. It stays, whatever happens."""
    from llamapipe.clock import system_env
    from llamapipe.errors import LlamapipeError
    from llamapipe.session.building import build
    from llamapipe.session.profiling import profile

    try:
        built = build((name,), least_agreement=least_agreement, env=system_env(), on_step=terminal.note)
        rejected = [one for one in built.built if one.reason]
        terminal.note(f"built {len(built.built) - len(rejected)} variants, rejected {len(rejected)}")
        for one in rejected:
            terminal.detail(f"{one.variant.name}: {one.reason}")
        terminal.note("measuring")
        profiled = profile((name,), env=system_env())
        measured = f"measured {profiled.num_measured} of {profiled.num_points} points"
        terminal.note(f"{measured}; see: llamapipe models show {name}")
    except LlamapipeError as error:
        terminal.warning(
            f"registered, but not built and measured: {error.message}",
            error.hint or f"try again: llamapipe models build {name}, then llamapipe models profile {name}",
        )


@app.command()
def remove(
    ctx: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="MODEL...", autocompletion=completion.models)],
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Forget registered models, their files and measurements; of a ready model, what was measured and built."""
    from llamapipe.clock import system_env
    from llamapipe.inference import MODELS, model_named, open_catalogue

    terminal = terminal_of(ctx)
    store()
    for name in names:  # all or none: a slip of the pen in the second leaves the first
        model_named(name)
    with open_catalogue(system_env()) as catalogue:
        for name in names:
            removed = catalogue.remove(name)
            if name in MODELS:
                what = "what was measured and built of it is forgotten" if removed else "nothing was measured of it"
                terminal.note(f"{name} is a ready model and stays: {what}")
            else:
                terminal.note(f"removed {name}")


@app.command()
def pull(
    ctx: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", autocompletion=completion.models)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every model.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> int:
    """Fetch models now, so that a run later needs no network. Exit code 1 if one cannot be had."""
    from llamapipe.errors import AssetError, UsageError
    from llamapipe.inference import MODELS, model_named

    terminal = terminal_of(ctx)
    if not names and not everything:
        raise UsageError("no model is named", hint="name some, or give --all")
    assets = store()
    failed: list[AssetError] = []
    for model in list(MODELS.values()) if everything else [model_named(name) for name in names or ()]:
        for file in model.files:
            if assets.path(file) is None:
                terminal.note(f"{model.name}: fetching {file} from {assets.asset(file).origin}")
            try:
                terminal.note(f"{model.name}: {assets.pull(file)}")
            except AssetError as error:  # what can be had is fetched all the same
                failed.append(error)
                terminal.error(error.message, error.hint)
    return 1 if failed else 0


def _described(model: Model, assets: AssetStore) -> dict[str, Any]:
    from llamapipe.inference import registered_models

    kept = registered_models().get(model.name)
    return {
        "name": model.name,
        "description": model.description,
        "tasks": model.tasks,
        "labels": model.labels,
        "decoder": model.decoder,
        "format": model.format,
        "input_sizes": model.input_sizes,
        "accuracy": [
            {"metric": a.metric, "value": a.value, "dataset": a.dataset, "kind": a.kind.value} for a in model.accuracy
        ],
        "licence": model.licence,
        "registered": kept is not None,
        "calibration": str(kept.calibration) if kept is not None and kept.calibration else None,
        "ground_truth": str(kept.ground_truth) if kept is not None and kept.ground_truth else None,
        "files": _files(model, assets),
    }


def _files(model: Model, assets: AssetStore) -> list[dict[str, Any]]:
    from llamapipe.inference import registered_models

    kept = registered_models().get(model.name)
    if kept is not None and not model.files:
        there = kept.file.is_file()
        return [
            {
                "name": kept.file.name,
                "origin": "the catalogue",
                "sha256": kept.sha256,
                "size_bytes": kept.file.stat().st_size if there else 0,
                "path": str(kept.file) if there else None,
            }
        ]
    return [
        {
            "name": file,
            "origin": assets.asset(file).origin,
            "sha256": assets.asset(file).sha256,
            "size_bytes": assets.asset(file).size_bytes,
            "path": str(path) if (path := assets.path(file)) else None,
        }
        for file in model.files
    ]


def _profiles(model: str) -> list[Profile]:
    from llamapipe.clock import system_env
    from llamapipe.inference import cache_root, open_catalogue

    env = system_env()
    if not (cache_root(env) / "catalogue").is_dir():  # looking leaves nothing behind
        return []
    with open_catalogue(env) as catalogue:
        return catalogue.profiles(model=model)


def _size(text: str | None) -> int | tuple[int, int] | None:
    from llamapipe.errors import UsageError

    if text is None:
        return None
    sides = text.lower().split("x")
    if not all(side.isdecimal() and int(side) for side in sides) or len(sides) > 2:
        raise UsageError(f"--input-size {text!r}: expected pixels", hint="for example 640, or 480x640: height first")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def _show_model(terminal: Terminal, model: Model, described: dict[str, Any]) -> None:
    terminal.data(f"{model.name}: {model.description or ', '.join(model.tasks)}\n")
    labels = ", ".join(model.labels[:10]) + (f", ... ({len(model.labels)})" if len(model.labels) > 10 else "")
    rows = [
        ("tasks", ", ".join(model.tasks)),
        ("labels", labels),
        ("decoder", model.decoder),
        ("format", model.format),
        ("input sizes", ", ".join(f"{height}x{width}" for height, width in model.input_sizes)),
        ("accuracy", ", ".join(f"{a.metric} {a.value:g} on {a.dataset}, {a.kind}" for a in model.accuracy) or "-"),
        ("licence", model.licence or "-"),
    ]
    rows += [(what, described[key]) for key, what in _KEPT_WITH.items() if described[key]]
    rows += [
        (
            "file",
            f"{file['name']}, {file['size_bytes'] / 1e6:.1f} MB, from {file['origin']}, here: {file['path'] or 'no'}",
        )
        for file in described["files"]
    ]
    rows += [("sha256", file["sha256"]) for file in described["files"]]
    terminal.table(("", ""), rows)


_KEPT_WITH = {"calibration": "calibrated on", "ground_truth": "ground truth"}


def _show_variants(terminal: Terminal, profiles: list[Profile], metric: str | None, *, everything: bool = True) -> None:
    """The table, and both charts of characters."""
    from llamapipe.cli.plots import plot
    from llamapipe.report.profiles import kind_of, meaning_of, metric_of, rows_of

    rows = rows_of(profiles, metric)
    if not rows:
        return
    metric = metric_of(profiles, metric)
    kind = kind_of(profiles, metric)
    shown = [row for row in rows if everything or row.on_front]

    def figure(value: float | None, scale: float = 1, digits: int = 1) -> str:
        return "-" if value is None else f"{value * scale:.{digits}f}"

    terminal.table(
        (
            "variant",
            f"{metric} ({kind})" if kind not in ("", metric) else metric,
            "ms",
            "p95 ms",
            "items/s",
            "core-ms/item",
            "load s",
            "MB",
            "state",
        ),
        [
            (
                row.name + (" *" if row.on_front else ""),
                figure(row.accuracy.value if row.accuracy is not None else None, 1, 3),
                figure(row.latency_s, 1000),
                figure(row.p95_s, 1000),
                figure(row.items_per_s),
                figure(row.core_s, 1000),
                figure(row.profile.load_s or None, 1, 2),
                figure(row.profile.peak_memory_bytes or None, 1e-6, 0),
                row.profile.state + (f": {row.profile.reason}" if row.profile.reason else ""),
            )
            for row in shown
        ],
    )
    terminal.data("* beaten by no other in accuracy, latency and cost")
    if meaning := meaning_of(profiles, metric):
        terminal.data(meaning)
    drawn = [row for row in shown if row.latency_s is not None][:12]
    by_batch = [(row.name, [(float(p.batch), p.median_s * 1000) for p in row.profile.points]) for row in drawn]
    terminal.data("\nlatency by batch\n" + plot(by_batch, across="batch", up="ms") if drawn else "")
    front = [
        (f"{row.name}, {(row.core_s or 0) * 1000:.1f} core-ms", [((row.latency_s or 0) * 1000, row.accuracy.value)])
        for row in drawn
        if row.accuracy is not None
    ]
    if front:
        terminal.data("\naccuracy, latency and cost\n" + plot(front, across="ms an item", up=metric, log_up=False))


def _check_metric(metric: str | None, models: Sequence[Model], profiles: Sequence[Profile]) -> None:
    """Raise UsageError where no variant has a figure of a metric, nor could."""
    from llamapipe.errors import UsageError

    known = {figure.metric for profile in profiles for figure in profile.accuracy}
    if not profiles:
        known = {"agreement", "ap50", *(a.metric for model in models for a in model.accuracy)}
    if metric is None or metric in known:
        return
    names = ", ".join(model.name for model in models)
    expected = f"one of {', '.join(sorted(known))}" if known else "none: their accuracy is not known"
    raise UsageError(
        f"--metric {metric!r}: no variant of {names} has such a figure, expected {expected}",
        hint="ap50 is measured by: llamapipe models build MODEL --calibrate VIDEO --ground-truth FILE"
        if metric == "ap50"
        else "agreement is measured by: llamapipe models build MODEL"
        if not known or metric == "agreement"
        else None,
    )


def _write_html(terminal: Terminal, path: Path | None, title: str, profiles: list[Profile], metric: str | None) -> None:
    from llamapipe.errors import UsageError
    from llamapipe.report.profiles import write_profiles_html

    if path is None:
        return
    if not profiles:
        raise UsageError(f"{path} is not written: nothing of {title} has been measured on this machine")
    write_profiles_html(path, title, profiles, metric)
    terminal.note(f"wrote {path}")

"""``llamapipe models``: which models there are, and fetching them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llamapipe.cli import completion
from llamapipe.cli.options import Json, Quiet, Verbose, terminal_of

if TYPE_CHECKING:
    from llamapipe.catalog import Model
    from llamapipe.inference import AssetStore

__all__ = ["app", "store"]

app = typer.Typer(help="Models: list, show, pull.", no_args_is_help=True)


def store() -> AssetStore:
    """The user's cache of models and clips."""
    from llamapipe.clock import system_env
    from llamapipe.inference import AssetStore, cache_root

    env = system_env()
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
    from llamapipe.inference import MODELS, find_models

    terminal = terminal_of(ctx)
    models = list(MODELS.values()) if task is None else find_models(task)
    assets = store()
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
                model.licence,
                f"{sum(assets.asset(file).size_bytes for file in model.files) / 1e6:.1f}",
                "yes" if all(assets.path(file) for file in model.files) else "no",
            )
            for model in models
        ],
    )


@app.command()
def show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="MODEL", autocompletion=completion.models)],
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Show one model: what it finds, what it takes, where it comes from."""
    from llamapipe.inference import model_named

    terminal = terminal_of(ctx)
    model, assets = model_named(name), store()
    described = _described(model, assets)
    if json:
        terminal.json(described)
        return
    terminal.data(f"{model.name}: {model.description}\n")
    labels = ", ".join(model.labels[:10]) + (f", ... ({len(model.labels)})" if len(model.labels) > 10 else "")
    rows = [
        ("tasks", ", ".join(model.tasks)),
        ("labels", labels),
        ("decoder", model.decoder),
        ("format", model.format),
        ("input sizes", ", ".join(f"{height}x{width}" for height, width in model.input_sizes)),
        ("accuracy", ", ".join(f"{a.metric} {a.value:g} on {a.dataset}, {a.kind}" for a in model.accuracy) or "-"),
        ("licence", model.licence),
    ]
    rows += [
        (
            "file",
            f"{file['name']}, {file['size_bytes'] / 1e6:.1f} MB, from {file['origin']}, here: {file['path'] or 'no'}",
        )
        for file in described["files"]
    ]
    rows += [("sha256", file["sha256"]) for file in described["files"]]
    terminal.table(("", ""), rows)


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
        "files": [
            {
                "name": file,
                "origin": assets.asset(file).origin,
                "sha256": assets.asset(file).sha256,
                "size_bytes": assets.asset(file).size_bytes,
                "path": str(path) if (path := assets.path(file)) else None,
            }
            for file in model.files
        ],
    }

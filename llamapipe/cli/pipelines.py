"""``llamapipe validate``, ``graph`` and ``schema``: pipelines as files."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from llamapipe.cli import completion
from llamapipe.cli.options import Json, OpsFiles, Quiet, Sets, Verbose, assignments, terminal_of
from llamapipe.errors import SpecError

__all__ = ["graph", "schema", "validate"]

_PIPELINE = typer.Argument(
    metavar="PIPELINE",
    help="Built-in name, YAML file, or file.py:name.",
    show_default=False,
    autocompletion=completion.pipelines,
)


class GraphFormat(StrEnum):
    """How a graph is written."""

    TREE = "tree"
    MERMAID = "mermaid"
    DOT = "dot"


def validate(
    ctx: typer.Context,
    pipeline: Annotated[str, _PIPELINE],
    sets: Sets = None,
    ops: OpsFiles = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> int:
    """Check a pipeline and name every problem with its place. Exit code 2 if there is one."""
    from llamapipe.clock import system_env
    from llamapipe.session import load_pipeline
    from llamapipe.spec.cautions import cautions

    terminal = terminal_of(ctx)
    params, stage_sets = assignments(sets)
    try:
        loaded = load_pipeline(pipeline, env=system_env(), params=params, sets=stage_sets, ops_files=ops or ())
    except SpecError as error:
        if not json:
            raise
        fields = ("code", "message", "where", "hint")
        terminal.json([{field: getattr(problem, field) for field in fields} for problem in error.problems])
        return 2
    for caution in cautions(loaded.spec, locations=loaded.locations):
        terminal.warning(str(caution))
    if json:
        terminal.json([])
    else:
        terminal.note(f"{pipeline}: valid")
    return 0


def graph(
    ctx: typer.Context,
    pipeline: Annotated[str, _PIPELINE],
    format: Annotated[GraphFormat, typer.Option("--format", "-f", help="How it is written.")] = GraphFormat.TREE,
    sets: Sets = None,
    ops: OpsFiles = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Show a pipeline's graph: as a tree, or for Mermaid or Graphviz.

    llamapipe graph blur-faces -f dot | dot -Tsvg > graph.svg
    """
    from llamapipe.clock import system_env
    from llamapipe.session import load_pipeline
    from llamapipe.spec import dot, mermaid, tree

    params, stage_sets = assignments(sets)
    loaded = load_pipeline(pipeline, env=system_env(), params=params, sets=stage_sets, ops_files=ops or ())
    manifests = {type: loaded.registry.manifest(type) for type in loaded.registry.types()}
    view = {GraphFormat.TREE: tree, GraphFormat.MERMAID: mermaid, GraphFormat.DOT: dot}[format]
    terminal_of(ctx).data(view(loaded.spec, manifests))


def schema(
    ctx: typer.Context,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write it there instead of to stdout.")
    ] = None,
    ops: OpsFiles = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Print the JSON Schema of pipeline files, with which editors check and complete them."""
    import json

    from llamapipe.media import SINKS
    from llamapipe.operator import load_registry
    from llamapipe.report import check_replaceable, write_whole
    from llamapipe.spec import json_schema

    registry = load_registry(ops or ())
    manifests = {type: registry.manifest(type) for type in registry.types()}
    text = json.dumps(json_schema(manifests, SINKS), indent=2)
    if output is None:
        terminal_of(ctx).data(text)
    else:
        check_replaceable(output, text[: text.index("\n", 2)], "schema of pipeline files")
        write_whole(output, (text + "\n").encode())
        terminal_of(ctx).note(f"wrote {output}")

"""``llamapipe ops``: which operators there are, and what each takes and gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llamapipe.cli import completion
from llamapipe.cli.failures import nearest
from llamapipe.cli.options import Json, OpsFiles, Quiet, Verbose, terminal_of
from llamapipe.errors import UsageError

if TYPE_CHECKING:
    from llamapipe.operator import Manifest, Registry

__all__ = ["app", "describe", "knob_rows", "param_rows", "port_rows"]

app = typer.Typer(help="Operators: list, show.", no_args_is_help=True)


@app.command("list")
def list_ops(
    ctx: typer.Context, ops: OpsFiles = None, json: Json = False, quiet: Quiet = False, verbose: Verbose = 0
) -> None:
    """List the operators that pipelines can use."""
    terminal = terminal_of(ctx)
    manifests = _manifests(_registry(ops))
    if json:
        terminal.json([describe(manifest) for manifest in manifests])
        return
    terminal.table(
        ("operator", "takes", "gives", "what it does"),
        [(m.type, ", ".join(m.inputs), ", ".join(m.outputs), _first_sentence(m.doc)) for m in manifests],
    )


@app.command()
def show(
    ctx: typer.Context,
    name: Annotated[
        str,
        typer.Argument(metavar="OPERATOR", help="detect, or llamapipe/detect@v1.", autocompletion=completion.operators),
    ],
    ops: OpsFiles = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Show one operator: ports, parameters, knobs, and how to write it in YAML."""
    terminal = terminal_of(ctx)
    manifest = _find(_registry(ops), name)
    if json:
        terminal.json(describe(manifest))
        return
    terminal.data(f"{manifest.type}\n\n{manifest.doc.strip()}\n")
    terminal.table(("port", "", "kind", "what"), port_rows(manifest))
    rows = param_rows(manifest)
    if rows:
        terminal.data("")
        terminal.table(("parameter", "type", "default", "what"), rows)
    knobs = knob_rows(manifest)
    if knobs:
        terminal.data("")
        terminal.table(("knob", "default"), knobs)
    for trait in _traits(manifest):
        terminal.data(f"\n{trait}")
    terminal.data("\n" + yaml_example(manifest))


def describe(manifest: Manifest) -> dict[str, Any]:
    """An operator as plain data."""
    return {
        "type": manifest.type,
        "doc": manifest.doc.strip(),
        "inputs": {
            name: {"kind": port.kind.value, "doc": port.doc, "many": port.many, "optional": port.optional}
            for name, port in manifest.inputs.items()
        },
        "outputs": {name: {"kind": port.kind.value, "doc": port.doc} for name, port in manifest.outputs.items()},
        "params": {
            name: {
                "type": param.type.__name__,
                "required": param.required,
                "default": None if param.required else param.default,
                "doc": param.doc,
                "choices": list(param.choices),
                "minimum": param.minimum,
                "maximum": param.maximum,
            }
            for name, param in manifest.params.items()
        },
        "knobs": dict(knob_rows(manifest)),
        "state": manifest.state.value,
        "fan_out": manifest.fan_out,
        "filters": manifest.filters,
        "hides": manifest.hides,
    }


def port_rows(manifest: Manifest) -> list[tuple[str, str, str, str]]:
    """(port, in or out, kind, what) of every port, inputs first."""
    rows = []
    for name, port in manifest.inputs.items():
        notes = [note for note, on in (("optional", port.optional), ("takes several", port.many)) if on]
        rows.append((name, "in", port.kind.value, "; ".join(filter(None, [port.doc, *notes]))))
    rows += [(name, "out", port.kind.value, port.doc) for name, port in manifest.outputs.items()]
    return rows


def param_rows(manifest: Manifest) -> list[tuple[str, str, str, str]]:
    """(parameter, type, default, what) of every parameter."""
    rows = []
    for name, param in manifest.params.items():
        limits = []
        if param.choices:
            limits.append("one of " + ", ".join(map(str, param.choices)))
        if param.minimum is not None:
            limits.append(f"at least {param.minimum:g}")
        if param.maximum is not None:
            limits.append(f"at most {param.maximum:g}")
        default = "required" if param.required else _value(param.default)
        rows.append((name, param.type.__name__, default, "; ".join(filter(None, [param.doc, *limits]))))
    return rows


def knob_rows(manifest: Manifest) -> list[tuple[str, str]]:
    """(knob, default) of every knob that the operator has beside its parameters."""
    from llamapipe.operator import Knob

    defaults = dict(manifest.defaults)
    names = ["task", "labels", *Knob] if manifest.uses_model else [Knob.BATCH, Knob.SAMPLE_FPS]
    return [
        (str(name), _value(defaults[name]) if name in defaults else "chosen by llamapipe")
        for name in names
        if name not in manifest.params
    ]


def yaml_example(manifest: Manifest) -> str:
    """The shortest stage of this operator that could be."""
    ports = [f"{name}: {_selector(port.kind.value)}" for name, port in manifest.inputs.items() if not port.optional]
    inputs = ports[0].split(": ", 1)[1] if len(ports) == 1 else "{" + ", ".join(ports) + "}"
    needed = [f", {name}: ..." for name, param in manifest.params.items() if param.required]
    short = manifest.short_name if manifest.type.startswith("llamapipe/") else manifest.type
    return f"- {{name: my-{manifest.short_name}, type: {short}, inputs: {inputs}{''.join(needed)}}}"


def _selector(kind: str) -> str:
    return "$source.frames" if kind == "frames" else f"$ops.STAGE.{kind}"


def _traits(manifest: Manifest) -> list[str]:
    return [
        text
        for text, on in (
            ("Keeps state: sees each stream in order.", manifest.state.value != "none"),
            ("Fans out: gives any number of items a frame.", manifest.fan_out),
            ("Filters: may end a frame's way.", manifest.filters),
            ("Hides: where it fails, the frame is blanked or left out, never shown.", manifest.hides),
        )
        if on
    ]


def _value(value: Any) -> str:
    if value is None:
        return "none"
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".")


def _registry(files: OpsFiles) -> Registry:
    from llamapipe.operator import load_registry

    return load_registry(files or ())


def _manifests(registry: Registry) -> list[Manifest]:
    return [registry.manifest(type) for type in registry.types()]


def _find(registry: Registry, name: str) -> Manifest:
    """The operator of that type, or the newest version of that name; llamapipe's own win over others."""
    if name in registry:
        return registry.manifest(name)
    manifests = _manifests(registry)
    wanted = name if "/" in name else f"llamapipe/{name}"
    for candidate in (wanted, name):
        versions = [m for m in manifests if candidate in (m.type.split("@")[0], m.short_name)]
        if versions:
            return max(versions, key=lambda m: int(m.type.rsplit("@v", 1)[1]))
    known = [m.short_name for m in manifests] + [m.type for m in manifests]
    likely = nearest(name, known)
    raise UsageError(
        f"no operator {name!r}", hint=f"did you mean {likely}?" if likely else "llamapipe ops list shows all"
    )

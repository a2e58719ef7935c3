"""``llamapipe doctor``: what is installed, what works, and the command that mends what does not."""

from __future__ import annotations

import os
import platform
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import typer

from llamapipe.cli.models import store
from llamapipe.cli.options import Json, Quiet, Verbose, terminal_of

__all__ = ["Finding", "doctor"]

_CORE = ("av", "numpy", "opencv-python", "onnxruntime", "openvino", "pyzmq", "supervision", "trackers")
_EXTRAS = {
    "metrics": ("motmetrics", "MOTA and IDF1 in llamapipe eval"),
    "parquet": ("pyarrow", "the parquet sink"),
    "pandas": ("pandas", "results as a data frame"),
    "torch": ("torch", "the torch backend"),
    "tensorrt": ("tensorrt", "the TensorRT backend, on NVIDIA GPUs"),
}


class Finding(NamedTuple):
    """One thing looked at. ``state`` is ok, missing (an extra that nobody asked for) or broken."""

    name: str
    state: str
    what: str
    mend: str = ""


def doctor(ctx: typer.Context, json: Json = False, quiet: Quiet = False, verbose: Verbose = 0) -> int:
    """Say what is installed, which backends and devices work, and how to mend what does not.

    Exit code 1 if something that every run needs is broken.
    """
    terminal = terminal_of(ctx)
    findings = [_python(), _machine(), *_packages(), _codec(), *_backends(), _cache(), *_extras()]
    if json:
        terminal.json([finding._asdict() for finding in findings])
    else:
        terminal.table(("", "state", "what", "to mend it"), findings)
    return 1 if any(finding.state == "broken" for finding in findings) else 0


def _python() -> Finding:
    return Finding("python", "ok", platform.python_version())


def _machine() -> Finding:
    from llamapipe.runtime import read_machine

    machine = read_machine()
    cores = f"{machine.cores:g} of {machine.cores_total} cores"
    memory = f"{machine.memory_available_bytes / 2**30:.1f} of {machine.memory_bytes / 2**30:.1f} GiB free"
    return Finding("machine", "ok", ", ".join(filter(None, [machine.cpu, cores, memory])))


def _packages() -> list[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    findings: list[Finding] = []
    for name in _CORE:
        try:
            findings.append(Finding(name, "ok", version(name)))
        except PackageNotFoundError:
            findings.append(Finding(name, "broken", "not installed", f"pip install {name}"))
    return findings


def _codec() -> Finding:
    try:
        import av

        av.codec.Codec("libx264", "w")
    except Exception as error:
        return Finding("libx264", "broken", f"PyAV cannot write H.264: {error}", "pip install --force-reinstall av")
    ffmpeg = ".".join(map(str, av.library_versions["libavcodec"]))
    return Finding("libx264", "ok", f"in PyAV, libavcodec {ffmpeg}")


def _backends() -> list[Finding]:
    from llamapipe.inference import BACKENDS, backends

    findings: list[Finding] = []
    for status in backends():
        if status.available:
            devices = [f"{d} ({', '.join(sorted(BACKENDS[status.name].precisions(d)))})" for d in status.devices]
            findings.append(Finding(f"backend {status.name}", "ok", f"{status.version}: {'; '.join(devices)}"))
        else:
            findings.append(Finding(f"backend {status.name}", "missing", status.reason, status.hint))
    return findings


def _cache() -> Finding:
    root = store().root
    existing = next((folder for folder in (root, *root.parents) if folder.exists()), Path("/"))
    if os.access(existing, os.W_OK):
        return Finding("cache", "ok", str(root))
    return Finding("cache", "broken", f"{root} cannot be written", "set LLAMAPIPE_CACHE to a folder of yours")


def _extras() -> list[Finding]:
    from importlib.metadata import version

    findings: list[Finding] = []
    for extra, (package, purpose) in _EXTRAS.items():
        if find_spec(package) is None:
            findings.append(Finding(f"extra {extra}", "missing", purpose, f"pip install 'llamapipe[{extra}]'"))
        else:
            findings.append(Finding(f"extra {extra}", "ok", f"{purpose}: {package} {version(package)}"))
    return findings

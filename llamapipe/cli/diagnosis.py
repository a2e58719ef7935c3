"""``llamapipe doctor``: what is installed, what works, and the command that mends what does not."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from llamapipe.cli.models import store
from llamapipe.cli.options import Json, Quiet, Verbose, terminal_of
from llamapipe.redaction import redacted_text

__all__ = ["Finding", "doctor"]

_CORE = ("av", "numpy", "opencv-python", "onnxruntime", "openvino", "pyzmq", "supervision", "trackers")
_EXTRAS = {
    "metrics": ("motmetrics", "MOTA and IDF1 in llamapipe eval"),
    "parquet": ("pyarrow", "the parquet sink"),
    "pandas": ("pandas", "results as a data frame"),
    "torch": ("torch", "the torch backend"),
    "tensorrt": ("tensorrt", "the TensorRT backend, on NVIDIA GPUs"),
}


_CPU_FEATURES = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "VNNI",
    "avx512_bf16": "BF16",
    "amx_tile": "AMX",
    "asimd": "NEON",
}


_MODULES = {"opencv-python": "cv2", "pyzmq": "zmq"}


class Finding(NamedTuple):
    """One thing looked at. ``state`` is ok, missing (an extra that nobody asked for) or broken."""

    name: str
    state: str
    what: str
    mend: str = ""


def doctor(
    ctx: typer.Context,
    network: Annotated[
        bool, typer.Option("--network", help="Also ask the package index whether models can be fetched.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> int:
    """Say what is installed, which backends and devices work, and how to mend what does not.

    Exit code 1 if something that every run needs is broken.
    """
    terminal = terminal_of(ctx)
    findings = [_python()]
    looks = [_llamapipe, _machine, _packages, _codec, _backends, _cache, *([_index] if network else []), _extras]
    for look in looks:
        try:
            findings += look()
        except ImportError as error:  # the package is among the broken ones; the others are still worth a look
            findings.append(Finding(look.__name__.strip("_"), "broken", f"not looked at: {error}"))
    if json:
        terminal.json([finding._asdict() for finding in findings])
    else:
        terminal.table(("", "state", "what", "to mend it"), findings)
    return 1 if any(finding.state == "broken" for finding in findings) else 0


def _python() -> Finding:
    return Finding("python", "ok", platform.python_version())


def _llamapipe() -> list[Finding]:
    from llamapipe import __version__
    from llamapipe.control import controller

    compiled = Path(controller.__file__).suffix != ".py"
    how = "compiled" if compiled else "interpreted: a wheel built where a C compiler is decides faster"
    return [Finding("llamapipe", "ok", f"{__version__}, {how}")]


def _machine() -> list[Finding]:
    from llamapipe.runtime import read_machine

    machine = read_machine()
    cores = f"{machine.cores:g} of {machine.cores_total} cores"
    memory = f"{machine.memory_available_bytes / 2**30:.1f} of {machine.memory_bytes / 2**30:.1f} GiB free"
    limited = "" if machine.cores >= machine.cores_total else " (affinity or container limit)"
    what = [machine.cpu, cores + limited, " ".join(_cpu_features()), memory]
    return [Finding("machine", "ok", ", ".join(filter(None, what)))]


def _cpu_features() -> list[str]:
    """Instruction sets that inference libraries make use of."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return []
    line = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    present = set(line.partition(":")[2].split())
    return [name for flag, name in _CPU_FEATURES.items() if flag in present]


def _packages() -> list[Finding]:
    """Core packages, imported: one that is installed may still lack a system library."""
    from importlib import import_module
    from importlib.metadata import PackageNotFoundError, version

    findings: list[Finding] = []
    for name in _CORE:
        try:
            import_module(_MODULES.get(name, name))
            findings.append(Finding(name, "ok", version(name)))
        except PackageNotFoundError:
            findings.append(Finding(name, "broken", "not installed", f"pip install {name}"))
        except Exception as error:
            findings.append(_unusable(name, error))
    return findings


def _unusable(name: str, error: Exception) -> Finding:
    reason = " ".join(str(error).split()) or type(error).__name__
    mend = f"pip install --force-reinstall {name}"
    if "libGL" in reason or "libgthread" in reason:
        mend = "apt-get install libgl1 libglib2.0-0"
    return Finding(name, "broken", f"cannot be imported: {reason[:160]}", mend)


def _codec() -> list[Finding]:
    try:
        import av

        av.codec.Codec("libx264", "w")
    except Exception as error:
        mend = "pip install --force-reinstall av"
        return [Finding("libx264", "broken", f"PyAV cannot write H.264: {error}", mend)]
    ffmpeg = ".".join(map(str, av.library_versions["libavcodec"]))
    return [Finding("libx264", "ok", f"in PyAV, libavcodec {ffmpeg}")]


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


def _cache() -> list[Finding]:
    root = store().root
    if root.is_file():
        return [Finding("cache", "broken", f"{root} is a file", "set LLAMAPIPE_CACHE to a folder of yours")]
    existing = next((folder for folder in (root, *root.parents) if folder.exists()), Path("/"))
    if os.access(existing, os.W_OK):
        return [Finding("cache", "ok", f"{root}, {sum(store().size().values()) / 1e6:.1f} MB fetched")]
    return [Finding("cache", "broken", f"{root} cannot be written", "set LLAMAPIPE_CACHE to a folder of yours")]


def _index() -> list[Finding]:
    """The package index as pip is set up to use it; nothing is downloaded."""
    from llamapipe.inference import MODELS

    assets = store()
    package = next(p for m in MODELS.values() for file in m.files if (p := assets.asset(file).package)).split("==")[0]
    command = [sys.executable, "-m", "pip", "index", "versions", package, "--disable-pip-version-check"]
    mend = "check pip's index settings and the network, or name a folder of models in LLAMAPIPE_ASSET_MIRROR"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [Finding("index", "missing", f"not reachable: {type(error).__name__}", mend)]
    if done.returncode:
        reason = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "pip gave no reason")
        return [Finding("index", "missing", f"does not have {package}: {redacted_text(reason)[:120]}", mend)]
    return [Finding("index", "ok", f"reachable, has {package}")]


def _extras() -> list[Finding]:
    from importlib.metadata import version

    findings: list[Finding] = []
    for extra, (package, purpose) in _EXTRAS.items():
        if find_spec(package) is None:
            findings.append(Finding(f"extra {extra}", "missing", purpose, f"pip install 'llamapipe[{extra}]'"))
        else:
            findings.append(Finding(f"extra {extra}", "ok", f"{purpose}: {package} {version(package)}"))
    return findings

"""What makes two machines alike for a measurement, and whether one is left alone meanwhile."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path

__all__ = ["cores_busy_s", "cores_to_come", "expect_cores", "fingerprint"]

# Extensions that inference libraries choose their kernels by.
_EXTENSIONS = frozenset(
    [
        "avx",
        "avx2",
        "fma",
        "avx512f",
        "avx512_vnni",
        "avx512_bf16",
        "avx_vnni",
        "amx_tile",
        "amx_int8",
        "amx_bf16",
        "asimd",
        "asimddp",
        "sve",
        "bf16",
        "i8mm",
    ]
)


def fingerprint(root: Path = Path("/")) -> str:
    """``amd-epyc-7b13-2x-3fa91c02``: the processor's name, its logical cores, and a digest of all that matters.

    The same after a reboot, in a container, and under a narrower affinity. ``root`` is where /proc lies.
    """
    info = _text(root / "proc/cpuinfo")
    name = _field(info, "model name") or _field(info, "CPU implementer") or platform.machine() or "unknown"
    flags = set((_field(info, "flags") or _field(info, "Features")).split()) & _EXTENSIONS
    cores = sum(line.startswith("processor") for line in info.splitlines()) or os.cpu_count() or 1
    gpus = sorted(_field(_text(file), "Model") for file in (root / "proc/driver/nvidia/gpus").glob("*/information"))
    # On ARM the maker alone is named; parts tell its processors apart, several of one machine too.
    parts = {line for line in info.splitlines() if line.startswith(("CPU part", "CPU variant"))}
    facts = "\n".join((platform.machine(), name, str(cores), *sorted(flags), *gpus, *sorted(parts)))
    digest = hashlib.sha256(facts.encode()).hexdigest()[:8]
    slug = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)|\bcpu\b|\bprocessor\b|@.*", " ", name.lower())).strip("-")
    return f"{slug or 'cpu'}-{cores}x-{digest}"


_expected = 0  # cores, of a run that is held on fewer for now


def expect_cores(count: int) -> None:
    """What is loaded from now on may come to run on so many cores, though its threads are held on fewer; 0: no more."""
    global _expected
    _expected = count


def cores_to_come() -> int:
    """Cores that what is loaded by this thread may come to run on."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(mine, _expected)


def cores_busy_s(cores: Iterable[int] | None = None) -> float:
    """Seconds that these cores were busy with anything, or taken from this machine; zero if unknown.

    Left out: those that this thread may run on now, which may be others the next time.
    """
    try:
        lines = Path("/proc/stat").read_text().splitlines()
        mine = {f"cpu{core}" for core in (os.sched_getaffinity(0) if cores is None else cores)}
        # user nice system idle iowait irq softirq steal
        rows = [line.split() for line in lines]
        ticks = sum(int(row[at]) for row in rows if row and row[0] in mine for at in (1, 2, 3, 6, 7, 8))
        return ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        return 0.0


def _field(text: str, key: str) -> str:
    """Value of the first ``key: value`` line; empty where there is none."""
    for line in text.splitlines():
        found, colon, value = line.partition(":")
        if colon and found.strip() == key:
            return value.strip()
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""

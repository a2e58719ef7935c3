"""How much of this machine is ours: processor cores and memory, as affinity and control groups leave them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Machine", "read_machine"]


@dataclass(frozen=True, slots=True)
class Machine:
    """Cores and memory that this process may use, and what there is in all."""

    cores: float  # usable: the least of affinity and control-group quota
    cores_total: int
    memory_bytes: int  # usable: the least of physical memory and control-group limit
    memory_available_bytes: int  # free now, without swapping
    cpu: str  # the processor's own name; empty unknown
    core_numbers: tuple[int, ...] = ()  # that affinity allows


def read_machine(root: Path = Path("/")) -> Machine:
    """Facts of this machine; ``root`` is where /proc and /sys lie."""
    total = os.cpu_count() or 1
    numbers = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else tuple(range(total))
    cores = float(len(numbers))
    meminfo = _meminfo(root / "proc/meminfo")
    memory = meminfo.get("MemTotal", 0)
    available = meminfo.get("MemAvailable", 0)
    for folder in _groups(root):
        quota = _cpu_quota(folder)
        if quota is not None:
            cores = min(cores, quota)
        for limit_file, used_file in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit = _number(folder / limit_file)
            if limit is not None and limit < memory:
                memory = limit
                available = min(available, limit - (_number(folder / used_file) or 0))
    return Machine(cores, total, memory, max(0, available), _cpu_name(root / "proc/cpuinfo"), numbers)


def _groups(root: Path) -> Iterator[Path]:
    """Control-group folders of this process and all above it, version 2 and version 1."""
    base = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        tops = [base / name for name in (controllers, "cpu", "memory") if name] if controllers else [base]
        for top in tops:
            folder = top / path.lstrip("/")
            yield from (folder, *(above for above in folder.parents if above.is_relative_to(top)))


def _cpu_quota(folder: Path) -> float | None:
    words = _text(folder / "cpu.max").split()
    if len(words) == 2 and words[0].isdigit() and words[1].isdigit():
        return int(words[0]) / int(words[1])
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota / period if quota is not None and period and quota > 0 else None


def _meminfo(path: Path) -> dict[str, int]:
    sizes = {}
    for line in _text(path).splitlines():
        key, _, value = line.partition(":")
        words = value.split()
        if words and words[0].isdigit():
            sizes[key] = int(words[0]) * 1024
    return sizes


def _cpu_name(path: Path) -> str:
    for line in _text(path).splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return ""


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""

"""How much of the machine is ours: the least of what affinity and every control group above leave."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llamapipe.runtime import read_machine

GIB = 1 << 30


def files(root: Path, **texts: str) -> Path:
    """Files by name, with __ for / and _dot_ for the dots in them."""
    wanted = {"proc__meminfo": "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n", **texts}
    for name, text in wanted.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


@pytest.mark.usefixtures("eight_cores")
def test_without_limits_all_is_ours(tmp_path: Path) -> None:
    machine = read_machine(files(tmp_path))
    assert (machine.cores, machine.cores_total, machine.core_numbers) == (8.0, 8, tuple(range(8)))
    assert (machine.memory_bytes, machine.memory_available_bytes) == (16 * GIB, 8 * GIB)


@pytest.mark.usefixtures("eight_cores")
def test_affinity_leaves_its_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 5}, raising=False)
    machine = read_machine(files(tmp_path))
    assert (machine.cores, machine.cores_total, machine.core_numbers) == (2.0, 8, (2, 5))


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("inner", "outer", "cores"), [("max 100000", "150000 100000", 1.5), ("50000 100000", "max 100000", 0.5)]
)
def test_a_quota_of_version_2_counts_wherever_it_is_set(tmp_path: Path, inner: str, outer: str, cores: float) -> None:
    root = files(
        tmp_path,
        proc__self__cgroup="0::/box/inner\n",
        sys__fs__cgroup__box__cpu_dot_max=outer,
        sys__fs__cgroup__box__inner__cpu_dot_max=inner,
        sys__fs__cgroup__box__memory_dot_max=str(2 * GIB),
        sys__fs__cgroup__box__memory_dot_current=str(GIB),
    )
    machine = read_machine(root)
    assert machine.cores == cores
    assert (machine.memory_bytes, machine.memory_available_bytes) == (2 * GIB, GIB)


@pytest.mark.usefixtures("eight_cores")
def test_a_quota_of_version_1_counts_and_minus_one_is_none(tmp_path: Path) -> None:
    root = files(
        tmp_path,
        proc__self__cgroup="3:memory:/box\n1:cpu,cpuacct:/box\n",
        sys__fs__cgroup__cpu__box__cpu_dot_cfs_quota_us="300000",
        sys__fs__cgroup__cpu__box__cpu_dot_cfs_period_us="100000",
        sys__fs__cgroup__cpu__cpu_dot_cfs_quota_us="-1",
        sys__fs__cgroup__cpu__cpu_dot_cfs_period_us="100000",
        sys__fs__cgroup__memory__box__memory_dot_limit_in_bytes=str(4 * GIB),
        sys__fs__cgroup__memory__box__memory_dot_usage_in_bytes=str(3 * GIB),
    )
    machine = read_machine(root)
    assert (machine.cores, machine.memory_bytes, machine.memory_available_bytes) == (3.0, 4 * GIB, GIB)

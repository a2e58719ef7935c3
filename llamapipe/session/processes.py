"""What worker processes are told, so that they find the same operators and models as the session did."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import entry_points
from math import ceil
from pathlib import Path

from llamapipe.control.plan import StagePlan
from llamapipe.errors import UsageError
from llamapipe.inference import registered_files
from llamapipe.operator import Operator
from llamapipe.operator.registry import ENTRY_POINT_GROUP
from llamapipe.runtime import Boot, StreamFacts, stages_of
from llamapipe.session.compile import Compiled
from llamapipe.spec import PLACEMENTS

__all__ = ["boot_of", "check_count", "operator_files", "parse_workers", "slot_bytes", "workers_at"]

_MOST_PER_CORE = {"thread": 16, "process": 4}  # of which more only wait for each other
_MOST_AT_LEAST = {"thread": 64, "process": 16}  # that may be tried on the smallest machine
_BUSY = 0.5  # share of its time that a worker of a paced stream is to work: more would keep frames waiting
_MIN_SLOT_BYTES = 1 << 22
_UHD_PIXELS = 3840 * 2160
_BYTES_PER_PIXEL = 12  # four times what BGR takes: room for stages that enlarge; untouched memory costs nothing


def parse_workers(text: int | str | None) -> tuple[str | None, int | None]:
    """(kind, how many) of ``--workers``: a number, ``thread``, ``process``, or ``process:3``. Raises UsageError."""
    if text is None:
        return None, None
    kind, colon, number = str(text).partition(":")
    if kind.isdecimal() and not colon:
        kind, number = "", kind
    if (kind and kind not in PLACEMENTS) or ((colon or number) and (not number.isdecimal() or int(number) == 0)):
        raise UsageError(
            f"workers {text!r}: expected {', '.join(PLACEMENTS)}, a number from 1 up, or both as in process:3"
        )
    return kind or None, int(number) if number else None


def check_count(count: int, kinds: Iterable[str], cores: float) -> None:
    """Raise UsageError where so many workers of a kind make no sense on so many cores."""
    for kind in kinds:
        most = max(_MOST_AT_LEAST[kind], int(_MOST_PER_CORE[kind] * cores))
        if count > most:
            plural = "threads" if kind == "thread" else "processes"
            raise UsageError(
                f"workers {kind}:{count}: expected at most {most} {plural} on {cores:g} cores, got {count}",
                hint="left out, llamapipe takes about as many as there are cores",
            )


def workers_at(fps: float, cost_core_ms: float, most: int) -> int:
    """How many are half busy with so many frames a second that take so much each; at most ``most``."""
    return max(1, min(most, ceil(fps * cost_core_ms / 1000 / _BUSY)))


def slot_bytes(streams: Iterable[StreamFacts]) -> int:
    """Bytes that the largest picture of these streams may take. One whose size is not known yet may bring UHD."""
    pixels = [facts.width * facts.height or _UHD_PIXELS for facts in streams]
    return max([_MIN_SLOT_BYTES, *(_BYTES_PER_PIXEL * of_stream for of_stream in pixels)])


def boot_of(compiled: Compiled, ops_files: Sequence[Path], cache_root: Path) -> Boot | None:
    """What every process of a run is told; None where no stage runs in one.

    Raises UsageError for an operator that a process could not import.
    """
    stages = stages_of(compiled.stages, "process")
    if not stages:
        return None
    return Boot(
        name="",
        identity="",
        address="",
        token="",
        fd=-1,
        slot_bytes=0,
        stages=stages,
        all_stages=compiled.stages,
        streams={},
        operators=operator_files(compiled, stages, ops_files, strict=True),
        models=registered_files(),
        cache_root=str(cache_root),
    )


def operator_files(
    compiled: Compiled, stages: Sequence[StagePlan], ops_files: Sequence[Path], *, strict: bool = False
) -> tuple[str, ...]:
    """Files that define the operators which no installed package registers.

    ``strict``: raises UsageError for an operator that lies in none.
    """
    installed = {operator for entry in entry_points(group=ENTRY_POINT_GROUP) for operator in entry.load()}
    files = [str(Path(file).resolve()) for file in ops_files]
    for stage in stages:
        operator = compiled.setups[stage.name].operator
        if operator in installed:
            continue
        file = _file_of(operator)
        if file is None and not strict:
            continue
        if file is None:
            raise UsageError(
                f"stage {stage.name}: operator {stage.type} is defined where a process cannot import it "
                f"({operator.__module__})",
                hint="put it into a file of its own and name that with --ops, or let the stage run in threads",
            )
        if file not in files:
            files.append(file)
    return tuple(files)


def _file_of(operator: type[Operator]) -> str | None:
    if "<locals>" in operator.__qualname__:
        return None
    module = sys.modules.get(operator.__module__)
    file = getattr(module, "__file__", None)
    if file is None or importlib.util.spec_from_file_location("probe", file) is None or not Path(file).is_file():
        return None
    return str(Path(file).resolve())

"""Objectives as people write them: ``p95=200ms``, ``deadline=30s, drops=1%``."""

from __future__ import annotations

import re
from typing import Any

from llamapipe.errors import UsageError
from llamapipe.spec.model import SloSpec
from llamapipe.spec.names import nearest

__all__ = ["format_slo", "parse_duration_s", "parse_slo", "slo_problem"]

_PART = re.compile(r"^\s*(?P<name>[a-z0-9_]+)\s*(?:<=|=)\s*(?P<value>\S.*?)\s*$", re.IGNORECASE)
_DURATION = re.compile(r"(?P<amount>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LATENCIES = {"p50": "latency_p50_ms", "p95": "latency_p95_ms", "p99": "latency_p99_ms"}
_NAMES = (*_LATENCIES, "deadline", "drops")
_EXAMPLES = "for example: p95=200ms, or deadline=5m, or p95=200ms,drops=1%"


def parse_slo(text: str) -> SloSpec:
    """An objective from text; ``<=`` means the same as ``=``. Raises UsageError that says what was expected."""
    fields: dict[str, Any] = {}
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise UsageError(f"objective {text!r}: expected NAME=VALUE, got {part.strip()!r}", hint=_EXAMPLES)
        name, value = match["name"].lower(), match["value"]
        if name not in _NAMES:
            likely = nearest(name, _NAMES)
            raise UsageError(
                f"objective {text!r}: expected one of {', '.join(_NAMES)}, got {name!r}",
                hint=f"did you mean {likely}?" if likely else _EXAMPLES,
            )
        key = _LATENCIES.get(name) or {"deadline": "deadline_s", "drops": "max_drop_share"}[name]
        if key in fields:
            raise UsageError(f"objective {text!r}: {name} is there twice", hint="leave one of them out")
        if name == "drops":
            fields[key] = _share(value, text)
        else:
            seconds = parse_duration_s(value)
            if seconds is None or seconds <= 0:
                raise UsageError(
                    f"objective {text!r}: {name}: expected a time with its unit, over zero, got {value!r}",
                    hint="units: ms, s, m, h; for example 200ms or 1h30m",
                )
            fields[key] = round(seconds * 1000, 6) if name in _LATENCIES else seconds
    slo = SloSpec(**fields)
    problem = slo_problem(slo)
    if problem is not None:
        raise UsageError(f"objective {text!r}: {problem}", hint=_EXAMPLES)
    return slo


def parse_duration_s(text: str) -> float | None:
    """Seconds of ``200ms``, ``0.2s``, ``5m``, ``1h30m``; None where the text is no such time."""
    parts = list(_DURATION.finditer(text.strip().lower()))
    if not parts or "".join(part[0] for part in parts) != text.strip().lower():
        return None
    order = [("h", "m", "s", "ms").index(part["unit"]) for part in parts]
    if order != sorted(set(order)):
        return None
    return sum(float(part["amount"]) * _SECONDS[part["unit"]] for part in parts)


def slo_problem(slo: SloSpec) -> str | None:
    """Why an objective cannot be, or None."""
    targets = [name for name in (*_LATENCIES.values(), "deadline_s") if getattr(slo, name) is not None]
    if not targets:
        return "expected a latency or a deadline, got neither"
    if len(targets) > 1:
        return f"expected one latency or a deadline, got {' and '.join(targets)}"
    return None


def format_slo(slo: SloSpec) -> str:
    """``p95<=200ms``, with ``, drops<=1%`` where drops are allowed."""
    parts = [f"{n}<={getattr(slo, f):g}ms" for n, f in _LATENCIES.items() if getattr(slo, f) is not None]
    if slo.deadline_s is not None:
        parts.append(f"deadline<={slo.deadline_s:g}s")
    if slo.max_drop_share:
        parts.append(f"drops<={slo.max_drop_share * 100:g}%")
    return ", ".join(parts)


def _share(value: str, text: str) -> float:
    number = value.removesuffix("%").strip()
    try:
        share = float(number) / (100 if value.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(
            f"objective {text!r}: drops: expected a share from 0% to 100%, got {value!r}", hint="for example drops=1%"
        )
    return share

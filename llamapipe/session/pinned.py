"""A tuning as a file that ``run --config`` takes: YAML, read by people and machines; see docs/tuning.md."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from llamapipe.errors import Problem, SpecError, UsageError
from llamapipe.inference.hardware import fingerprint
from llamapipe.operator import Manifest
from llamapipe.report import check_replaceable, write_whole
from llamapipe.session.resolve import check_floor
from llamapipe.spec import PipelineSpec, apply_sets, parse_slo
from llamapipe.spec.accuracy_text import with_agreement
from llamapipe.spec.yaml_tree import Dumper, parse_yaml, plain_value
from llamapipe.tune import Tuning

__all__ = [
    "as_sets",
    "check_pinnable",
    "digest_of_pipeline",
    "missing_variant",
    "needed_core_ms",
    "of_stages",
    "pin",
    "read_pinned",
    "unlike",
    "with_pinned",
]

VERSION = 1
_WIDTH = 110
_HEAD = """\
# A tuned configuration of pipeline {pipeline}, made by `llamapipe tune`. Use it with:
#   llamapipe run {pipeline} -i VIDEO -o DIR --config {file}
"""
_ORDER = (
    *("version", "pipeline", "digest", "hardware", "video", "objective", "metric", "floor", "values", "predicted"),
    *("reference", "notes", "points", "frames", "budget_s", "took_s", "signature", "tried"),
)


def digest_of_pipeline(spec: PipelineSpec) -> str:
    """Of the stages and how they are connected: what a configuration is for. Sinks and objectives are no part of it."""
    ops = [op.model_dump(mode="json") for op in spec.ops]
    return hashlib.sha256(msgspec.json.encode([spec.name, ops], order="deterministic")).hexdigest()[:16]


def pin(tuning: Tuning, path: Path) -> None:
    """Write a tuning; the file appears when it is whole. Raises UsageError for one without values, OutputError."""
    if not tuning.feasible:
        raise UsageError(f"nothing that was tried for {tuning.pipeline} fits: there is no configuration to pin")
    data = msgspec.to_builtins(tuning)
    ordered = {key: data[key] for key in _ORDER}
    ordered["tried"] = [_short(tried) for tried in data["tried"]]
    # The floor is what a run asks for as well, to the last digit.
    whole = ("values", "reference", "floor")
    ordered = {key: value if key in whole else _rounded(value) for key, value in ordered.items()}
    check_pinnable(path)
    text = yaml.dump(ordered, Dumper=Dumper, sort_keys=False, width=_WIDTH, allow_unicode=True, default_flow_style=None)
    write_whole(path, (_HEAD.format(pipeline=tuning.pipeline, file=path.name) + text).encode())


def check_pinnable(path: Path) -> None:
    """Raise UsageError where `pin` would replace anything but a tuned configuration, OutputError for a folder."""
    check_replaceable(path, _HEAD.partition("{")[0], "tuned configuration")


def _short(tried: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tried.items() if value not in (None, "")}


def _rounded(value: Any) -> Any:
    """Measured figures with the digits that mean something."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, Mapping):
        return {key: part if key == "values" else _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list | tuple) else value


def read_pinned(path: Path) -> Tuning:
    """Read what `pin` wrote. Raises UsageError for a file that is not there or is another kind of file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = (getattr(error, "strerror", None) or "it is no text").lower()
        raise UsageError(f"configuration {path} cannot be read: {reason}") from error
    try:
        root, problems = parse_yaml(text, str(path))
    except SpecError as error:
        raise UsageError(f"configuration {path}: {error.problems[0].message}", hint=_MAKE) from error
    data = plain_value(root) if root is not None else None
    if problems or not isinstance(data, dict) or "values" not in data:
        raise UsageError(f"configuration {path}: expected what `llamapipe tune` writes, with values", hint=_MAKE)
    version = data.get("version")
    if version != VERSION:
        raise UsageError(f"configuration {path}: expected version {VERSION}, got {version!r}", hint="tune again")
    try:
        return msgspec.convert(data, Tuning, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"configuration {path}: {str(error).lower()}", hint=_MAKE) from error


_MAKE = "make one: llamapipe tune PIPELINE -i VIDEO --config FILE"


def with_pinned(
    spec: PipelineSpec,
    tuning: Tuning,
    sets: Mapping[str, str],
    manifests: Mapping[str, Manifest],
    *,
    min_accuracy: float | None = None,
) -> PipelineSpec:
    """The spec as tuned, and ``sets`` on top. The floor is met by what was measured, so it is asked no more.

    ``spec`` is without ``sets``; ``manifests`` is by operator type; ``min_accuracy`` (0..1) is asked of what was
    measured, whichever metric that is. Raises UsageError where the tuning is for another pipeline, or a lower floor.
    """
    check_floor(min_accuracy, sets)
    digest = digest_of_pipeline(spec)
    if digest != tuning.digest:
        what = (
            f"its stages or parameters have changed since (digest {tuning.digest}, now {digest})"
            if spec.name == tuning.pipeline
            else f"it is for pipeline {tuning.pipeline}, this is {spec.name}"
        )
        raise UsageError(
            f"the configuration does not fit: {what}",
            hint="give the pipeline and --set params.* that it was tuned with, or tune again",
        )
    objective = parse_slo(tuning.objective) if tuning.objective else None
    whole = spec
    if min_accuracy is not None:
        whole = whole.model_copy(update={"accuracy": with_agreement(whole.accuracy, min_accuracy)})
    spec = spec.model_copy(update={"accuracy": None, "slo": objective})
    floors = {key: value for key, value in sets.items() if key.startswith("accuracy.")}
    asked = apply_sets(whole, floors, manifests).accuracy if floors else None
    if (
        min_accuracy is None
        and asked is not None
        and (asked.min > tuning.floor or (asked.metric or tuning.metric) != tuning.metric)
    ):
        raise UsageError(
            f"--set {', '.join(f'{key}={value}' for key, value in floors.items())}: the configuration was tuned for "
            f"{tuning.metric} of at least {tuning.floor:g}",
            hint=f"tune again: llamapipe tune {tuning.pipeline} -i VIDEO --min-accuracy {asked.min:g}",
        )
    if min_accuracy is not None and min_accuracy > tuning.floor:
        raise UsageError(
            f"--min-accuracy {min_accuracy:g}: the configuration was tuned for {tuning.metric} of at least "
            f"{tuning.floor:g}",
            hint=f"tune again: llamapipe tune {tuning.pipeline} -i VIDEO --min-accuracy {min_accuracy:g}",
        )
    wanted = {key: value for key, value in sets.items() if key not in floors}
    return apply_sets(spec, {**as_sets(tuning.values), **wanted}, manifests)


def of_stages(sets: Mapping[str, str]) -> dict[str, str]:
    """Without what is asked of the whole: a trial has no objective but the search's own."""
    return {key: value for key, value in sets.items() if key.partition(".")[0] not in ("slo", "accuracy")}


def as_sets(values: Mapping[str, Any]) -> dict[str, str]:
    """As `apply_sets` reads them."""
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in values.items()}


def needed_core_ms(tuning: Tuning, *, reference_too: bool) -> float | None:
    """Core-milliseconds a frame, those of the reference if they are more and it may come to run instead.

    None where that is not known of this machine, or prices of other devices are in it.
    """
    if tuning.predicted is None or tuning.hardware != fingerprint():
        return None
    if any(key.endswith(".device") and value != "cpu" for key, value in tuning.values.items()):
        return None
    found = [tuning.predicted]
    if reference_too:
        reference = [t.predicted for t in tuning.tried if t.what == "reference" and t.predicted is not None]
        if not reference:
            return None
        found += reference
    return max(predicted.cost_core_ms for predicted in found)


def unlike(tuning: Tuning) -> str | None:
    """What a user should know where the configuration was tuned on another machine."""
    here = fingerprint()
    if tuning.hardware == here:
        return None
    return (
        f"the configuration was tuned on {tuning.hardware}, this is {here}: latencies and cost will differ; "
        "tune again here to be sure of them"
    )


def missing_variant(error: SpecError, tuning: Tuning) -> SpecError:
    """The error of a stage whose tuned variant is not to be had here, with what to do about it."""
    problems = [
        Problem(p.code, f"{p.message} (as tuned on {tuning.video})", p.where, p.hint or "build it, or tune again here")
        for p in error.problems
    ]
    return SpecError(problems)

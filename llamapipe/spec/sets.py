"""Values that a run changes: ``--set detect.min_score=0.3``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from llamapipe.errors import UsageError
from llamapipe.operator import Manifest
from llamapipe.spec.knob_values import knob_problem, names_labels
from llamapipe.spec.knobs import knob_names
from llamapipe.spec.model import AccuracyFloor, OpSpec, PipelineSpec, SloSpec
from llamapipe.spec.names import did_you_mean, resolve_type
from llamapipe.spec.yaml_tree import parse_scalar

__all__ = ["apply_sets"]

_Model = TypeVar("_Model", bound=BaseModel)


def apply_sets(
    spec: PipelineSpec, sets: Mapping[str, str], manifests: Mapping[str, Manifest], *, flag: str = "--set"
) -> PipelineSpec:
    """The spec with values changed. ``sets`` maps ``STAGE.KNOB`` (a parameter or a knob), ``slo.FIELD`` and
    ``accuracy.FIELD`` to values, read like YAML (``person,car`` where a list is expected is one); ``manifests`` is by
    operator type.

    A latency or a deadline replaces the objective's other one; ``null`` takes a value away, so that llamapipe or the
    operator chooses. Raises UsageError for an unknown stage or name, with the nearest one, and for a value that
    doesn't fit; errors speak of ``flag``, by which the user gave them.
    """
    for key, text in sets.items():
        target, _, name = key.partition(".")
        value = parse_scalar(text)
        if not name:
            raise UsageError(
                f"{flag} {key}={text}: expected STAGE.KNOB=VALUE, got {key!r}",
                hint=_key_hint(key, spec, manifests, flag),
            )
        index = next((i for i, op in enumerate(spec.ops) if op.name == target), None)
        if index is not None:
            op = _with(spec.ops[index], name, value, text, manifests, flag)
            spec = spec.model_copy(update={"ops": (*spec.ops[:index], op, *spec.ops[index + 1 :])})
        elif target == "slo":
            spec = spec.model_copy(update={"slo": _objective(spec.slo, name, value, f"{flag} {key}={text}")})
        elif target == "accuracy":
            old = spec.accuracy.model_dump(exclude_none=True) if spec.accuracy is not None else {}
            accuracy = _checked(AccuracyFloor, {**old, name: value}, f"{flag} {key}={text}", name)
            spec = spec.model_copy(update={"accuracy": accuracy})
        else:
            stages = [op.name for op in spec.ops]
            hint = did_you_mean(target, stages, f"stages: {', '.join(stages)}")
            raise UsageError(f"{flag} {key}={text}: pipeline {spec.name} has no stage {target!r}", hint=hint)
    return spec


def _with(op: OpSpec, name: str, value: Any, text: str, manifests: Mapping[str, Manifest], flag: str) -> OpSpec:
    what = f"{flag} {op.name}.{name}={text}"
    type_ = resolve_type(op.type, manifests)
    if type_ is not None:
        manifest = manifests[type_]
        known = [*manifest.params, *knob_names(manifest)]
        if name not in known:
            raise UsageError(
                f"{what}: {type_} has no {name!r}", hint=did_you_mean(name, known, f"known: {', '.join(known)}")
            )
        param = manifest.params.get(name)
        if param is not None and param.type is str and not isinstance(value, str) and value is not None:
            value = text  # a text that looks like a number is still a text
        takes_list = param.type is list if param is not None else name == "labels"
        takes_list = takes_list and (param is not None or not names_labels(value))
        if takes_list and value is not None and not isinstance(value, list):
            value = [part.strip() for part in text.split(",")] if isinstance(value, str) else [value]
        if value is not None:
            problem = param.problem(value) if param is not None else knob_problem(name, value)
            if problem is not None:
                raise UsageError(f"{what}: {problem}")
    params = {key: old for key, old in op.params.items() if key != name}
    if value is not None:
        params[name] = value
    return op.model_copy(update={"params": params})


def _objective(slo: SloSpec | None, name: str, value: Any, what: str) -> SloSpec:
    fields = slo.model_dump(exclude_none=True) if slo is not None else {}
    if name != "max_drop_share":
        fields = {key: old for key, old in fields.items() if key == "max_drop_share"}
    return _checked(SloSpec, {**fields, name: value}, what, name)


def _checked(model: type[_Model], fields: Mapping[str, Any], what: str, name: str) -> _Model:
    if name not in model.model_fields:
        known = list(model.model_fields)
        raise UsageError(f"{what}: unknown key {name!r}", hint=did_you_mean(name, known, f"known: {', '.join(known)}"))
    try:
        return model(**fields)
    except ValidationError as error:
        told = "; ".join(str(found["msg"]).lower() for found in error.errors())
        raise UsageError(f"{what}: {told}") from None


def _key_hint(key: str, spec: PipelineSpec, manifests: Mapping[str, Manifest], flag: str) -> str:
    """The stage that was probably meant: the only one that has such a knob."""
    having = []
    for op in spec.ops:
        type_ = resolve_type(op.type, manifests)
        if type_ is not None and key in (*manifests[type_].params, *knob_names(manifests[type_])):
            having.append(op.name)
    return f"for example {flag} {having[0]}.{key}=..." if having else f"for example {flag} detect.min_score=0.3"

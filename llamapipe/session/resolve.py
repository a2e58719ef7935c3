"""From what a user names (a built-in, a YAML file, file.py:name, a spec) to a validated pipeline."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from llamapipe.clock import Env
from llamapipe.errors import Problem, SpecError, UsageError
from llamapipe.media import SINKS
from llamapipe.operator import Manifest, Operator, Registry, import_file, load_registry
from llamapipe.session.request import RunRequest
from llamapipe.spec import PipelineSpec, apply_sets, read_yaml, resolve_types, validate
from llamapipe.spec.accuracy_text import check_share, with_agreement
from llamapipe.spec.yaml_tree import in_file_order

__all__ = ["LoadedPipeline", "check_floor", "load_asked", "load_pipeline", "pipeline_names", "validate_pipeline"]

ENTRY_POINT_GROUP = "llamapipe.pipelines"

Reference = str | Path | PipelineSpec
"""A built-in's name, the path of a YAML file, ``file.py:name``, or the spec itself."""


@dataclass(frozen=True, slots=True)
class LoadedPipeline:
    """A pipeline that validates, with the operators that it is made of."""

    spec: PipelineSpec
    registry: Registry
    locations: Mapping[Any, str] = field(default_factory=dict)  # where each part stands: "file:line"


def pipeline_names() -> list[str]:
    """Names of the ready pipelines of every installed package, sorted."""
    return sorted(_ready())


def load_pipeline(
    reference: Reference,
    *,
    env: Env,
    params: Mapping[str, str] | None = None,
    sets: Mapping[str, str] | None = None,
    ops_files: Sequence[str | Path] = (),
    min_accuracy: float | None = None,
) -> LoadedPipeline:
    """Find, read, change by ``sets`` and validate. ``min_accuracy`` (0..1, agreement) replaces the pipeline's floor.

    Raises SpecError with every problem at once, UsageError for a pipeline or file that is not there, and for a floor
    that is asked for twice.
    """
    check_floor(min_accuracy, sets or {})
    loaded, problems = _checked(reference, env, params or {}, sets or {}, ops_files, min_accuracy)
    if problems:
        raise SpecError(problems)
    return loaded


def check_floor(min_accuracy: float | None, sets: Mapping[str, str]) -> None:
    """Raise UsageError for a floor that is no share, or that ``sets`` name as well."""
    if min_accuracy is None:
        return
    check_share(min_accuracy)
    for key in ("accuracy.min", "accuracy.metric"):
        if key in sets:
            raise UsageError(
                f"--min-accuracy {min_accuracy:g} and --set {key}={sets[key]} both say how right is right enough",
                hint="keep one of them: --min-accuracy is agreement, --set accuracy.min keeps the pipeline's metric",
            )


def load_asked(request: RunRequest, *, env: Env) -> LoadedPipeline:
    """A run's pipeline as it is asked for, without sinks that the run adds. Raises what `load_pipeline` raises."""
    return load_pipeline(
        request.pipeline,
        env=env,
        params=request.params,
        sets=request.sets,
        ops_files=request.ops_files,
        min_accuracy=request.min_accuracy,
    )


def validate_pipeline(
    reference: Reference,
    *,
    env: Env,
    params: Mapping[str, str] | None = None,
    sets: Mapping[str, str] | None = None,
    ops_files: Sequence[str | Path] = (),
) -> list[Problem]:
    """All problems of a pipeline; empty when it can be run."""
    try:
        return _checked(reference, env, params or {}, sets or {}, ops_files)[1]
    except SpecError as error:
        return list(error.problems)


def _checked(
    reference: Reference,
    env: Env,
    params: Mapping[str, str],
    sets: Mapping[str, str],
    ops_files: Sequence[str | Path],
    min_accuracy: float | None = None,
) -> tuple[LoadedPipeline, list[Problem]]:
    registry = load_registry(ops_files)
    locations: Mapping[Any, str] = {}
    unread: Collection[Any] = ()
    problems: list[Problem] = []
    if isinstance(reference, PipelineSpec):
        spec = reference
    elif (named := _python_reference(str(reference))) is not None:
        spec, locations = _from_python(*named, registry, ops_files)
    else:
        loaded, problems = read_yaml(_yaml_path(reference), params=params, env=env)
        if loaded is None:
            raise SpecError(problems)
        spec, locations, unread = loaded.spec, loaded.locations, loaded.unread
        params = {}
    if params:
        raise UsageError(
            f"pipeline {spec.name!r} has no parameters, got {', '.join(params)}",
            hint="a pipeline made in Python has stages to set: --set STAGE.KNOB=VALUE",
        )
    manifests: dict[str, Manifest] = {type: registry.manifest(type) for type in registry.types()}
    spec = resolve_types(spec, manifests, list(SINKS))
    if min_accuracy is not None:
        spec = spec.model_copy(update={"accuracy": with_agreement(spec.accuracy, min_accuracy)})
    if sets:
        try:
            spec = apply_sets(spec, sets, manifests)
        except UsageError as error:
            if not problems and not validate(spec, manifests, SINKS, locations=locations):
                raise
            problems.append(Problem(error.code, error.message, hint=error.hint))
    problems += validate(spec, manifests, SINKS, locations=locations, unread=unread)
    files = dict.fromkeys(where.rsplit(":", 1)[0] for where in locations.values())
    problems = in_file_order(problems, list(files))
    return LoadedPipeline(spec, registry, locations), problems


def _ready() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        module = entry.load()
        for name in module.names():
            found.setdefault(name, Path(module.path(name)))
    return found


def _yaml_path(reference: str | Path) -> Path:
    path = Path(reference)
    if path.suffix.lower() in (".yaml", ".yml"):
        if path.is_file():
            return path
        if path.is_dir():
            raise UsageError(f"pipeline {path} is a folder, expected a file")
        if path.name == str(reference) and path.stem in _ready():
            raise UsageError(f"pipeline {path} does not exist", hint=f"did you mean {path.stem}?")
        raise UsageError(f"pipeline {path} does not exist", hint=_near_files(path))
    ready = _ready()
    if str(reference) in ready:
        return ready[str(reference)]
    if path.is_file():
        raise UsageError(
            f"pipeline {path}: expected a .yaml file or file.py:name, got {path.suffix or 'no'} suffix",
            hint="rename it to end in .yaml",
        )
    near = difflib.get_close_matches(str(reference).lower(), ready, n=1)
    raise UsageError(
        f"unknown pipeline {str(reference)!r}: expected a .yaml file, file.py:name, "
        f"or one of {', '.join(sorted(ready))}",
        hint=f"did you mean {near[0]}?" if near else None,
    )


def _near_files(path: Path) -> str | None:
    try:
        names = [
            file.name for file in path.parent.iterdir() if file.suffix.lower() in (".yaml", ".yml") and file.is_file()
        ]
    except OSError:
        return f"folder {path.parent} does not exist either"
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean {path.parent / near[0]}?" if near else None


def _python_reference(reference: str) -> tuple[Path, str] | None:
    """(file, name) of ``file.py:name``; the name is ``pipeline`` where it is left out."""
    path, _, name = reference.rpartition(":")
    if path.endswith(".py"):
        return Path(path), name
    return (Path(reference), "pipeline") if reference.endswith(".py") else None


def _from_python(
    path: Path, name: str, registry: Registry, ops_files: Sequence[str | Path]
) -> tuple[PipelineSpec, Mapping[Any, str]]:
    module = import_file(path, "pipeline")
    # Operators that the file defines for its own pipeline, unless it was named with --ops too.
    named = path.resolve() in {Path(file).resolve() for file in ops_files}
    for value in () if named else vars(module).values():
        if isinstance(value, type) and issubclass(value, Operator) and value.__module__ == module.__name__:
            registry.add(value)
    try:
        value = getattr(module, name)
    except AttributeError:
        names = [key for key, value in vars(module).items() if _spec_of(value) is not None]
        raise UsageError(
            f"{path} has no pipeline {name!r}",
            hint=f"it has {', '.join(names)}" if names else "make one with llamapipe.Pipeline(...)",
        ) from None
    spec = _spec_of(value)
    if spec is None:
        raise UsageError(f"{path}:{name} is a {type(value).__name__}, expected a llamapipe.Pipeline or PipelineSpec")
    return spec, getattr(value, "locations", {})


def _spec_of(value: Any) -> PipelineSpec | None:
    if isinstance(value, PipelineSpec):
        return value
    if isinstance(value, type | ModuleType) or not callable(getattr(value, "spec", None)):
        return None
    spec = value.spec()
    return spec if isinstance(spec, PipelineSpec) else None

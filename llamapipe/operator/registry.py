"""Which operators there are: installed packages' entry points, and files that the user names."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path

from llamapipe.errors import OperatorError, UsageError
from llamapipe.operator.authoring import Operator
from llamapipe.operator.manifest import Manifest

__all__ = ["Registry", "load_registry"]

ENTRY_POINT_GROUP = "llamapipe.operators"


class Registry:
    """Operators by type."""

    def __init__(self, operators: Iterable[type[Operator]] = ()) -> None:
        self._operators: dict[str, type[Operator]] = {}
        for operator in operators:
            self.add(operator)

    def add(self, operator: type[Operator]) -> None:
        """Register; raises UsageError where another operator has the type already."""
        manifest = operator.manifest
        known = self._operators.get(manifest.type)
        if known is not None and known is not operator:
            raise UsageError(
                f"operator {manifest.type} is registered twice: {known.__module__}.{known.__name__} and "
                f"{operator.__module__}.{operator.__name__}",
                hint="give one of them another name or version",
            )
        self._operators[manifest.type] = operator

    def __contains__(self, type: str) -> bool:
        return type in self._operators

    def __iter__(self) -> Iterator[type[Operator]]:
        return iter(self._operators.values())

    def types(self) -> list[str]:
        """All types, sorted."""
        return sorted(self._operators)

    def get(self, type: str) -> type[Operator]:
        """The operator class; raises UsageError for an unknown type."""
        try:
            return self._operators[type]
        except KeyError:
            raise UsageError(f"unknown operator {type!r}", hint="see: llamapipe ops list") from None

    def manifest(self, type: str) -> Manifest:
        """The operator's manifest; raises UsageError for an unknown type."""
        return self.get(type).manifest


def load_registry(files: Sequence[str | Path] = ()) -> Registry:
    """Operators of installed packages and of the Python files named.

    Raises OperatorError where a package or file cannot be imported, UsageError where a file is not there.
    """
    registry = Registry()
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            operators = entry.load()
        except Exception as error:
            raise OperatorError(
                f"operators of {entry.name!r} ({entry.value}) cannot be imported: {error}",
                hint="update or uninstall that package",
            ) from error
        for operator in operators:
            registry.add(operator)
    for file in files:
        for operator in _operators_in(Path(file)):
            registry.add(operator)
    return registry


def _operators_in(path: Path) -> list[type[Operator]]:
    if not path.is_file():
        raise UsageError(f"operator file {path} does not exist")
    name = f"llamapipe_user_operators_{path.stem}_{abs(hash(path.resolve())):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"operator file {path} is no Python file", hint="expected a path that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise OperatorError(f"operator file {path} cannot be imported: {error}") from error
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Operator)
        and value.__module__ == name
        and "manifest" in vars(value)
    ]
    if not found:
        raise UsageError(
            f"operator file {path} defines no operator",
            hint="decorate a function with @llamapipe.operator(...) or subclass llamapipe.operator.Operator",
        )
    return found

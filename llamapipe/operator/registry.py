"""Which operators there are: installed packages' entry points, and files that the user names."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from llamapipe.errors import LlamapipeError, OperatorError, UsageError
from llamapipe.operator.authoring import Operator
from llamapipe.operator.manifest import Manifest

__all__ = ["Registry", "file_being_imported", "import_file", "load_registry"]

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

    Raises OperatorError where a package cannot be imported, UsageError where a file is not there or cannot be.
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
    for file in {Path(file).resolve(): file for file in files}.values():  # named twice is named once
        for operator in _operators_in(Path(file)):
            registry.add(operator)
    return registry


_importing: list[Path] = []


def file_being_imported() -> Path | None:
    """The user's file that is being run for its definitions at this moment; a run begun by it would never end."""
    return _importing[-1] if _importing else None


def import_file(path: Path, kind: str) -> ModuleType:
    """Run a Python file that the user names. ``kind`` says in errors what it is: operator, pipeline.

    The script that is running itself is taken as it is: running it again would begin its work anew.

    Raises UsageError for a file that is none or fails, with the line of it that does; LlamapipeError as it comes.
    """
    if not path.is_file():
        raise UsageError(f"{kind} file {path} {'is a folder' if path.is_dir() else 'does not exist'}")
    script = sys.modules.get("__main__")
    if script is not None and (file := getattr(script, "__file__", None)) and Path(file).resolve() == path.resolve():
        return script
    name = f"llamapipe_user_{kind}_{path.stem}_{abs(hash(path.resolve())):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{kind} file {path} is no Python file", hint="expected a path that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _importing.append(path)
    try:
        spec.loader.exec_module(module)
    except LlamapipeError:
        raise
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == spec.origin]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        place = f"{path}" if line is None else f"{path}:{line}"
        reason = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}"
        raise UsageError(f"{place}: {kind} file cannot be imported: {reason}") from error
    finally:
        _importing.pop()
    return module


def _operators_in(path: Path) -> list[type[Operator]]:
    module = import_file(path, "operator")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Operator)
        and value.__module__ == module.__name__
        and "manifest" in vars(value)
    ]
    if not found:
        raise UsageError(
            f"operator file {path} defines no operator",
            hint="decorate a function with @llamapipe.operator(...) or subclass llamapipe.operator.Operator",
        )
    return found

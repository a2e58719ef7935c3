"""What the shell completes besides commands and flags. Whatever goes wrong here, nothing is completed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

__all__ = ["models", "operators", "pipelines", "tasks"]


def _matching(names: Callable[[], Iterable[str]], incomplete: str) -> list[str]:
    try:
        return [name for name in names() if name.startswith(incomplete)]
    except Exception:
        return []


def pipelines(incomplete: str) -> list[str]:
    """Ready pipelines; the shell itself adds files where none fits."""

    def names() -> Iterable[str]:
        from llamapipe.session import pipeline_names

        return pipeline_names()

    return _matching(names, incomplete)


def operators(incomplete: str) -> list[str]:
    """Short names of installed operators."""

    def names() -> Iterable[str]:
        from llamapipe.operator import load_registry

        registry = load_registry(())
        return sorted({registry.manifest(type).short_name for type in registry.types()})

    return _matching(names, incomplete)


def models(incomplete: str) -> list[str]:
    """Names of models."""

    def names() -> Iterable[str]:
        from llamapipe.inference import all_models

        return all_models()

    return _matching(names, incomplete)


def tasks(incomplete: str) -> list[str]:
    """What models can be asked for."""

    def names() -> Iterable[str]:
        from llamapipe.inference import known_tasks

        return known_tasks()

    return _matching(names, incomplete)

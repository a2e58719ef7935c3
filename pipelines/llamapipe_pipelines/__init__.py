"""Ready pipelines, as YAML."""

from importlib.resources import files
from pathlib import Path

__all__ = ["names", "path"]


def names() -> list[str]:
    """Names of the ready pipelines, sorted."""
    return sorted(
        entry.name.removesuffix(".yaml") for entry in files(__name__).iterdir() if entry.name.endswith(".yaml")
    )


def path(name: str) -> Path:
    """Where a ready pipeline's YAML file lies."""
    return Path(str(files(__name__).joinpath(f"{name}.yaml")))

"""The models that the catalogue keeps, as this process sees them: read again whenever another process changes them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from llamapipe.clock import system_env
from llamapipe.errors import AssetError
from llamapipe.inference.assets import cache_root
from llamapipe.inference.catalogue import CatalogueStore, KeptModel

__all__ = ["catalogue_root", "registered_models", "use_catalogue"]

_Stamp = tuple[tuple[int, int, int], ...]

_logger = logging.getLogger(__name__)
_root: Path | None = None
_seen: tuple[_Stamp, Mapping[str, KeptModel]] | None = None


def use_catalogue(root: Path) -> None:
    """Look for registered models in this cache folder from now on, instead of in that of the environment."""
    global _root, _seen
    _root, _seen = (None if root == cache_root(system_env()) else root), None


def catalogue_root() -> Path:
    """The cache's folder that the catalogue is in."""
    return _root if _root is not None else cache_root(system_env())


def registered_models() -> Mapping[str, KeptModel]:
    """By name, in the order of registration. A catalogue that cannot be read is as good as none, with a warning."""
    global _seen
    root = catalogue_root()
    stamp = _stamp(root / "catalogue")
    if not stamp:
        return {}
    if _seen is None or _seen[0] != stamp:
        try:
            with CatalogueStore(root) as store:
                found = {kept.model.name: kept for kept in store.kept_models()}
        except AssetError as error:
            _logger.warning("registered models are not to be had: %s", error)
            found = {}
        _seen = (_stamp(root / "catalogue"), found)
    return _seen[1]


def _stamp(folder: Path) -> _Stamp:
    """Changes with every write; empty where there is no catalogue."""
    found = []
    for name in ("catalogue.sqlite", "catalogue.sqlite-wal"):
        try:
            stat = (folder / name).stat()
        except OSError:
            continue
        found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
    return tuple(found)

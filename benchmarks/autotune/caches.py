"""Caches of their own for runs that are to know nothing of the runs before them."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from llamapipe.clock import system_env
from llamapipe.inference import cache_root

_DATABASE = "catalogue.sqlite"
_REMEMBERED = ("needed",)  # folders of what earlier runs took


def fresh_cache(copy: Path, *, base: Path | None = None) -> Path:
    """The user's cache as ``copy``, without tunings and without what runs took. What is large is linked.

    Models, what was built of them, and their profiles stay: they are made once a machine, before any run.
    """
    base = base if base is not None else cache_root(system_env())
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for path in sorted(base.rglob("*")):
        inside = path.relative_to(base)
        if inside.parts[0] in _REMEMBERED or path.name.startswith((_DATABASE, ".lock")):
            continue
        if path.is_dir():
            (copy / inside).mkdir(parents=True, exist_ok=True)
        else:
            (copy / inside).symlink_to(path.resolve())
    for path in base.rglob(_DATABASE):
        _copy_database(path, copy / path.relative_to(base))
    return copy


def _copy_database(path: Path, copy: Path) -> None:
    """Whole even where somebody writes meanwhile."""
    with closing(sqlite3.connect(path)) as database, closing(sqlite3.connect(copy)) as mine:
        database.backup(mine)
        if mine.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'tunings'").fetchone():
            mine.execute("DELETE FROM tunings")
            mine.commit()


def with_cache(cache: Path) -> Mapping[str, str]:
    """The environment of a run that has this cache."""
    return {**os.environ, "LLAMAPIPE_CACHE": str(cache)}

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from benchmarks.autotune.caches import fresh_cache, with_cache


def count(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_a_fresh_cache_has_everything_but_what_runs_have_left(tmp_path: Path) -> None:
    base, copy = tmp_path / "base", tmp_path / "copy"
    for name in ("needed/one.json", "assets/model.onnx", "catalogue/.lock"):
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    database = base / "catalogue" / "catalogue.sqlite"
    with closing(sqlite3.connect(database)) as made:
        for table in ("tunings", "profiles"):
            made.execute(f"CREATE TABLE {table} (body TEXT)")
            made.execute(f"INSERT INTO {table} VALUES ('it')")
        made.commit()
    (copy / "needed").mkdir(parents=True)  # of a round before
    fresh_cache(copy, base=base)
    assert (copy / "assets" / "model.onnx").read_text() == "assets/model.onnx"
    assert not (copy / "needed").exists()
    assert not (copy / "catalogue" / ".lock").exists()
    assert {table: count(copy / "catalogue" / "catalogue.sqlite", table) for table in ("tunings", "profiles")} == {
        "tunings": 0,
        "profiles": 1,
    }
    assert count(database, "tunings") == 1
    assert with_cache(copy)["LLAMAPIPE_CACHE"] == str(copy)

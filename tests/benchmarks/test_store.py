from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import store as module
from benchmarks.store import Store


def test_a_row_is_found_again_by_its_key_and_by_what_was_asked(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    Store(path, clip="a.mp4").add(("run", "0"), {"fps": 3.5}, frames=(1, 2))
    row = Store(path, clip="a.mp4").get(("run", "0"), frames=[1, 2])
    assert row is not None
    assert row["fps"] == 3.5
    assert row["asked"] == {"clip": "a.mp4", "frames": [1, 2]}
    assert row["code"] == module.revision()
    assert row["hardware"]


@pytest.mark.parametrize(("clip", "frames"), [("b.mp4", [1, 2]), ("a.mp4", [1])])
def test_one_of_another_question_is_not(tmp_path: Path, clip: str, frames: list[int]) -> None:
    path = tmp_path / "rows.jsonl"
    Store(path, clip="a.mp4").add(("run", "0"), {}, frames=[1, 2])
    assert not Store(path, clip=clip).has(("run", "0"), frames=frames)


def test_two_questions_of_one_key_are_kept_beside_each_other(tmp_path: Path) -> None:
    store = Store(tmp_path / "rows.jsonl")
    store.add(("run",), {"it": 1}, slo="p95=10ms")
    store.add(("run",), {"it": 2}, slo="p95=20ms")
    assert [row["it"] for row in store.rows("run")] == [1, 2]
    assert [row["it"] for row in store.rows("run", slo="p95=10ms")] == [1]


def test_the_last_row_counts(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    store = Store(path)
    for number in range(2):
        store.add(("run",), {"it": number})
    assert [row["it"] for row in Store(path).rows()] == [1]


def test_the_footer_says_what_is_of_other_code_and_what_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"key": ["old"], "fps": 1.0}) + "\n")
    with monkeypatch.context() as patched:
        patched.setattr(module, "revision", lambda: "0.0.1+other")
        Store(path, clip="a.mp4").add(("run", "0"), {})
    with monkeypatch.context() as patched:
        patched.setattr(module, "fingerprint", lambda: "another-machine")
        Store(path, clip="a.mp4").add(("run", "1"), {})
    Store(path, clip="a.mp4").add(("run", "2"), {})
    Store(path, clip="b.mp4").add(("run", "3"), {})
    store = Store(path, clip="a.mp4")
    assert [row["key"] for row in store.rows()] == [["run", "0"], ["run", "2"]]
    assert list(store.footer()) == [
        f"1 of 2 rows are of other code than {module.revision()}.",
        "1 rows answer another question and are left out.",
        "1 rows are of another machine and are left out.",
        "1 rows do not say what was asked for and are left out.",
    ]


def test_half_a_line_of_a_killed_call_is_no_row_and_harms_no_later_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    Store(path).add(("run", "0"), {"it": 0})
    with path.open("a") as out:
        out.write('{"key": ["run", "1"], "as')
    store = Store(path)
    assert len(store.rows()) == 1
    store.add(("run", "2"), {"it": 2})
    assert [row["it"] for row in Store(path).rows()] == [0, 2]


def test_without_a_file_rows_are_kept_while_the_process_lasts() -> None:
    store = Store(None, clip="a.mp4")
    store.add(("run",), {"it": 1})
    assert store.has(("run",))

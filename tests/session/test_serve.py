"""What a query may be, and how accuracy is written."""

from __future__ import annotations

import os
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamapipe.catalog import BatchPoint, Floor, Profile, Variant
from llamapipe.errors import AssetError, LlamapipeError, QueryRefused, SourceError, UsageError
from llamapipe.session.asked_pictures import read_pictures
from llamapipe.session.serve import Answer, Session, batches_of, make_query, parse_accuracy


@pytest.mark.parametrize(
    ("text", "floor"),
    [
        (None, None),
        (0.8, Floor(0.8)),
        ("0.8", Floor(0.8)),
        ("coco_ap>=0.25", Floor(0.25, "coco_ap")),
        (" coco_ap50 >= 0.5 ", Floor(0.5, "coco_ap50")),
        ("f1=1", Floor(1.0, "f1")),
        (Floor(0.3, "coco_ap"), Floor(0.3, "coco_ap")),
    ],
)
def test_accuracy_is_a_number_or_names_its_metric(text: float | str | None, floor: Floor | None) -> None:
    assert parse_accuracy(text) == floor


@pytest.mark.parametrize("text", ["good", "1.5", "-0.1", ">=0.5", "coco_ap>0.5", "0.5.5", "coco_ap>="])
def test_accuracy_that_is_neither_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a number from 0 to 1"):
        parse_accuracy(text)


def test_a_task_asks_for_its_own_labels_and_others_where_they_are_given() -> None:
    assert make_query(task="person-detection").labels == ("person",)
    assert make_query(task="person-detection", labels=["car"]).labels == ("car",)
    assert make_query(model="yolox-nano").labels == ()


def test_times_are_milliseconds_outside_and_seconds_inside() -> None:
    assert make_query(task="person-detection", latency_ms=50).latency_s == 0.05


def test_only_batches_that_save_time_get_a_network_of_their_own() -> None:
    points = ((1, 0.010), (2, 0.0199), (4, 0.034), (8, 0.090))
    profile = Profile(
        Variant("m", "openvino"), "here", points=tuple(BatchPoint(batch, s, s, s, 1) for batch, s in points)
    )
    assert batches_of(profile) == (1, 4)


def test_profiles_that_are_given_need_no_catalogue(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    env = {"LLAMAPIPE_CACHE": str(tmp_path / "file"), "HOME": str(tmp_path)}
    with Session(profiles=[], env=env, workers="thread") as session, pytest.raises(QueryRefused):
        session.query(np.zeros((8, 8, 3), np.uint8), task="person-detection")
    with pytest.raises(AssetError):
        Session(env=env, workers="thread")


def test_a_session_that_was_not_entered_says_so_and_can_be_closed() -> None:
    session = Session(profiles=[], workers="thread")
    with pytest.raises(LlamapipeError, match=r"not open \(open it: with Session\(\) as session"):
        session.query(np.zeros((8, 8, 3), np.uint8), task="person-detection")
    session.close()
    session.close()
    with pytest.raises(LlamapipeError, match="closed"):
        session.query(np.zeros((8, 8, 3), np.uint8), task="person-detection")


def test_a_session_is_entered_once_and_leaves_the_process_as_it_was() -> None:
    before = sys.getswitchinterval()
    session = Session(profiles=[], workers="thread")
    with session:
        with pytest.raises(LlamapipeError, match="open already"):
            session.__enter__()
        assert sys.getswitchinterval() < before
    assert sys.getswitchinterval() == before
    with pytest.raises(LlamapipeError, match="closed"):
        session.__enter__()
    assert sys.getswitchinterval() == before


def test_a_picture_that_cannot_be_read_costs_the_others_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Answer((), "v", "", 0.0, late=False, cost=0.0)
    answered: Future[Answer] = Future()
    answered.set_result(there)
    monkeypatch.setattr(Session, "_prepare", lambda *_: "v")
    monkeypatch.setattr(Session, "_ask", lambda *_: answered)
    black = np.zeros((8, 8, 3), np.uint8)
    pictures: list[Any] = [black, tmp_path / "gone.jpg", np.zeros((8, 8)), None, black]
    session = Session(profiles=[], workers="thread")
    found = session.query_batch(pictures, task="person-detection")
    alone = session.query_batch(tmp_path / "gone.jpg", task="person-detection")  # type: ignore[arg-type]  # not a list
    session.close()
    assert [found[0], found[4]] == [there, there]
    assert [type(one) for one in found[1:4]] == [SourceError, UsageError, UsageError]
    assert "gone.jpg" in str(found[1])
    assert [type(one) for one in alone] == [SourceError]


@pytest.mark.parametrize("given", [None, 5, [None], b"street.jpg", {"a": 1}])
def test_what_is_no_picture_is_refused_with_what_a_picture_is(given: Any) -> None:
    with pytest.raises(UsageError, match=r"expected (a )?pictures?, got a .*a picture is a path"):
        read_pictures(given)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"cores": 99999}, "cores 99999"),
        ({"cores": True}, "cores True"),
        ({"cores": [0, 0]}, r"cores \[0, 0\]"),
        ({"memory_bytes": -1}, "memory_bytes -1"),
        ({"policy": "foo"}, "policy foo: there are llamapipe, infaas, static"),
        ({"policy": "static", "static": {"a": -1}}, "static a"),
        ({"prices": {"gpu": -1.0}}, "prices gpu"),
    ],
)
def test_what_a_session_cannot_be_is_said_and_holds_no_file(wrong: dict[str, Any], said: str, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(UsageError, match=said):
        Session(profiles=[], env={"LLAMAPIPE_CACHE": str(tmp_path)}, **wrong)
    assert len(os.listdir("/proc/self/fd")) == before

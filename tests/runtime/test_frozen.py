"""The garbage collector leaves alone what was there when the first of several runs began, until the last has ended."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from llamapipe.runtime.frozen import Frozen


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    thresholds = gc.get_threshold()
    gc.unfreeze()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_the_first_run_freezes_and_the_last_thaws() -> None:
    one, other = Frozen(), Frozen()
    one.freeze()
    frozen = gc.get_freeze_count()
    assert frozen > 0
    later = [[] for _ in range(1000)]
    other.freeze()
    one.freeze()
    assert gc.get_freeze_count() <= frozen  # what came later was not added: it may be garbage soon
    assert len(later) == 1000
    one.thaw()
    assert gc.get_freeze_count() > 0
    other.thaw()
    other.thaw()
    assert gc.get_freeze_count() == 0


def test_what_a_program_froze_itself_stays_frozen() -> None:
    gc.freeze()
    run = Frozen()
    run.freeze()
    run.thaw()
    assert gc.get_freeze_count() > 0


def test_a_run_that_never_loaded_anything_thaws_nothing_of_others() -> None:
    one, other = Frozen(), Frozen()
    one.freeze()
    other.thaw()
    assert gc.get_freeze_count() > 0
    one.thaw()


def test_few_objects_are_collected_at_a_time_while_there_are_runs() -> None:
    gc.set_threshold(50_000, 10, 10)
    one, other = Frozen(), Frozen()
    one.freeze()
    other.freeze()
    assert gc.get_threshold()[0] < 5_000
    one.thaw()
    assert gc.get_threshold()[0] < 5_000
    other.thaw()
    assert gc.get_threshold() == (50_000, 10, 10)


def test_a_program_that_collects_by_itself_goes_on_with_it() -> None:
    gc.set_threshold(0, 10, 10)
    run = Frozen()
    run.freeze()
    assert gc.get_threshold()[0] == 0
    run.thaw()
    gc.set_threshold(700, 10, 10)
    run = Frozen()
    run.freeze()
    gc.set_threshold(123, 4, 5)
    run.thaw()
    assert gc.get_threshold() == (123, 4, 5)  # what it asked for meanwhile

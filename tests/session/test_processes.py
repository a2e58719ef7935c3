"""How many workers a run may have, and how large their picture slots are."""

from __future__ import annotations

import pytest

from llamapipe.errors import UsageError
from llamapipe.runtime import StreamFacts
from llamapipe.session.processes import check_count, slot_bytes, workers_at


@pytest.mark.parametrize(
    ("kind", "cores", "most"), [("process", 2.0, 16), ("process", 64.0, 256), ("thread", 0.5, 64), ("thread", 8.0, 128)]
)
def test_more_workers_than_make_sense_on_the_machine_are_refused(kind: str, cores: float, most: int) -> None:
    check_count(most, [kind], cores)
    with pytest.raises(UsageError, match=f"workers {kind}:{most + 1}: expected at most {most} .* got {most + 1}"):
        check_count(most + 1, [kind], cores)


def test_slots_have_room_for_a_stream_whose_size_is_not_known_yet() -> None:
    here, awaited = StreamFacts(1280, 720, 25.0), StreamFacts(0, 0, 0.0)
    assert slot_bytes([here]) == 12 * 1280 * 720
    assert slot_bytes([here, awaited]) == 12 * 3840 * 2160


def test_a_paced_stream_has_as_many_workers_as_are_half_busy() -> None:
    assert workers_at(25.0, 10.0, most=5) == 1  # a quarter of a core's time
    assert workers_at(25.0, 21.0, most=5) == 2
    assert workers_at(4 * 25.0, 15.0, most=5) == 3
    assert workers_at(25.0, 500.0, most=5) == 5

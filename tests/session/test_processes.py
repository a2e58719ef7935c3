"""How many workers a run may have, and how large their picture slots are."""

from __future__ import annotations

import pytest

from llamapipe.errors import UsageError
from llamapipe.runtime import StreamFacts
from llamapipe.session.processes import check_count, slot_bytes


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

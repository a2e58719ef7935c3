"""How many workers a run may have."""

from __future__ import annotations

import pytest

from llamapipe.errors import UsageError
from llamapipe.session.processes import check_count


@pytest.mark.parametrize(
    ("kind", "cores", "most"), [("process", 2.0, 16), ("process", 64.0, 256), ("thread", 0.5, 64), ("thread", 8.0, 128)]
)
def test_more_workers_than_make_sense_on_the_machine_are_refused(kind: str, cores: float, most: int) -> None:
    check_count(most, [kind], cores)
    with pytest.raises(UsageError, match=f"workers {kind}:{most + 1}: expected at most {most} .* got {most + 1}"):
        check_count(most + 1, [kind], cores)

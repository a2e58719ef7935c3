"""Which slots are free: held to a model, whatever the order of calls."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from llamapipe.errors import InvalidTransition
from llamapipe.runtime.slots import SlotTable, StaleFrame
from tests.examples import examples

Place = tuple[int, int]  # slot, generation


class Slots(RuleBasedStateMachine):
    """A table beside a dictionary that says the same in the plainest way."""

    def __init__(self) -> None:
        super().__init__()
        self.table = SlotTable()
        self.writing: set[Place] = set()
        self.leases: dict[Place, int] = {}
        self.gone: list[Place] = []
        self.newest: dict[int, int] = {}
        self.untouched: set[int] = set()  # free ones that nobody has taken since the table was last asked for them

    def pick(self, places: list[Place], data: st.DataObject) -> Place:
        return data.draw(st.sampled_from(sorted(places)))

    @rule()
    def take(self) -> None:
        slot, generation = self.table.take()
        assert slot not in {held for held, _ in [*self.writing, *self.leases]}, "a slot in use is given out"
        assert generation > self.newest.get(slot, 0), "a generation comes twice"
        self.newest[slot] = generation
        self.writing.add((slot, generation))
        self.untouched.discard(slot)

    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        if self.writing:
            place = self.pick(list(self.writing), data)
            self.table.publish(*place)
            self.writing.remove(place)
            self.leases[place] = 1

    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        if self.writing:
            place = self.pick(list(self.writing), data)
            self.table.abandon(*place)
            self.writing.remove(place)
            self.gone.append(place)

    @rule(data=st.data())
    def lease(self, data: st.DataObject) -> None:
        if self.leases:
            place = self.pick(list(self.leases), data)
            self.table.lease(*place)
            self.leases[place] += 1

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if self.leases:
            place = self.pick(list(self.leases), data)
            self.leases[place] -= 1
            assert self.table.release(*place) is (self.leases[place] == 0)
            if not self.leases[place]:
                del self.leases[place]
                self.gone.append(place)

    @rule(data=st.data())
    def use_what_is_gone(self, data: st.DataObject) -> None:
        if self.gone:
            place = self.pick(self.gone, data)
            for call in (self.table.publish, self.table.abandon, self.table.lease, self.table.release):
                with pytest.raises((StaleFrame, InvalidTransition)):
                    call(*place)
            assert not self.table.holds(*place)

    @rule(data=st.data())
    def use_what_is_being_written(self, data: st.DataObject) -> None:
        if self.writing:
            place = self.pick(list(self.writing), data)
            for call in (self.table.lease, self.table.release):
                with pytest.raises((StaleFrame, InvalidTransition)):
                    call(*place)

    @rule()
    def ask_for_what_is_long_free(self) -> None:
        assert set(self.table.long_free()) == self.untouched
        self.untouched = set(self.newest) - {held for held, _ in [*self.writing, *self.leases]}

    @invariant()
    def agree(self) -> None:
        self.table.check_invariants()
        assert self.table.num_used == len(self.writing) + len(self.leases)
        assert all(self.table.holds(*place) for place in self.leases)


TestSlots = Slots.TestCase
TestSlots.settings = settings(max_examples=examples(60), stateful_step_count=40, deadline=None)

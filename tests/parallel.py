"""Which tests stay together where several processes share them (``-n``), which begin first, and which have no company.

Tests of one file are a group, so that what its fixtures make is made once; those of ``ALONE`` share nothing that takes
long, and go wherever there is room. Where there are few cores, ``CLOCKED`` come last: by then all processes but one
have ended, so that they run one after the other and have the machine to themselves. Without ``-n``, tests run in their
usual order.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

# What they see hangs on how long things take: one at a time, lest they be in each other's way.
REALTIME = (
    "integration/test_late_cameras.py",
    "integration/test_shadow.py",
    "integration/test_live_sources.py",
    "media/sources/test_reconnect.py",
)
# These too, and they keep both of two cores busy: see `wants_no_company`.
CLOCKED = frozenset(
    {
        "cli/test_serving.py",
        "inference/test_measuring.py",
        "integration/test_choices.py",
        "integration/test_faults.py",
        "integration/test_serving.py",
        "media/sources/test_network.py",
        "runtime/serving/test_server.py",
        "runtime/test_engine.py",
        "runtime/test_process_ends.py",
        "runtime/test_processes.py",
        "session/test_held_on_cores.py",
    }
)
ALONE = frozenset(
    {
        "cli/test_models.py",
        "cli/test_run.py",
        "control/serving/test_random_orders.py",
        "control/test_random_orders.py",
        "integration/test_accuracy.py",
        "integration/test_chains.py",
        "integration/test_choices.py",
        "integration/test_tuning.py",
        "media/sinks/test_going_on.py",
        "media/sinks/test_video.py",
        "runtime/test_engine.py",
        "runtime/test_leases.py",
        "runtime/test_processes.py",
        "session/test_searching.py",
        "sim/test_driver.py",
        "sim/test_scenarios.py",
        "sim/test_serving.py",
        "tune/test_search.py",
    }
)
# What takes longest, first: at the end there are small things left to fill every process with.
FIRST = (
    *REALTIME,
    "integration/test_built_variants.py",
    "session/test_resume.py",
    "integration/test_faults.py",
    "integration/test_same_boxes.py",
    "integration/test_resumed_building.py",
    "integration/test_labelled_building.py",
    "integration/test_serving.py",
    "integration/test_tuning.py",
    "cli/test_models.py",
    "runtime/test_processes.py",
    "integration/test_chains.py",
    "integration/test_accuracy.py",
    "integration/test_choices.py",
    "integration/test_skipping.py",
    "integration/test_comparing.py",
    "integration/test_agreeing.py",
    "tune/test_search.py",
    "sim/test_serving.py",
    "sim/test_scenarios.py",
    "control/test_random_orders.py",
    "control/serving/test_random_orders.py",
    "media/sinks/test_going_on.py",
    "runtime/serving/test_server.py",
    "runtime/test_engine.py",
    "cli/test_run.py",
    "samples/test_samples.py",
)


NUM_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
FEW_CORES = 3  # what one test of CLOCKED starts takes so many
MOST_WAITING = 2  # tests of its own that a process has left when it is given more, as xdist has it


def group_of(nodeid: str) -> str:
    """What is done by one process, one after the other."""
    name = file_of(nodeid)
    return nodeid if name in ALONE else "realtime" if name in REALTIME else name


def file_of(nodeid: str) -> str:
    """Of a test, below the folder of this module."""
    return nodeid.partition("::")[0].removeprefix("tests/")


def wants_no_company(group: str) -> bool:
    """Whether nothing else may run meanwhile, on this machine."""
    return NUM_CORES <= FEW_CORES and (group == "realtime" or file_of(group) in CLOCKED)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        order = {name: number for number, name in enumerate(FIRST)}

        def place(item: pytest.Item) -> tuple[bool, int]:
            return wants_no_company(group_of(item.nodeid)), order.get(file_of(item.nodeid), len(order))

        items.sort(key=place)


# Not by marks and --dist loadgroup: xdist writes groups into the names of tests, which newer versions of pytest ignore.
@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Grouped(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

        def _reschedule(self, node: Any) -> None:
            """Who is out of work when only tests are left that want no company ends, but for the last one.

            A process runs the last test that it was given when it is given another, or ended: that the last one is to
            wait for the others is known only after they have ended.
            """
            if node.shutting_down or not self._next_wants_no_company():
                super()._reschedule(node)
                return
            if self._pending_of(self.assigned_work[node]) > MOST_WAITING:
                return
            others = [other for other in self.nodes if other is not node]
            if not any(self._pending_of(self.assigned_work[other]) for other in others):
                super()._reschedule(node)
            elif not all(other.shutting_down for other in others):
                node.shutdown()

        def _assign_work_unit(self, node: Any) -> None:
            """At first, every process is given some, whatever it is: here, one that has to wait is not."""
            busy = any(map(self._pending_of, self.assigned_work.values()))
            if not (self._next_wants_no_company() and busy and not self._pending_of(self.assigned_work[node])):
                super()._assign_work_unit(node)

        def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
            super().mark_test_complete(node, item_index, duration)
            if self._next_wants_no_company():
                for other in self.nodes:
                    self._reschedule(other)

        def _next_wants_no_company(self) -> bool:
            return bool(self.workqueue) and wants_no_company(next(iter(self.workqueue)))

    config.option.loadscopereorder = False  # the order is that of the tests
    return Grouped(config, log)

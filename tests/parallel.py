"""Which tests stay together where several processes share them (``-n``), and which begin first.

Tests of one file are a group, so that what its fixtures make is made once; those of ``ALONE`` share nothing that takes
long, and go wherever there is room. Without ``-n``, tests run in their usual order.
"""

from __future__ import annotations

from typing import Any

import pytest

# What they see hangs on how long things take: one at a time, lest they be in each other's way.
REALTIME = (
    "integration/test_late_cameras.py",
    "integration/test_shadow.py",
    "integration/test_live_sources.py",
    "media/sources/test_reconnect.py",
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


def group_of(nodeid: str) -> str:
    """What is done by one process, one after the other."""
    name = file_of(nodeid)
    return nodeid if name in ALONE else "realtime" if name in REALTIME else name


def file_of(nodeid: str) -> str:
    """Of a test, below the folder of this module."""
    return nodeid.partition("::")[0].removeprefix("tests/")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        order = {name: number for number, name in enumerate(FIRST)}
        items.sort(key=lambda item: order.get(file_of(item.nodeid), len(order)))


# Not by marks and --dist loadgroup: xdist writes groups into the names of tests, which newer versions of pytest ignore.
@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Grouped(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False  # the order is that of the tests
    return Grouped(config, log)

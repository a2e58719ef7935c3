"""Chains of cheap stages: which stages of a plan may be run one after the other in one invocation.

A chain is decided upon before the run and is part of its plan. It changes no record: every stage of it has its
items, times and failures as if it had been run by itself, and is run by itself wherever something went wrong.
"""

from __future__ import annotations

from itertools import pairwise

from llamapipe.control.dataflow import FrameRecord, Topology
from llamapipe.control.lifecycle import ItemState
from llamapipe.control.plan import RunPlan, StagePlan

__all__ = ["chains_of", "following_stages", "may_follow"]

_READABLE = (ItemState.DONE, ItemState.SKIPPED)


def chains_of(plan: RunPlan) -> tuple[tuple[str, ...], ...]:
    """Names of the stages of each chain, in order; a stage is in one at most.

    Two stages are linked where the second is the one stage that reads the first, and is given one item a frame by it.
    Sinks may read the first as well, unless it gives pictures: boxes are kept for them, pictures would need a slot. Of
    several that a stage could follow it follows the deepest, which most likely comes last, and rather one that gives
    pictures, which then need none.
    """
    topology = Topology(plan)
    following: dict[int, int] = {}
    for second, producers in enumerate(topology.producers):
        firsts = [first for first in producers if _linked(topology, first, second)]
        if firsts:
            following[max(firsts, key=lambda first: _weight(plan.stages[first]))] = second
    chains: list[tuple[str, ...]] = []
    for first in sorted(set(following) - set(following.values())):
        chain = [first]
        while chain[-1] in following:
            chain.append(following[chain[-1]])
        chains.append(tuple(plan.stages[i].name for i in chain))
    return tuple(chains)


def following_stages(plan: RunPlan, topology: Topology) -> list[int]:
    """By stage: the next one of its chain; below 0: there is none."""
    following = [-1] * len(plan.stages)
    for chain in plan.chains:
        for first, second in pairwise(chain):
            following[topology.index[first]] = topology.index[second]
    return following


def may_follow(topology: Topology, frame: FrameRecord, first: int, second: int) -> bool:
    """Whether the second stage can be run right after the first: all else that it reads is there."""
    return frame.state[second] is ItemState.WAITING and all(
        frame.state[producer] in _READABLE for producer in topology.producers[second] if producer != first
    )


def _linked(topology: Topology, first: int, second: int) -> bool:
    one, two = topology.stages[first], topology.stages[second]
    return (
        _is_plain(one)
        and _is_plain(two)
        and topology.consumers[first] == [second]
        and not (topology.sink_consumers[first] and _gives_pictures(one))
        and two.when is None  # that of the first is decided before either is run
        and two.configuration.variant is None
        and one.placement == two.placement
        and one.configuration.batch == two.configuration.batch
    )


def _weight(stage: StagePlan) -> tuple[int, bool]:
    return stage.depth, _gives_pictures(stage)


def _gives_pictures(stage: StagePlan) -> bool:
    return "frames" in stage.outputs.values()


def _is_plain(stage: StagePlan) -> bool:
    """Whether it gives one item for each frame's one, remembers nothing and leaves nothing to choose."""
    return not (
        stage.level
        or stage.stateful
        or stage.fan_out
        or stage.filters
        or stage.sample_fps is not None
        or stage.hold_unless is not None
        or stage.num_choices > 1
        or stage.changeable
    )

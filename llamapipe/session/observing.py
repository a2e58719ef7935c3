"""What a run tells the catalogue of its variants, so that their profiles follow the machine.

A profile says what an invocation takes that has its cores to itself. Of most runs nothing of the kind is seen: workers
share the cores with each other, with decoders and with encoders. So a run tells of its invocations only where

- there is one worker, and cores enough for it and every decoder and encoder at once;
- other processes left the cores alone, as the profiler demands it too;
- no worker was lost, and the stage looks at whole frames: crops take less to prepare;
- the invocation followed at once on another of the same variant, as those of the profiler do: one that a paced source
  lets wait finds cold caches, and was seen to take half as long again;
- there are enough such invocations of the batch to tell a 95th percentile.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from llamapipe.clock import Clock, Env
from llamapipe.control import RunPlan
from llamapipe.control import actions as act
from llamapipe.errors import AssetError
from llamapipe.inference import cache_root, cores_busy_s, open_catalogue
from llamapipe.inference.measuring import Care
from llamapipe.wire import Done

__all__ = ["Neighbours", "Observations", "learns_from_runs", "not_comparable", "uses_profiles"]

_ENOUGH = 16  # invocations of a batch
_PAUSE = 0.1  # of its time, that may lie between an invocation and the one before
_MOST = 4096  # that are kept; more tell nothing new


def uses_profiles(env: Env) -> bool:
    """Whether there is a catalogue, and the user has not said that runs are to leave it alone."""
    return learns_from_runs(env) and (cache_root(env) / "catalogue").is_dir()


def learns_from_runs(env: Env) -> bool:
    """Whether what runs took is to be remembered, and made use of."""
    return env.get("LLAMAPIPE_PROFILES", "").lower() not in ("off", "0", "no", "false")


def not_comparable(*, workers: int, threads: float, cores: float, foreign: float, lost: int) -> str:
    """Why invocations of a run say nothing of their variants; empty where they do.

    ``threads`` may run at once; ``foreign`` is the share of the cores' time that other processes took.
    """
    if workers != 1:
        return f"{workers} workers share what one was measured with"
    if threads > cores:
        return f"{threads:g} threads share {cores:g} cores"
    if lost:
        return "a worker was lost"
    if foreign > Care().most_foreign:
        return f"other processes took {foreign:.0%} of the cores"
    return ""


class Neighbours:
    """Watches from now on what other processes take of these cores, on which this one may be held on fewer meanwhile.

    ``cores`` is how many of them it may use at once.
    """

    def __init__(self, clock: Clock, numbers: Sequence[int], cores: float) -> None:
        self._clock, self._numbers, self._cores = clock, numbers, cores
        self._began_s, self._own_s, self._all_s = clock.now_s(), clock.cpu_s(), cores_busy_s(numbers)

    def share(self) -> float:
        """Of the cores' time, 0..1; 0 where the machine does not say. Processes of workers count once they ended."""
        others_s = cores_busy_s(self._numbers) - self._all_s - (self._clock.cpu_s() - self._own_s)
        return max(0.0, others_s) / (self._cores * max(self._clock.now_s() - self._began_s, 1e-9))


class Observations:
    """Of one run: seconds of every invocation by variant and batch, gathered as they come."""

    def __init__(self, plan: RunPlan) -> None:
        self._variants = {
            (stage.name, choice): variant.name
            for stage in plan.stages
            if not stage.level
            for choice in range(len(stage.ways))
            if (variant := stage.choice(choice).variant) is not None
        }
        self._last: dict[str, tuple[str, int, float]] = {}  # worker -> stage, candidate and end of its latest
        self._seconds: dict[tuple[str, int], list[float]] = {}

    def saw(self, dispatch: act.Dispatch, done: Done, failed: int) -> None:
        """An invocation came back."""
        stage, choice, ended_s = self._last.get(dispatch.worker, ("", 0, 0.0))
        self._last[dispatch.worker] = dispatch.stage, dispatch.choice, done.ended_s
        variant = self._variants.get((dispatch.stage, dispatch.choice))
        if variant is None or failed or (stage, choice) != (dispatch.stage, dispatch.choice):
            return
        busy_s = done.ended_s - done.started_s
        if done.started_s - ended_s > _PAUSE * busy_s:
            return
        seconds = self._seconds.setdefault((variant, len(dispatch.items)), [])
        if len(seconds) < _MOST:
            seconds.append(busy_s)

    @property
    def ripe(self) -> Mapping[tuple[str, int], list[float]]:
        """Those of which there are enough, by variant and batch."""
        return {key: seconds for key, seconds in self._seconds.items() if len(seconds) >= _ENOUGH}

    def tell(self, env: Env) -> tuple[dict[str, int], str]:
        """Refine the profiles of measured variants. (Invocations told of by variant, why it could not be kept.)"""
        ripe = self.ripe
        told: dict[str, int] = {}
        if not ripe:
            return told, ""
        try:
            with open_catalogue(env) as catalogue:
                known = {variant for variant, _ in ripe if catalogue.profile(variant) is not None}
                for (variant, batch), seconds in ripe.items():
                    for one in seconds if variant in known else ():
                        catalogue.observe(variant, batch, one)
                    if variant in known:
                        told[variant] = told.get(variant, 0) + len(seconds)
        except (AssetError, sqlite3.Error) as error:
            return {}, f"what variants took could not be kept in the catalogue: {error}"
        return told, ""

"""Holds a run with an objective on as few cores as meet it, while it runs.

Streams are moved to more cores when more frames are late than the objective can bear, or the cores are busy nearly all
of the time, and back to fewer when what they need would leave those idle; each return to fewer that did not last makes
the next one wait twice as long. Of a job it is asked again and again how many cores do what is left by the deadline.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from math import inf

import msgspec

from llamapipe.clock import Clock
from llamapipe.control import events as ev
from llamapipe.inference import expect_cores
from llamapipe.report import CoresHeld
from llamapipe.runtime.confinement import Confinement
from llamapipe.session.allotment import FINISHING_S, Allotment
from llamapipe.session.costs import CostMeter
from llamapipe.session.prepare import Prepared
from llamapipe.slo import LateBudget, cores_for_deadline, cores_for_rate, workers_on

__all__ = ["Governor", "confined", "governor_of"]

_LOG = logging.getLogger(__name__)

_EVERY_S = 0.05
_WINDOW_S = 0.5  # over which cores are looked at for how busy they are
_FULL = 0.95  # that busy, they keep up with nothing that comes on top
_COLD_S = 1.0  # from the first frame on, in which frames are late on any number of cores
_CALM_S = 1.0  # of frames at their own rate, before they are held on fewer cores
_LAST = 0.05  # share of a job in which it is given no fewer cores any more
_MOST_DROPS = 500  # that one look takes in: more say no more
_BACKOFF_S = 15.0  # before that is tried again
_MOST_S = 600.0
_ENOUGH = 12  # frames that say what one takes
_IN_TIME = 0.9  # of the time that is left, that a job may take; fewer cores are only taken where less is enough
_AMPLY = 0.8
_PATIENCE = 0.02  # of the time that is left, between two changes of a job
_LOSSES = (ev.WorkerLost, ev.WorkerSilent, ev.ReplicaFailed)


class Governor:
    """Of one run, told by its watcher. ``deadline_s`` is on the run's clock; ``num_frames`` are all of a job."""

    def __init__(
        self,
        allotment: Allotment,
        *,
        usable: Sequence[int],
        confinement: Confinement,
        costs: CostMeter,
        tell: Callable[[ev.Event], None],
        clock: Clock,
        started_s: float,
        bound: tuple[float, float] | None,
        deadline_s: float = inf,
        num_frames: int = 0,
        drop_share: float = 0.0,
    ) -> None:
        self.cores = allotment.cores
        self.held: list[CoresHeld] = [CoresHeld(0.0, allotment.cores, allotment.why)] if allotment.governed else []
        self._usable = list(usable)
        self._confinement = confinement
        self._costs = costs
        self._tell = tell
        self._clock = clock
        self._started_s = started_s
        self._late = LateBudget(bound[1], bound[0]) if bound is not None else None
        self._deadline_s, self._num_frames = deadline_s, num_frames
        self._known_core_s = allotment.needed.core_s if allotment.needed is not None else None
        self._free = allotment.governed
        self._has_lost = False  # a worker
        self._beyond = 0  # frames that were dropped, beyond those that may be
        self._drop_share = drop_share
        self.next_s = 0.0  # when it is to be asked again
        self._first: tuple[float, float, int] | None = None  # time, processor time and frames, since the last change
        self._window: tuple[float, float] | None = None
        self._wait_s = _BACKOFF_S
        self._not_before_s = -inf
        self._changed_s = -inf
        self._first_s: float | None = None  # when the first frame came
        self._late_s = -inf  # when the last frame that was late came
        self._begin: tuple[float, int] | None = None
        self._last: tuple[float, int] | None = None

    @property
    def learns(self) -> bool:
        """Whether what the run took says something of others like it."""
        return bool(self.held)

    @property
    def core_s(self) -> float | None:
        """Processor time of a frame, of those after the first ones; None where there were too few to tell."""
        if self._begin is None or self._last is None or self._last[1] - self._begin[1] < _ENOUGH:
            return None
        return (self._last[0] - self._begin[0]) / (self._last[1] - self._begin[1])

    def event(self, event: ev.Event, now_s: float) -> None:
        """Where a worker is lost there is no saving: all are given work by then."""
        if isinstance(event, _LOSSES) and self._free:
            self._has_lost = True
            self._give_all(now_s)

    def _give_all(self, now_s: float) -> None:
        """Asked for again as long as it cannot be had: another run in this process may have begun, and end."""
        all_cores = len(self._usable)
        self._free = self.cores != all_cores and not self._hold(all_cores, now_s, "a worker was lost")

    def delivered(self, latencies: Sequence[tuple[float, float]]) -> None:
        """Frames have left the run: when each did, and how long it was there."""
        if self._late is not None:
            for at_s, latency_s in latencies:
                if self._first_s is None:
                    self._first_s = at_s
                if at_s < self._first_s + _COLD_S:
                    continue
                self._late.add(latency_s)
                if latency_s > self._late.limit_s:
                    self._late_s = at_s

    def end(self, done: int) -> None:
        """All is worked off, and nothing is decided any more. What comes now is no frame's: letting go, reports."""
        if self._begin is not None:
            self._last = self._clock.cpu_s(), done

    def poll(self, now_s: float, done: int, dropped: int = 0) -> None:
        """``done`` frames are through, of which so many were given up."""
        if now_s < self.next_s or not done:
            return
        self.next_s = now_s + _EVERY_S
        beyond = max(0, int(dropped - self._drop_share * done))
        if self._late is not None and self._first_s is not None and now_s >= self._first_s + _COLD_S:
            for _ in range(min(beyond - self._beyond, _MOST_DROPS)):  # to who asked for them they are late
                self._late.add(inf)
                self._late_s = now_s
        self._beyond = beyond
        cpu_s = self._clock.cpu_s()
        if self._first is None:
            self._first = now_s, cpu_s, done
        if self._begin is None:
            self._begin = cpu_s, done
        self._last = cpu_s, done
        if not self._free:
            return
        if self._has_lost:
            self._give_all(now_s)
        elif self._late is not None:
            self._look_at_stream(self._late, now_s, cpu_s, done)
        else:
            self._look_at_job(now_s, cpu_s, done)

    def _look_at_stream(self, late: LateBudget, now_s: float, cpu_s: float, done: int) -> None:
        assert self._first is not None
        busy = self._busy(now_s, cpu_s)
        # Frames that were there when cores were added may still be late.
        later = late.spent and self._late_s >= self._changed_s + _WINDOW_S
        if self.cores < len(self._usable) and (later or busy > _FULL * self.cores):
            why = (
                f"{late.late:.0f} of {late.frames:.0f} frames were late" if later else "they were busy all of the time"
            )
            if self._hold(min(2 * self.cores, len(self._usable)), now_s, why):
                self._not_before_s, self._wait_s = now_s + self._wait_s, min(2 * self._wait_s, _MOST_S)
            return
        at_s, at_cpu_s, at_done = self._first
        if self.cores == 1 or now_s - at_s < _CALM_S or done - at_done < _ENOUGH or now_s < self._not_before_s:
            return
        core_s = (cpu_s - at_cpu_s) / (done - at_done)
        rate = (done - at_done) / (now_s - at_s)  # a file's own figure may be far off
        cores = cores_for_rate(core_s, rate, len(self._usable))
        if cores < self.cores and not late.spent:
            self._hold(cores, now_s, f"frames take {core_s * rate:.2f} cores at {rate:.3g} a second")

    def _busy(self, now_s: float, cpu_s: float) -> float:
        """Cores that were busy in the last window that is over."""
        if self._window is None or now_s - self._window[0] > 2 * _WINDOW_S:
            self._window = now_s, cpu_s
        if now_s - self._window[0] < _WINDOW_S:
            return 0.0
        busy = (cpu_s - self._window[1]) / (now_s - self._window[0])
        self._window = now_s, cpu_s
        return busy

    def _look_at_job(self, now_s: float, cpu_s: float, done: int) -> None:
        assert self._first is not None
        _, at_cpu_s, at_done = self._first
        if done - at_done >= _ENOUGH:
            self._known_core_s = (cpu_s - at_cpu_s) / (done - at_done)
        core_s = self._known_core_s
        if done > self._num_frames and self.cores < len(self._usable):
            self._hold(len(self._usable), now_s, f"more frames came than the {self._num_frames} that were expected")
            return
        left, left_s, all_cores = (
            max(0, self._num_frames - done),
            self._deadline_s - FINISHING_S - now_s,
            len(self._usable),
        )
        if core_s is None or now_s - self._changed_s < _PATIENCE * left_s:
            return
        if done - at_done < _ENOUGH:
            # What runs like it took may be of other candidates. Where there is time to see what these take, that is
            # looked at first.
            look_s = (_ENOUGH - (done - at_done)) * core_s
            if cores_for_deadline(core_s, left, _IN_TIME * left_s - look_s, all_cores + 1) <= all_cores:
                return
        told = f"{left} frames of {1000 * core_s:.3g} ms are left for {left_s:.1f} s"
        least = cores_for_deadline(core_s, left, _IN_TIME * left_s, all_cores)
        ample = cores_for_deadline(core_s, left, _AMPLY * left_s, all_cores)
        # How many frames there are may be a guess: at the end of them nothing is to be saved by fewer cores.
        if least > self.cores or (ample < self.cores and left >= _LAST * self._num_frames):
            self._hold(max(least, min(ample, self.cores)), now_s, told)

    def _hold(self, cores: int, now_s: float, why: str) -> bool:
        """Whether it could be done."""
        if cores == self.cores or not self._confinement.to(cores, self._usable):
            return False
        self.cores, self._changed_s = cores, now_s
        self._first = self._window = None
        self._costs.hold_on(cores, now_s)
        workers = 0 if cores == len(self._usable) else workers_on(cores, latency=self._late is not None)
        self._tell(ev.Allot(workers))
        self.held.append(CoresHeld(now_s - self._started_s, cores, why))
        return True


def confined(prepared: Prepared, confinement: Confinement, stack: ExitStack) -> Prepared:
    """The run held on the cores that are allotted to it, or on none where its threads cannot be told from others'."""
    if not confinement.to(prepared.allotment.cores, prepared.core_numbers):
        _LOG.warning(
            "the run is not held on %d cores: others run in this process, or this system binds no threads",
            prepared.allotment.cores,
        )
        plan = msgspec.structs.replace(prepared.plan, allotted=0)
        return replace(prepared, plan=plan, allotment=Allotment(max(1, int(prepared.cores)), governed=False))
    if prepared.allotment.governed:
        expect_cores(len(prepared.core_numbers))
        stack.callback(expect_cores, 0)
    return prepared


def governor_of(
    prepared: Prepared,
    confinement: Confinement,
    costs: CostMeter,
    tell: Callable[[ev.Event], None],
    clock: Clock,
    started_s: float,
) -> Governor:
    """Of a run that began at ``started_s`` on what `confined` gave."""
    job = prepared.plan.job
    return Governor(
        prepared.allotment,
        usable=prepared.core_numbers,
        confinement=confinement,
        costs=costs,
        tell=tell,
        clock=clock,
        started_s=started_s,
        bound=prepared.objective.quantile,
        deadline_s=inf if job is None else job.began_s + job.deadline_s,
        num_frames=0 if job is None else sum(job.num_frames.values()),
        drop_share=0.0 if prepared.objective.slo is None else prepared.objective.slo.max_drop_share,
    )

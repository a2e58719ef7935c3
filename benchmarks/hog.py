"""Somebody takes a replica's core: how soon it is noticed, where queries go meanwhile, and whether it comes back.

    python -m benchmarks.hog [--rounds 3] [--rate 60] [--hog-s 8]

Two replicas of one variant serve a steady load, each on a core of its own. After five seconds a busy process is pinned
to the core of the second one, and ended after ``--hog-s``. Printed for each round: the replica's share of the queries
before, after how many seconds it was INTERFERED, its share from then until the end of the disturbance, after how many
seconds from that end it counted as well again, and its share after that.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.profiles import CLIPS, frames_of, profiles_for
from benchmarks.selection import agreement
from benchmarks.serving import TASK, cheapest
from llamapipe.catalog import Profile
from llamapipe.clock import SystemClock
from llamapipe.control.serving import actions as act
from llamapipe.control.serving import events as ev
from llamapipe.control.serving.lifecycle import VariantState
from llamapipe.control.serving.serving import ServingController
from llamapipe.media import BgrPicture
from llamapipe.session.load import generate_load
from llamapipe.session.serve import Session
from llamapipe.sim.arrivals import poisson, spike

_BEFORE_S, _AFTER_S = 5.0, 8.0
_HOG = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=60.0, help="queries a second")
    parser.add_argument("--hog-s", type=float, default=8.0)
    parser.add_argument("--store", type=Path, default=Path("out/serving"))
    arguments = parser.parse_args()
    profiles = profiles_for([TASK], arguments.store / f"profiles-{TASK}.json", float("inf"))
    assert profiles is not None
    accuracy = float(np.quantile([agreement(profile) for profile in profiles], 0.75)) - 0.001
    variant = cheapest(profiles, 0.2, accuracy).variant.name
    pictures = [BgrPicture(picture.bgr()) for picture in frames_of(CLIPS[TASK], 24, 7)]
    print(f"{variant}, {arguments.rate:g} queries a second")
    for number in range(arguments.rounds):
        one_round(number, variant, profiles, pictures, arguments)
    return 0


class Watcher:
    """What the server's thread saw."""

    def __init__(self) -> None:
        self.control: ServingController | None = None
        self.told: list[tuple[float, str, bool]] = []  # when, of whom, whether it is interfered from then on
        self.sent: list[tuple[float, str]] = []
        self._troubled: dict[str, bool] = {}

    def __call__(self, event: ev.ServingEvent, now_s: float, actions: Sequence[act.ServingAction]) -> None:
        self.sent.extend((now_s, action.replica) for action in actions if isinstance(action, act.Serve))
        for replica in self.control.replicas() if self.control is not None else ():
            interfered = replica.state is VariantState.INTERFERED
            if self._troubled.get(replica.name, False) != interfered:
                self._troubled[replica.name] = interfered
                self.told.append((now_s, replica.name, interfered))

    def share(self, name: str, from_s: float | None, until_s: float) -> str:
        """Of the queries of that time."""
        if from_s is None:
            return "-"
        there = [who for at, who in self.sent if from_s <= at < until_s]
        return f"{sum(who == name for who in there) / max(1, len(there)):.0%}"


def one_round(
    number: int,
    variant: str,
    profiles: Sequence[Profile],
    pictures: Sequence[BgrPicture],
    arguments: argparse.Namespace,
) -> None:
    """Load, disturbance, and a line about it."""
    clock, watch = SystemClock(), Watcher()
    with Session(workers="process", profiles=profiles, policy="static", static={variant: 2}, watch=watch) as session:
        watch.control = session.controller
        session.prepare(variant=variant)
        while len(pids := session.processes()) < 2:
            clock.sleep(0.05)
        victim = sorted(pids)[-1]
        core = min(os.sched_getaffinity(pids[victim]))
        total_s = _BEFORE_S + arguments.hog_s + _AFTER_S
        steady = spike(arguments.rate, arguments.rate, total_s, start_s=0.0, length_s=total_s)
        began_s = clock.now_s()
        hogged = threading.Thread(target=_disturb, args=(clock, core, arguments.hog_s))
        hogged.start()
        report = generate_load(
            session, poisson(steady, number), None, pictures, clock=clock, variant=variant, latency_ms=200.0
        )
        hogged.join()
    from_s, until_s = began_s + _BEFORE_S, began_s + _BEFORE_S + arguments.hog_s
    noticed_s = next((at for at, name, on in watch.told if name == victim and on and at >= from_s), None)
    earlier = [on for at, name, on in watch.told if name == victim and at < from_s]
    if earlier and earlier[-1]:  # a false alarm has not ended when the hog comes
        noticed_s = from_s
    well_s = next((at for at, name, on in watch.told if name == victim and not on and at >= until_s), None)
    false_alarms = sum(on and (at < from_s or name != victim) for at, name, on in watch.told)
    print(
        f"round {number}: before, {watch.share(victim, began_s, from_s)} of the queries; INTERFERED after "
        f"{_text(noticed_s, from_s)}, then {watch.share(victim, noticed_s, until_s)}; well "
        f"{_text(well_s, until_s)} after the end, then {watch.share(victim, well_s, float('inf'))}; "
        f"in time {report.attainment:.1%}; {false_alarms} false alarms",
        flush=True,
    )


def _disturb(clock: SystemClock, core: int, seconds: float) -> None:
    clock.sleep(_BEFORE_S)
    hog = subprocess.Popen([sys.executable, "-c", _HOG, str(core)])
    clock.sleep(seconds)
    hog.kill()
    hog.wait()


def _text(at_s: float | None, since_s: float) -> str:
    return "never" if at_s is None else f"{at_s - since_s:.2f} s"


if __name__ == "__main__":
    sys.exit(main())

"""Starting runs to do things to, and reading afterwards what became of them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

RNG = random.Random(0)


def start(pipeline: str | Path, output: Path, *options: str, events: bool = True) -> subprocess.Popen[bytes]:
    """`llamapipe run`, in the background."""
    command = [sys.executable, "-m", "llamapipe", "run", str(pipeline), "-o", str(output), "--force", "-q"]
    command += ["--events"] if events else []
    return subprocess.Popen([*command, *options])


def children(pid: int, word: str = "") -> list[int]:
    """Processes that a process has started, those with ``word`` in their command line."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (OSError, IndexError, ValueError):
            continue
        if parent == pid and word in command:
            found.append(int(folder.name))
    return sorted(found)


def workers(run: subprocess.Popen[bytes]) -> list[int]:
    """Worker processes of a run."""
    return children(run.pid, "worker_process")


def used_cpu_s(pid: int) -> float:
    """What a process and those that it started have used of the processors, ended ones included; 0 once it is gone."""
    ticks = 0
    for each, fields in [(pid, 4), *((child, 2) for child in children(pid))]:
        with contextlib.suppress(OSError):
            stat = (Path("/proc") / str(each) / "stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in stat[11 : 11 + fields])  # utime, stime, then of those that have ended
    return ticks / os.sysconf("SC_CLK_TCK")


def kill_some(run: subprocess.Popen[bytes], each_cpu_s: float, most: int) -> list[float]:
    """Kill one of the run's workers, whatever it is doing, about every ``each_cpu_s``; when that was.

    By processor time: where other work shares the machine, new processes take longer to be of use, and one place that
    is emptied again and again before that is, rightly, given up.
    """
    times: list[float] = []
    next_cpu_s = used_cpu_s(run.pid)
    while len(times) < most and run.poll() is None:
        pids = workers(run)
        if pids and used_cpu_s(run.pid) >= next_cpu_s:
            with_luck(RNG.choice(pids), signal.SIGKILL)
            times.append(time.monotonic())
            next_cpu_s = used_cpu_s(run.pid) + each_cpu_s * RNG.uniform(0.7, 1.3)
        time.sleep(0.1)
    return times


def stop_some(
    run: subprocess.Popen[bytes], each_s: float, stop_s: float, most: int, *, rest_s: float = 2.0
) -> list[float]:
    """Stop one of the run's workers for ``stop_s``, about every ``each_s``; when that was.

    One that was stopped is left alone for ``rest_s`` after, to be heard: two stops in a row are a longer one.
    """
    times: list[float] = []
    stopped: dict[int, float] = {}
    rested_s: dict[int, float] = {}  # when it may be stopped again
    next_s = 0.0
    while run.poll() is None and (len(times) < most or stopped):
        now_s = time.monotonic()
        for pid in [pid for pid, since_s in stopped.items() if now_s >= since_s + stop_s]:
            with_luck(pid, signal.SIGCONT)
            del stopped[pid]
            rested_s[pid] = now_s + rest_s
        free = [pid for pid in workers(run) if pid not in stopped]
        fit = [pid for pid in free if now_s >= rested_s.get(pid, 0.0)]
        if now_s >= next_s and len(times) < most and len(free) > 1 and fit:
            pid = RNG.choice(fit)
            with_luck(pid, signal.SIGSTOP)
            times.append(now_s)
            stopped[pid] = now_s
            next_s = now_s + each_s * RNG.uniform(0.7, 1.3)
        time.sleep(0.02)
    return times


def with_luck(pid: int, number: int) -> None:
    """Send a signal to a process that may just have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


@dataclass(frozen=True)
class Log:
    """A run's event log."""

    steps: list[dict[str, Any]]

    @classmethod
    def of(cls, output: Path) -> Log:
        with (output / "events.jsonl").open() as lines:
            next(lines)
            return cls([json.loads(line) for line in lines])

    def events(self, kind: str) -> Iterator[tuple[int, float, dict[str, Any]]]:
        """(step, time, event) of a kind."""
        for i, step in enumerate(self.steps):
            if step["event"]["type"] == kind:
                yield i, step["t"], step["event"]

    def dispatches(self, stage: str = "") -> dict[int, tuple[float, str, list[list[Any]]]]:
        """Of every invocation: (when, worker, items)."""
        return {
            action["invocation"]: (step["t"], action["worker"], action["items"])
            for step in self.steps
            for action in step["actions"]
            if action["type"] == "Dispatch" and stage in ("", action["stage"])
        }

    def captured_s(self) -> dict[int, float]:
        """When each frame came, of a run of one stream."""
        return {
            event["first_seq"] + i: captured_s
            for _, _, event in self.events("FramesArrived")
            for i, captured_s in enumerate(event["captured_at_s"])
            if captured_s is not None
        }

    def replaced(self, times: Sequence[float]) -> tuple[int, list[float]]:
        """(workers lost, seconds from each one's injection to the first answer of whoever took its place)."""
        dispatches = self.dispatches()
        left = sorted(times)
        lost, found = 0, []
        for i, lost_s, event in self.events("WorkerLost"):
            before = [t for t in left if t <= lost_s]
            if not before:
                continue
            left.remove(before[-1])
            lost += 1
            for step in self.steps[i + 1 :]:
                if step["event"]["type"] != "InvocationDone":
                    continue
                sent_s, worker, _ = dispatches[step["event"]["invocation"]]
                if worker == event["worker"] and sent_s > lost_s:
                    found.append(step["t"] - before[-1])
                    break
        return lost, found

    def heard_again(self, times: Sequence[float], silent_after_s: float) -> tuple[int, list[float], int]:
        """(workers that fell silent, seconds from each stop to the worker's next answer, workers lost).

        A worker that was stopped again before it could answer is timed from the last time.
        """
        dispatches = self.dispatches()
        left = sorted(times)
        silent, found = 0, []
        for i, silent_s, event in self.events("WorkerSilent"):
            before = [t for t in left if t <= silent_s - silent_after_s + 0.3]
            if not before:
                continue
            left.remove(before[-1])
            silent += 1
            for step in self.steps[i + 1 :]:
                later = step["event"]
                if later["type"] == "WorkerSilent" and later["worker"] == event["worker"]:
                    break
                if later["type"] == "InvocationDone" and dispatches[later["invocation"]][1] == event["worker"]:
                    found.append(step["t"] - before[-1])
                    break
        return silent, found, sum(1 for _ in self.events("WorkerLost"))

    def answered(self, stage: str, began_s: dict[int, float]) -> list[float]:
        """Seconds from each frame's injection to the first good answer for it."""
        dispatches = self.dispatches(stage)
        good: dict[int, float] = {}
        for _, t, event in self.events("InvocationDone"):
            sent = dispatches.get(event["invocation"])
            if sent is None:
                continue
            for item, count in zip(sent[2], event["counts"], strict=False):
                if count >= 0:
                    good.setdefault(item[1], t)
        return [good[seq] - t for seq, t in began_s.items() if seq in good]


@dataclass(frozen=True)
class Order:
    """Whether things came one after the other, each once. Counted are those that did not."""

    number: int
    repeated: int
    backwards: int

    @classmethod
    def of(cls, seen: Sequence[float]) -> Order:
        """Of frames by number, or of times: each is to be above the one before."""
        backwards = sum(after < before for before, after in pairwise(seen))
        return cls(len(seen), len(seen) - len(set(seen)), backwards)

    @property
    def wrong(self) -> int:
        """How many are out of place."""
        return self.repeated + self.backwards

    def __str__(self) -> str:
        if not self.wrong:
            return f"{self.number:,} in order, each once"
        return f"of {self.number:,} {self.repeated} twice, {self.backwards} out of order"


def frames_in_order(output: Path) -> list[tuple[int, float]]:
    """(frame, its time) of detections.jsonl as written, without lost ones. Neighbouring lines of a frame are one."""
    found: list[tuple[int, float]] = []
    for line in map(json.loads, (output / "detections.jsonl").read_text().splitlines()):
        if "outcome" not in line and (not found or found[-1][0] != line["frame"]):
            found.append((line["frame"], line["pts_s"]))
    return found


def strays_s(frames: Sequence[tuple[int, float]], captured_s: Mapping[int, float]) -> list[float]:
    """By how much each frame's time strays from when it came; the clocks of both are set by their median difference."""
    both = [(pts_s, captured_s[seq]) for seq, pts_s in frames if seq in captured_s]
    usual_s = statistics.median(came_s - pts_s for pts_s, came_s in both) if both else 0.0
    return [came_s - pts_s - usual_s for pts_s, came_s in both]


def summary_of(output: Path) -> dict[str, Any]:
    """run.json."""
    found: dict[str, Any] = json.loads((output / "run.json").read_text())
    return found


def lines_of(output: Path) -> dict[int, list[str]]:
    """detections.jsonl: every frame's lines."""
    found: dict[int, list[str]] = {}
    for line in (output / "detections.jsonl").read_text().splitlines():
        found.setdefault(json.loads(line)["frame"], []).append(line)
    return found


def wait_for(path: Path, run: subprocess.Popen[bytes], timeout_s: float = 60.0) -> None:
    """Until a file has something in it, or the run has ended."""
    until_s = time.monotonic() + timeout_s
    while run.poll() is None and time.monotonic() < until_s and not (path.exists() and path.stat().st_size):
        time.sleep(0.02)

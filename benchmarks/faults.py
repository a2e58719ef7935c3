"""What happens when ...: faults injected into real runs, so many of each, and the table of what became of them.

    python -m benchmarks.faults [--injections 100] [--output out/faults] [--rows worker-killed,...]

Every row is written to OUTPUT as it is done, with the code and the machine that it is of, and a second start goes on
where the first one was stopped, within the longest rows too. Tracker ids and boxes are compared with those of an
undisturbed run, line by line; frames have to come in order and once, and where a source is live their times are
compared with when they came; frames lost are counted in the outputs and have to be what the ledger says. The table goes
to stdout and, with all figures, to OUTPUT/faults.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.camera import Camera, SlowEndpoint
from benchmarks.injection import (
    RNG,
    Log,
    Order,
    frames_in_order,
    kill_some,
    lines_of,
    start,
    stop_some,
    strays_s,
    summary_of,
    wait_for,
)
from benchmarks.store import Key, Store, revision

HERE = Path(__file__).parent
CLIP = ["-i", "sample:bikes"]
CLIP_FRAMES = 250
IDENTICAL = "identical, track ids included"


@dataclass
class Row:
    """One line of the table."""

    injected: int = 0
    frames: int = 0
    lost: int = 0  # counted in the outputs
    ledger_lost: int = 0  # decoded minus delivered, as the ledger has it
    output: str = ""
    recovery: str = ""
    recovery_s: list[float] = field(default_factory=list)
    exit_codes: list[int] = field(default_factory=list)
    wall_s: float = 0.0
    differs: int = 0  # lines of frames that are there and are not those of the undisturbed run
    misplaced: int = 0  # frames that were written twice, or after a later one
    replaced: int = 0  # processes, of workers that only stood still


class Bench:
    """Where runs go, how many injections there are to be, and the undisturbed run."""

    def __init__(self, folder: Path, injections: int) -> None:
        self.folder = folder
        self.injections = injections
        self.keep: Callable[[Row], None] = lambda _: None  # keeps the row that is being made, run by run
        self._reference: dict[int, list[str]] | None = None

    def fresh(self, name: str) -> Path:
        """A folder for a run."""
        path = self.folder / "runs" / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    @property
    def loops(self) -> int:
        """Passes over the clip of the longest run."""
        return max(2, -(-self.injections * 34 // CLIP_FRAMES))

    def reference(self) -> dict[int, list[str]]:
        """What an undisturbed run gives, of the longest length: shorter ones are its beginning."""
        if self._reference is None:
            output = self.folder / "runs" / f"undisturbed-{revision()}"
            if not (output / "run.json").exists() or summary_of(output)["frames"]["decoded"] < self.loops * CLIP_FRAMES:
                run = start("people", output, *CLIP, "--workers", "process:2", "--loop", str(self.loops))
                if run.wait():
                    raise SystemExit("the undisturbed run failed")
            self._reference = lines_of(output)
        return self._reference

    def account(self, row: Row, output: Path, code: int) -> None:
        """Add a run's frames to the row, and compare what it wrote."""
        frames = summary_of(output)["frames"]
        row.exit_codes.append(code)
        row.frames += frames["decoded"]
        row.ledger_lost += frames["decoded"] - frames["delivered"]
        row.misplaced += Order.of([seq for seq, _ in frames_in_order(output)]).wrong
        lines = lines_of(output)
        for seq in range(frames["decoded"]):
            of_frame = lines.get(seq, [])
            if not of_frame or any('"outcome"' in line for line in of_frame):
                row.lost += 1
            elif of_frame != self.reference()[seq]:
                row.differs += 1
        self.keep(row)


def told(row: Row, right: str) -> str:
    """What was found of outputs that are compared with the undisturbed run's."""
    same = right if not row.differs else "not identical"
    return f"{same}, {'in order' if not row.misplaced else 'not in order'}"


def worker_killed(bench: Bench, row: Row) -> None:
    while row.injected < bench.injections:
        output = bench.fresh("worker-killed")
        run = start("people", output, *CLIP, "--workers", "process:2", "--loop", str(bench.loops))
        wait_for(output / ".detections.jsonl.partial", run)
        times = kill_some(run, 6.0, bench.injections - row.injected)
        code = run.wait()
        lost, recovery = Log.of(output).replaced(times)
        row.injected += lost
        row.recovery_s += recovery
        bench.account(row, output, code)
    row.output = told(row, IDENTICAL)
    row.recovery = "to the first answer of the new process"


def worker_stopped(bench: Bench, row: Row) -> None:
    while row.injected < bench.injections:
        output = bench.fresh("worker-stopped")
        run = start("people", output, *CLIP, "--workers", "process:3", "--loop", str(min(8, bench.loops)))
        wait_for(output / ".detections.jsonl.partial", run)
        times = stop_some(run, 2.0, 5.0, bench.injections - row.injected)
        code = run.wait()
        silent, recovery, gone = Log.of(output).heard_again(times, 1.5)
        row.injected += silent
        row.recovery_s += recovery
        row.replaced += gone
        bench.account(row, output, code)
    row.output = f"{told(row, IDENTICAL)}; {row.replaced} processes replaced"
    row.recovery = "to the worker's next answer, 5 s of it stopped"
    if again := row.injected - len(row.recovery_s):
        row.recovery += f" ({again} were stopped again before, or had nothing more to do)"


def _trouble(bench: Bench, row: Row, name: str, loops: int, *options: str) -> tuple[Log, dict[str, float]]:
    """Run the pipeline with the stage that misbehaves; its log, and when it did so by frame."""
    output, marks = bench.fresh(name), bench.fresh(f"{name}-marks")
    run = start(
        HERE / "people-in-trouble.yaml", output, *CLIP, "--ops", str(HERE / "trouble.py"), "--loop", str(loops),
        "--workers", "process:3", "--set", f"params.marks={marks}", *options,
    )  # fmt: skip
    bench.account(row, output, run.wait())
    began = {mark.name: float(mark.read_text()) for mark in marks.iterdir()}
    row.injected += len(began)
    return Log.of(output), began


def operator_raises(bench: Bench, row: Row) -> None:
    loops = max(1, bench.injections * 20 // CLIP_FRAMES)
    _trouble(bench, row, "operator-raises", loops, "--set", "params.how=raise")
    kept = len(list((bench.folder / "runs" / "operator-raises" / "quarantine").iterdir()))
    # A tracker that did not see a frame may number and end tracks otherwise; boxes of other frames must not change.
    output = lines_of(bench.folder / "runs" / "operator-raises")
    detect = [
        seq for seq, lines in output.items() if not any('"outcome"' in line for line in lines)
        and lines[0] != bench.reference()[seq][0]
    ]  # fmt: skip
    row.differs = len(detect)
    row.output = f"{told(row, 'boxes of all other frames identical')}; {kept} frames kept in quarantine/"
    row.recovery = "nothing to recover: the next frame is worked on at once"


def operator_hangs(bench: Bench, row: Row) -> None:
    loops = max(1, bench.injections * 20 // CLIP_FRAMES)
    options = ("--set", "params.how=hang", "--invocation-timeout", "1")
    log, began = _trouble(bench, row, "operator-hangs", loops, *options)
    _, row.recovery_s = log.replaced(list(began.values()))
    frames = log.answered("trouble", {int(name.partition("-")[0]): t for name, t in began.items()})
    row.output = told(row, IDENTICAL)
    row.recovery = (
        f"to the first answer of the new process (the frame itself: median {statistics.median(frames):.2f} s)"
    )


def slow_and_failing(bench: Bench, row: Row) -> None:
    options = ("--set", "params.how=mixed", "--set", "params.usual_s=0.05")
    log, began = _trouble(bench, row, "slow-and-failing", bench.loops, *options)
    counts = {what: sum(name.endswith(what) for name in began) for what in ("raise", "slow")}
    row.recovery_s = log.answered("trouble", {int(name.partition("-")[0]): t for name, t in began.items()})
    row.output = f"{told(row, IDENTICAL)} ({counts['raise']} failing, {counts['slow']} slow)"
    row.recovery = "to the frame's good answer; 0.05 s is usual"


def engine_killed(bench: Bench, row: Row) -> None:
    options = [*CLIP, "--workers", "2", "--loop", str(bench.loops), "--resume"]
    while row.injected < bench.injections:
        output = bench.fresh("engine-killed")
        lines = output / ".detections.jsonl.partial"
        killed_at = 0  # bytes of lines that there were
        killed_s: float | None = None
        run = start("people", output, *options)
        while run.poll() is None:
            if row.injected < bench.injections and _size(lines) > killed_at:
                if killed_s is not None:
                    row.recovery_s.append(time.monotonic() - killed_s)
                time.sleep(RNG.uniform(0.0, 2.0))
                if run.poll() is not None:
                    break
                run.kill()
                killed_s = time.monotonic()
                run.wait()
                killed_at = _size(lines) or sys.maxsize  # it had its final name by then: let it end
                row.injected += 1
                run = start("people", output, *options)
            time.sleep(0.01)
        bench.account(row, output, run.wait())
    row.output = told(row, IDENTICAL)
    row.recovery = "from the kill, with `--resume` started at once, to past where it had been"


def _size(path: Path) -> int:
    """Bytes; 0 for what is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def source_vanishes(bench: Bench, row: Row) -> None:
    output = bench.fresh("source-vanishes")
    with Camera(bench.folder / "runs" / "camera.ts") as camera:
        run = start("people", output, "-i", camera.address, "--workers", "2")
        wait_for(output / ".detections.jsonl.partial", run)
        back: list[float] = []
        while len(back) < bench.injections and run.poll() is None:
            time.sleep(0.8)
            camera.stop()
            time.sleep(0.3)
            camera.start()
            back.append(time.monotonic())
            camera.wait_for_client(15.0)
        time.sleep(1.0)
        run.send_signal(signal.SIGINT)
        code = run.wait()
    frames = summary_of(output)["frames"]
    row.exit_codes.append(code)
    row.injected, row.frames = len(back), frames["decoded"]
    row.ledger_lost = frames["decoded"] - frames["delivered"]
    row.lost = frames["decoded"] - sum(
        not any('"outcome"' in line for line in lines) for lines in lines_of(output).values()
    )
    log = Log.of(output)
    arrived = [t for _, t, _ in log.events("FramesArrived")]
    row.recovery_s = [later[0] - t for t in back if (later := [a for a in arrived if a > t])]
    written = frames_in_order(output)
    order, times = Order.of([seq for seq, _ in written]), Order.of([pts_s for _, pts_s in written])
    strays = [abs(stray) for stray in strays_s(written, log.captured_s())] or [0.0]
    row.misplaced = order.wrong + times.wrong
    row.output = (
        f"pictures that were not dropped: {order}; their times: {times}, off when they came by {max(strays):.2f} s at "
        f"most, {statistics.median(strays):.3f} s at the median; stopped by Ctrl-C in the end"
    )
    # A source that is lost again within seconds is called back less and less eagerly, up to 10 s apart at random.
    row.recovery = (
        f"from the server's return to the next picture (the first two, "
        f"{' and '.join(f'{s:.1f}' for s in row.recovery_s[:2])} s: waits grow for one that flaps)"
    )


_SLOW = """version: 1
name: people-posted
ops:
  - {{name: detect, type: llamapipe/detect@v1, inputs: $source.frames, task: person-detection}}
sinks:
  - {{type: llamapipe/jsonl@v1, inputs: [$ops.detect.boxes], path: detections.jsonl}}
  - {{type: llamapipe/webhook@v1, inputs: [$ops.detect.boxes], url: "{url}", batch: 1}}
"""


def slow_consumer(bench: Bench, row: Row) -> None:
    output = bench.fresh("slow-consumer")
    with SlowEndpoint(each=10, pause_s=2.0, most=bench.injections) as endpoint:
        pipeline = bench.folder / "runs" / "people-posted.yaml"
        pipeline.write_text(_SLOW.format(url=endpoint.address))
        loops = max(2, -(-bench.injections * 70 // CLIP_FRAMES))
        run = start(
            pipeline,
            output,
            *CLIP,
            "--realtime",
            "--drop-policy",
            "drop-oldest",
            "--loop",
            str(loops),
            "--workers",
            "2",
        )
        while run.poll() is None and endpoint.pauses < bench.injections:
            time.sleep(0.2)
        time.sleep(2.5)
        run.send_signal(signal.SIGINT)
        code = run.wait()
    frames = summary_of(output)["frames"]
    row.exit_codes.append(code)
    row.injected, row.frames = endpoint.pauses, frames["decoded"]
    row.ledger_lost = frames["decoded"] - frames["delivered"]
    row.lost = frames["decoded"] - len(set(endpoint.frames))
    row.recovery_s = endpoint.recovery_s
    order = Order.of(endpoint.frames)
    row.misplaced = order.wrong
    row.output = f"frames that were not dropped: {order}"
    row.recovery = "from the end of the pause to the next frame received"


_FULL = re.compile(r"disk is full|larger than allowed|no space left", re.IGNORECASE)


def disk_full(bench: Bench, row: Row) -> None:
    import llamapipe

    disk = bench.folder / "runs" / "disk"
    explained = left_over = 0
    with Disk(disk) as kind:
        for i in range(bench.injections):
            shutil.rmtree(disk / "out", ignore_errors=True)
            leave_bytes = 12_288 * (i % 25)
            filled = kind.fill(leave_bytes)
            summary = llamapipe.run("people", "sample:bikes", output=disk / "out", max_frames=60, workers="2")
            row.exit_codes.append(summary.exit_code)
            row.injected += summary.exit_code == 1
            row.frames += summary.frames.decoded
            row.ledger_lost += summary.frames.decoded - summary.frames.delivered
            filled.unlink(missing_ok=True)
            whole = all((disk / "out" / name).exists() for name in ("annotated.mp4", "detections.jsonl"))
            row.lost += 0 if whole else summary.frames.decoded
            left = [path.name for path in (disk / "out").rglob("*") if "partial" in path.name or path.suffix == ".tmp"]
            left_over += len(left)
            row.differs += len(left)
            explained += summary.exit_code == 1 and bool(_FULL.search(summary.error or ""))
            begin_s = time.monotonic()
            if i % 25 == 0:
                shutil.rmtree(disk / "out", ignore_errors=True)
                again = llamapipe.run("people", "sample:bikes", output=disk / "out", max_frames=60, workers="2")
                row.recovery_s.append(time.monotonic() - begin_s)
                row.differs += again.exit_code
        row.output = (
            f"{explained} of {row.injected} stopped with the reason; {left_over or 'no'} partial files left "
            f"({kind.name})"
        )
        row.recovery = "none: with room made, the same command ran through in"


class Disk:
    """A folder that can be filled up: a small tmpfs where this process may mount one, else a limit on file sizes."""

    SIZE = 2_000_000

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = ""

    def __enter__(self) -> Disk:
        self.path.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={self.SIZE}", "llamapipe-faults", str(self.path)]
        mounted = os.getuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
        self.name = "a tmpfs of 2 MB" if mounted else "RLIMIT_FSIZE"
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        return self

    def fill(self, leave_bytes: int) -> Path:
        filler = self.path / "filler"
        if self.name == "RLIMIT_FSIZE":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (max(4096, leave_bytes), self._limits[1]))
            return filler
        free = os.statvfs(self.path)
        filler.write_bytes(b"\0" * max(0, free.f_bavail * free.f_frsize - leave_bytes - 8192))
        return filler

    def __exit__(self, *exc: object) -> None:
        if self.name == "RLIMIT_FSIZE":
            resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)
        else:
            subprocess.run(["umount", str(self.path)], check=True)


ROWS: dict[str, tuple[str, Callable[[Bench, Row], None]]] = {
    "worker-killed": ("a worker process is killed (`kill -9`)", worker_killed),
    "worker-stopped": ("a worker process is stopped for 5 s (`SIGSTOP`)", worker_stopped),
    "operator-raises": ("an operator raises on one frame, every time", operator_raises),
    "operator-hangs": ("an operator never returns", operator_hangs),
    "slow-and-failing": ("3 % of invocations fail, 3 % take ten times as long", slow_and_failing),
    "engine-killed": ("the run itself is killed (`kill -9`), then gone on with by `--resume`", engine_killed),
    "source-vanishes": ("a live source goes away and comes back", source_vanishes),
    "slow-consumer": ("a consumer stops taking results for 2 s", slow_consumer),
    "disk-full": ("the disk is full", disk_full),
}


WRONG = {"differs": "differ", "misplaced": "misplaced"}
"""What must not be, by the field of the row."""

_BY_RUNS = ("worker-killed", "worker-stopped", "engine-killed")  # rows of several runs, which can be gone on with


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--injections", type=int, default=100)
    parser.add_argument("--output", type=Path, default=Path("out/faults"))
    parser.add_argument("--rows", default=",".join(ROWS), help="which, comma between")
    arguments = parser.parse_args()
    bench = Bench(arguments.output.resolve(), arguments.injections)
    bench.folder.mkdir(parents=True, exist_ok=True)
    store = Store(bench.folder / "rows.jsonl", injections=arguments.injections)
    done: dict[str, dict[str, Any]] = {}
    for name in arguments.rows.split(","):
        found = store.get(("row", name))
        if found is None:
            print(f"{name} ...", file=sys.stderr, flush=True)
            bench.reference()
            begun = ("unfinished", name)
            row = goes_on(store.get(begun))
            bench.keep = partial(_keep, store, begun) if name in _BY_RUNS else lambda _: None
            began_s = time.monotonic() - row.wall_s
            ROWS[name][1](bench, row)
            row.wall_s = time.monotonic() - began_s
            found = store.add(("row", name), asdict(row))
        done[name] = found
    (bench.folder / "faults.json").write_text(json.dumps(done, indent=1))
    print(table(done))
    for line in store.footer():
        print(line)
    return int(any(row["lost"] != row["ledger_lost"] or any(row[what] for what in WRONG) for row in done.values()))


def _keep(store: Store, key: Key, row: Row) -> None:
    store.add(key, asdict(row))


def goes_on(kept: dict[str, Any] | None) -> Row:
    """The row that was begun. One of other code is begun anew: half of each would be a row of neither."""
    if kept is None or kept["code"] != revision():
        return Row()
    return Row(**{field.name: kept[field.name] for field in fields(Row)})


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| what was injected | times | frames | lost | by the ledger | output | exit code | recovery |",
        "|---|--:|--:|--:|--:|---|--:|---|",
    ]
    for name, row in rows.items():
        wrong = "".join(f"; **{row[what]} {said}**" for what, said in WRONG.items() if row[what])
        times = sorted(row["recovery_s"])
        taken = ""
        if times:
            taken = f": median {statistics.median(times):.2f} s, longest {times[-1]:.2f} s"
        codes = ", ".join(str(code) for code in sorted(set(row["exit_codes"])))
        lines.append(
            f"| {ROWS[name][0]} | {row['injected']} | {row['frames']:,} | {row['lost']} | {row['ledger_lost']} "
            f"| {row['output']}{wrong} | {codes} | {row['recovery']}{taken} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

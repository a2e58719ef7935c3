"""A video that changes: when ``--shadow`` notices, what the run goes over to, and what all that costs.

Two clips whose best configurations differ are joined, at one size and rate: a street on which many walk, of which a few
frames a second or a cheaper network tell enough, and a room in which one person at a time goes about, of which by the
sweeps hardly anything but the reference does. `llamapipe tune` is given the first part alone, and what it finds runs on
the whole, paced: once as it is, and once with a share of the frames compared with the reference, and a new search where
that finds drift. How right each was is told by a run of the reference over the same clip, with nothing to hurry it.

Parts of the run are told apart by the frames of the watched one: until the video changes; until that is noticed; while
the reference runs, until a search has found something; and from then on. CPU is that of the whole process, so the
comparing and searching is in it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.autotune.cases import assets, worded
from benchmarks.autotune.runs import sets_of
from benchmarks.autotune.tables import head
from benchmarks.injection import Log, lines_of, summary_of, used_cpu_s
from benchmarks.store import Budget, Row, Store
from llamapipe.accuracy import agreement
from llamapipe.data import Boxes
from llamapipe.session.pinned import read_pinned

PIPELINE, STAGE = "people", "follow"  # whose boxes are compared, as tuning has it
PARTS = (("TUD-Stadtmitte.mp4", 0, 179, 2), ("one-by-one-person-detection.mp4", 160, 1200, 2))  # from, frames, times
SIZE, FPS = (640, 480), 25
SHARE, FLOOR = 0.25, 0.9
BUDGET_S = 20.0  # of the first search; the one beside the run takes twice that, and its part has to last longer
WINDOW = 48  # frames that agreement is told of together
EVERY_S = 0.25
ASKED: dict[str, Any] = {
    "pipeline": PIPELINE,
    "parts": PARTS,
    "size": SIZE,
    "fps": FPS,
    "share": SHARE,
    "floor": FLOOR,
    "window": WINDOW,
    "budget_s": BUDGET_S,
}
RUNS = {"watched": SHARE, "as tuned": 0.0}

_SCRIPT = """
import json, sys
from pathlib import Path
from llamapipe.session import RunRequest, run
asked = json.loads(sys.argv[1])
output, config = Path(asked.pop("output")), Path(asked.pop("config"))
run(RunRequest(**asked, output=output, config=config))
"""


def measure(results: Store, folder: Path, budget: Budget) -> None:
    """Run what is not there yet. Raises TimeUp."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ("drift",)
    if results.has(key):
        return
    clip, config = folder / "joined.mp4", folder / "tuned.yaml"
    join(clip)
    budget.check()
    _llamapipe(
        *("tune", PIPELINE, "-i", str(clip), "--end", f"{changes_at() / FPS:g}", "--config", str(config)),
        *("--min-accuracy", f"{FLOOR:g}", "--budget-s", f"{BUDGET_S:g}", "--again", "-q"),
    )
    tuning = read_pinned(config)
    print(f"tuned for the first part: {worded(tuning.values)}", flush=True)
    budget.check()
    reference = folder / "reference"
    _llamapipe(*("run", PIPELINE, "-i", str(clip), "-o", str(reference), "--force", "-q"), *sets_of(tuning.reference))
    budget.check()
    runs = {name: _run(clip, config, folder / name.replace(" ", "-"), share) for name, share in RUNS.items()}
    watched = runs["watched"]["summary"]
    parts = parts_of(changes_at(), watched["changes"], watched["frames"]["decoded"])
    right = boxes_of(lines_of(reference), STAGE)
    row: Row = {
        "tuned": dict(tuning.values),
        "changes": watched["changes"],
        "notes": watched["notes"],
        "seen": runs["watched"]["windows"],
        "parts": parts,
        "runs": {name: figures_of(run, right, parts) for name, run in runs.items()},
        "windows": {
            name: [[first, _f1(right, run["boxes"], first, first + WINDOW)] for first in range(0, parts[-1][2], WINDOW)]
            for name, run in runs.items()
        },
    }
    results.add(key, row)
    for line in report(results):
        print(line, flush=True)


def changes_at() -> int:
    """The first frame of the second part."""
    _, _, frames, times = PARTS[0]
    return frames * times


def join(target: Path) -> None:
    """Both parts as one clip, pictures in order: one that was slower before is faster in it."""
    with av.open(str(target), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "18"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        at = 0
        for name, first, frames, times in PARTS:
            for _ in range(times):
                with av.open(str(assets() / name)) as source:
                    for picture in islice(source.decode(video=0), first, first + frames):
                        frame = picture.reformat(*SIZE, format="yuv420p")
                        frame.pts, frame.time_base = at, Fraction(1, FPS)
                        frame.pict_type = av.video.frame.PictureType.NONE  # what it was in its clip says nothing here
                        out.mux(stream.encode(frame))
                        at += 1
        out.mux(stream.encode())


def _llamapipe(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "llamapipe", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"llamapipe {' '.join(arguments)}\nended with {done.returncode}: {done.stderr.strip()}")


def _run(clip: Path, config: Path, output: Path, share: float) -> dict[str, Any]:
    """One run, and its processor time over the clock."""
    shutil.rmtree(output, ignore_errors=True)
    asked = {
        "pipeline": PIPELINE,
        "sources": [str(clip)],
        "output": str(output),
        "config": str(config),
        "shadow": share,
        "realtime": True,
        "record_events": True,
    }
    run = subprocess.Popen([sys.executable, "-c", _SCRIPT, json.dumps(asked)])
    used: list[tuple[float, float]] = []
    while run.poll() is None:
        used.append((time.monotonic(), used_cpu_s(run.pid)))
        time.sleep(EVERY_S)
    if run.returncode:
        raise SystemExit(f"the run ended with {run.returncode}")
    log = Log.of(output)
    return {
        "summary": summary_of(output),
        "windows": windows_of(summary_of(output)),
        "captured_s": log.captured_s(),
        "latencies_s": latencies_of(log),
        "boxes": boxes_of(lines_of(output), STAGE),
        "used": [(t, cpu_s) for t, cpu_s in used if cpu_s > 0],  # once a process is gone, nobody knows
    }


def windows_of(summary: Mapping[str, Any]) -> list[list[Any]]:
    """[last frame, [agreement, low, high]] of each window that was looked at; None where nothing was found."""
    seen = (summary.get("shadow") or {}).get("windows", [])
    return [
        [w["frame"], None if w["agreement"] is None else [w["agreement"], w["low"], w["high"]]]
        for w in seen
        if w["verdict"] in ("fine", "too little to judge", "below the floor")
    ]


def latencies_of(log: Log) -> dict[int, float]:
    """From each frame's capture to when the last sink had it."""
    captured_s, done_s, upto = log.captured_s(), dict[int, float](), dict[str, int]()
    for _, t, event in log.events("Committed"):
        for seq in range(upto.get(event["sink"], -1) + 1, event["seq"] + 1):
            done_s[seq] = max(t, done_s.get(seq, t))
        upto[event["sink"]] = event["seq"]
    return {seq: t - captured_s[seq] for seq, t in done_s.items() if seq in captured_s}


def boxes_of(lines: Mapping[int, Sequence[str]], stage: str) -> dict[int, Boxes]:
    """What a stage found, by frame; frames that were not looked at are not there."""
    found: dict[int, Boxes] = {}
    for seq, of_frame in lines.items():
        for line in map(json.loads, of_frame):
            if line.get("stage") == stage:
                items = line["items"]
                found[seq] = Boxes(
                    xyxy=np.array([item["box"] for item in items], np.float32).reshape(-1, 4),
                    score=np.array([item.get("score", 1.0) for item in items], np.float32),
                    label=np.zeros(len(items), np.int32),
                    names=(stage,),
                )
    return found


def parts_of(change: int, changes: Sequence[Mapping[str, Any]], frames: int) -> list[tuple[str, int, int]]:
    """(name, first frame, end) of each part of the clip that there is."""
    told = [each for each in changes if not each["error"]]
    noticed = next((each["frame"] for each in told if each["why"].startswith("drift")), None)
    found = next((each["frame"] for each in told if each["why"].startswith("tuned")), None)
    named = [("before", 0), ("changed, unnoticed", change)]
    named += [("the reference runs", noticed)] if noticed is not None else []
    named += [("tuned anew", found)] if found is not None else []
    named.sort(key=lambda part: part[1])  # noticed too early, it was a false alarm: told as it was
    ends = [first for _, first in named[1:]] + [frames]
    return [(name, first, end) for (name, first), end in zip(named, ends, strict=True) if end > first]


def figures_of(run: Mapping[str, Any], right: Mapping[int, Boxes], parts: Sequence[tuple[str, int, int]]) -> Row:
    """By part: p95 of latency, processor time a frame, and agreement with the reference."""
    found: Row = {}
    for name, first, end in parts:
        late = [s for seq, s in run["latencies_s"].items() if first <= seq < end]
        came = [run["captured_s"][seq] for seq in (first, end - 1) if seq in run["captured_s"]]
        cpu_s = cpu_between(run["used"], came[0], came[1]) if len(came) == 2 else None
        found[name] = {
            "p95_ms": 1000 * float(np.percentile(late, 95)) if late else None,
            "cpu_ms": None if cpu_s is None else 1000 * cpu_s / (end - first),
            "agreement": _f1(right, run["boxes"], first, end),
            "delivered": sum(first <= seq < end for seq in run["boxes"]),
        }
    return found


def cpu_between(used: Sequence[tuple[float, float]], begin_s: float, end_s: float) -> float:
    """Processor time between two moments, as if it had been even between two looks."""
    times, cpu_s = [t for t, _ in used], [c for _, c in used]
    begin, end = (float(np.interp(at, times, cpu_s)) for at in (begin_s, end_s))
    return end - begin


def _f1(right: Mapping[int, Boxes], mine: Mapping[int, Boxes], first: int, end: int) -> float | None:
    """Over the frames that both looked at; None where neither found anything."""
    frames = [seq for seq in range(first, end) if seq in right and seq in mine]
    seen = agreement([mine[s] for s in frames], [right[s] for s in frames], rng=np.random.default_rng(0))
    return seen.f1 if seen.num_found + seen.num_reference else None


def report(results: Store) -> Iterator[str]:
    """Markdown."""
    row = results.get(("drift",))
    if row is None:
        return
    change = changes_at()
    yield f"Tuned for the first part: {worded(row['tuned'])}. From frame {change} on it is another video."
    yield ""
    for each in row["changes"]:
        runs = ", ".join(f"{it['stage']} {it['variant']} b{it['batch']}" for it in each["runs"])
        error = f" (could not be: {each['error']})" if each["error"] else ""
        after = (each["frame"] - change) / FPS
        yield f"- frame {each['frame']}, {after:+.1f} s from the change: {each['why']}: {runs}{error}"
    if not row["changes"]:
        yield "- nothing was noticed"
    for note in row["notes"]:
        yield f"- {note}"
    yield ""
    yield from head("part", ">frames", "run", ">p95 ms", ">CPU ms a frame", ">delivered", ">agreement")
    for name, first, end in row["parts"]:
        for run, parts in row["runs"].items():
            it = parts[name]
            yield (
                f"| {name} | {first} to {end - 1} | {run} | {_told(it['p95_ms'], 1)} | {_told(it['cpu_ms'], 1)} "
                f"| {it['delivered']} | {_told(it['agreement'], 3)} |"
            )
    yield ""
    seen = [at for at, _ in row["seen"]]
    yield from head(">frames", *(f">{run}" for run in row["windows"]), ">seen by --shadow lately (interval)")
    for windows in zip(*row["windows"].values(), strict=True):
        first = windows[0][0]
        lately = bisect_right(seen, first + WINDOW - 1)
        looked = row["seen"][lately - 1][1] if lately and seen[lately - 1] >= first else None
        told = "" if looked is None else f"{looked[0]:.3f} ({looked[1]:.3f} to {looked[2]:.3f})"
        cells = " | ".join(_told(f1, 3) for _, f1 in windows)
        yield f"| {first} to {first + WINDOW - 1} | {cells} | {told} |"


def _told(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"

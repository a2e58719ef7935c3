"""What loading and calling a variant takes, found out in a process of its own.

``python -m llamapipe.inference.measuring`` is that process: started by `measure`, of no use by hand. It has the cores
of one replica and nothing else to do. Measured is the whole of `LoadedVariant.predict`, pictures in, boxes out.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import IO

import msgspec
import numpy as np
from numpy.typing import NDArray

from llamapipe.catalog import Variant
from llamapipe.clock import Clock, Env, SystemClock, system_env
from llamapipe.data import Image
from llamapipe.errors import LlamapipeError
from llamapipe.inference.assets import AssetStore
from llamapipe.inference.backends import BACKENDS
from llamapipe.inference.hardware import cores_busy_s
from llamapipe.inference.models import register_file, registered_files
from llamapipe.inference.predictor import load_predictor

__all__ = ["Care", "Measurement", "measure"]

_Called = tuple[list[float], float, float]

_PATIENCE_S = 60.0  # that loading and warming up may take beside the calls


class Care(msgspec.Struct, frozen=True):
    """How long a point is called for: until both leasts are reached, or the most.

    When others took more than ``most_foreign`` of the cores meanwhile, it is done again, up to so many ``attempts``.
    """

    least_s: float = 0.4
    least_calls: int = 8
    most_s: float = 3.0  # but three calls in any case
    most_foreign: float = 0.05
    attempts: int = 5


class Measurement(msgspec.Struct, frozen=True):
    """Of one variant loaded for one batch."""

    batch: int
    error: str = ""  # why it cannot be loaded or called; nothing else is known then
    load_s: float = 0.0  # in a process that has its library loaded already
    peak_memory_bytes: int = 0  # that loading and calling added to the process
    seconds: tuple[float, ...] = ()  # of each call, in their order
    core_s: float = 0.0  # processor time of one call, all threads, on average
    foreign: float = 0.0  # share of the cores' time that other processes took meanwhile

    @property
    def median_s(self) -> float:
        """Of the calls."""
        return float(np.median(self.seconds))

    @property
    def p95_s(self) -> float:
        """Of the calls."""
        return float(np.percentile(self.seconds, 95))


class _Request(msgspec.Struct, frozen=True):
    variant: Variant
    batches: tuple[int, ...]
    frames: str  # .npy, see `measure`
    cache_root: str
    models: tuple[tuple[str, str, tuple[str, ...], tuple[int, int]], ...]
    cores: tuple[int, ...]
    care: Care


def measure(
    variant: Variant,
    batches: Sequence[int],
    frames: NDArray[np.uint8],
    *,
    assets: AssetStore,
    env: Env,
    care: Care | None = None,
) -> Iterator[Measurement]:
    """Measure a variant at some batches, in their order, each as soon as it is done.

    ``frames`` (n, height, width, 3) uint8, blue first, are what the calls are made with, in turn. A batch that cannot
    be had, or that brings the process down, gives a `Measurement` with its error; after a crash no others follow.
    """
    care = care if care is not None else Care()
    with tempfile.TemporaryDirectory(prefix="llamapipe-") as folder, tempfile.TemporaryFile() as errors:
        kept = Path(folder) / "frames.npy"
        np.save(kept, frames)
        cores = _cores(variant.threads)
        request = _Request(variant, tuple(batches), str(kept), str(assets.root), registered_files(), cores, care)
        threads = str(variant.threads)
        process = subprocess.Popen(
            [sys.executable, "-m", "llamapipe.inference.measuring"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**env, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
            process_group=0,  # Ctrl-C is for the caller
        )
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(msgspec.json.encode(request))
                process.stdin.close()
            except BrokenPipeError:
                pass  # it has ended already: its code says so
            for batch in batches:
                line = process.stdout.readline()
                if not line:
                    yield Measurement(batch, error=_end_of(process, errors))
                    return
                yield msgspec.json.decode(line, type=Measurement)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _end_of(process: subprocess.Popen[bytes], errors: IO[bytes]) -> str:
    code = process.wait()
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"the measuring process ended with {how}" + (f": {lines[-1]}" if lines else "")


def _cores(threads: int) -> tuple[int, ...]:
    """Those that a replica of so many threads gets. The last ones: the first are the busier with other things."""
    mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return tuple(mine[-threads:])


def main() -> None:
    """Measure what standard input asks for, a line of JSON a batch."""
    import signal

    request = msgspec.json.decode(sys.stdin.buffer.read(), type=_Request)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries that print spoil nothing
    if request.cores:
        os.sched_setaffinity(0, request.cores)
    for file, decoder, labels, input_size in request.models:
        register_file(Path(file), decoder=decoder, labels=labels, input_size=input_size)
    assets = AssetStore(Path(request.cache_root), env=system_env())
    BACKENDS[request.variant.backend].status()  # imports the library: that is no part of a replica
    frames = np.load(request.frames, mmap_mode="r")
    for batch in request.batches:
        # A call that never returns ends this process; SIGALRM's own action needs no thread that is still alive.
        signal.alarm(int(_PATIENCE_S + 20 * request.care.attempts * request.care.most_s))
        try:
            measurement = _measured(request.variant, batch, frames, request.care, assets, SystemClock())
        except LlamapipeError as error:
            measurement = Measurement(batch, error=error.message)
        except Exception as error:
            measurement = Measurement(batch, error=f"{type(error).__name__}: {error}")
        out.write(msgspec.json.encode(measurement) + b"\n")
        out.flush()


def _measured(
    variant: Variant, batch: int, frames: NDArray[np.uint8], care: Care, assets: AssetStore, clock: Clock
) -> Measurement:
    gc.collect()
    before = _memory("VmRSS")
    _forget_peak()
    predictor = load_predictor(variant, batch=batch, assets=assets, clock=clock)
    try:
        pictures = cycle(np.array(frame) for frame in frames)

        def call() -> float:
            images = [Image.from_bgr(next_) for next_ in islice(pictures, batch)]
            began_s = clock.now_s()
            predictor.predict(images)
            return clock.now_s() - began_s

        warming_s = call()
        while warming_s < min(0.05, care.least_s):
            warming_s += call()
        seconds, core_s, foreign = _calmest(call, care, clock)
        peak = max(0, _memory("VmHWM") - before)
        return Measurement(batch, "", predictor.load_s, peak, tuple(seconds), core_s, foreign)
    finally:
        predictor.close()


def _calmest(call: Callable[[], float], care: Care, clock: Clock) -> _Called:
    """The least disturbed of some attempts; the first one that is calm enough."""
    best = _called(call, care, clock)
    for attempt in range(1, care.attempts):
        if best[2] <= care.most_foreign:
            break
        clock.sleep(0.2 * 2**attempt)  # what disturbs may be over then
        best = min(best, _called(call, care, clock), key=lambda called: called[2])
    return best


def _called(call: Callable[[], float], care: Care, clock: Clock) -> _Called:
    """(seconds of each call, processor seconds of one, share of the cores' time that others took)."""
    seconds: list[float] = []
    began_s, began_cpu_s, began_busy_s = clock.now_s(), clock.cpu_s(), cores_busy_s()
    while True:
        seconds.append(call())
        total_s = sum(seconds)
        if total_s >= care.least_s and len(seconds) >= care.least_calls:
            break
        if total_s >= care.most_s and len(seconds) >= 3:
            break
    used_s = clock.cpu_s() - began_cpu_s
    others_s = max(0.0, cores_busy_s() - began_busy_s - used_s)
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return seconds, used_s / len(seconds), others_s / (num_cores * max(clock.now_s() - began_s, 1e-9))


def _memory(key: str) -> int:
    """Bytes of this process, from /proc; zero where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), 0)


def _forget_peak() -> None:
    """Let VmHWM begin again at what is resident now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


if __name__ == "__main__":
    main()

"""Workers in processes of their own: started clean, watched, ended.

A process is told who it is by one message on its standard input, which then stays open: when the engine ends, however
it ends, the input ends with it, and so does the process. It is given the descriptor of the shared picture memory. Its
heartbeat comes from a thread of its own, so that a long invocation is not mistaken for a dead worker.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import os
import select
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, ClassVar, TypeVar

import msgspec
import zmq

from llamapipe.clock import Clock, Env
from llamapipe.control.plan import StagePlan
from llamapipe.errors import LlamapipeError
from llamapipe.runtime.dealing import dealer
from llamapipe.runtime.frozen import collect_briefly
from llamapipe.runtime.host import StageSetup, StreamFacts
from llamapipe.runtime.shared import LentArena
from llamapipe.runtime.worker import Worker
from llamapipe.wire import PROTOCOL, Pulse, encode

__all__ = [
    "PULSE_S",
    "Boot",
    "ProcessBoot",
    "ProcessWorker",
    "Spares",
    "begin_process",
    "read_boot",
    "serve_process",
]

PULSE_S = 0.25
"""Seconds between two heartbeats of a process."""

_TAIL_BYTES = 4000
_MOST_OUTPUT_BYTES = 1 << 20  # of what a process writes to stdout and stderr, before all but the end is let go of
_KEPT_OUTPUT_BYTES = 1 << 16
_END_S = 5.0  # that a process may take to end once it was told to stop
_SIZE_BYTES = 8
_STDERR = 2
_SPARE = "llamapipe.runtime.spare"


class ProcessBoot(msgspec.Struct, frozen=True, kw_only=True):
    """What every new process is told, whatever it is for. ``module`` is the one that it runs."""

    module: ClassVar[str]

    name: str
    identity: str
    address: str
    token: str
    fd: int  # of the shared picture memory
    slot_bytes: int
    cache_root: str = ""
    cores: tuple[int, ...] = ()  # that it keeps to; empty: any
    protocol: int = PROTOCOL


class Boot(ProcessBoot, frozen=True, kw_only=True):
    """All that a worker of pipelines is told. Plain data: it finds operators and models by name, as the engine did."""

    module: ClassVar[str] = "llamapipe.session.worker_process"

    stages: tuple[StagePlan, ...]  # that it may be asked to load
    all_stages: tuple[StagePlan, ...]  # of the pipeline: what their conditions ask of these
    streams: dict[str, tuple[int, int, float]]  # width, height, fps
    operators: tuple[str, ...] = ()  # files that define some
    models: tuple[tuple[str, str, tuple[str, ...], tuple[int, int]], ...] = ()  # file, decoder, labels, input size


@dataclass(slots=True)
class _Started:
    """A process that has not been told yet who it is."""

    process: subprocess.Popen[bytes]
    errors: Any  # the file that it writes its output to


@contextlib.contextmanager
def _started_on(cores: Sequence[int]) -> Iterator[None]:
    """What this thread starts meanwhile keeps to these cores from its first moment on; none: to those of the thread."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # they were taken from this process meanwhile
            os.sched_setaffinity(0, before)


def _move(pid: int, cores: Sequence[int]) -> None:
    """Have all threads of a process keep to these cores; none: leave them."""
    if not cores:
        return
    with contextlib.suppress(OSError):  # one that ends meanwhile
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), cores)


def _start(module: str, fds: Sequence[int], env: Env, *arguments: str) -> _Started:
    errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process; a pipe could fill up and block it
    try:
        # What it writes next comes last, also after the file was cut short: see `_keep_short`.
        fcntl.fcntl(errors, fcntl.F_SETFL, fcntl.fcntl(errors, fcntl.F_GETFL) | os.O_APPEND)
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=errors,
            stderr=errors,
            pass_fds=fds,
            env={**env, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            process_group=0,  # Ctrl-C is for the engine, which tells its workers
        )
    except OSError:
        errors.close()
        raise
    return _Started(process, errors)


class Spares:
    """A process of ``module`` that has started and imported what takes long, and waits to be told who it is.

    A replica that is wanted at once is there in the time that its network takes to load. A spare holds no core: its
    imports have the least priority there is. That is not enough for whoever is woken on the same core: what loads a
    library is in the kernel for milliseconds, where nobody takes its place. Hence `hold`. ``fd`` is that of the shared
    picture memory. Used by one thread.
    """

    def __init__(self, module: str, fd: int, env: Env) -> None:
        self.module = module
        self._fd = fd
        self._env = env
        self._spare: _Started | None = None
        self._told = -1  # becomes readable when the spare has prepared; closed then
        self._held = False

    @property
    def prepared(self) -> bool:
        """Whether there is one that has nothing more to do."""
        if not self._alive():
            return False
        if self._told >= 0:
            try:
                os.eventfd_read(self._told)
            except BlockingIOError:
                return False
            self._listen(-1)
        return True

    def fill(self) -> None:
        """Start one where there is none. That none can be started is no error: the next replica will say so."""
        if self._alive():
            return
        told = -1
        try:
            told = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._spare = _start(_SPARE, (self._fd, told), self._env, self.module, str(told))
        except OSError:
            if told >= 0:
                os.close(told)
            return
        self._listen(told)

    def hold(self) -> None:
        """Have it stop preparing, wherever it is, until `go_on`."""
        if not self._held and not self.prepared and self._spare is not None:
            self._spare.process.send_signal(signal.SIGSTOP)
            self._held = True

    def go_on(self) -> None:
        """Have it prepare again."""
        if self._held and self._spare is not None:
            self._spare.process.send_signal(signal.SIGCONT)
        self._held = False

    def take(self) -> _Started | None:
        """The spare, which is the caller's from now on; None where there is none."""
        if not self._alive():
            return None
        self.go_on()
        spare, self._spare = self._spare, None
        self._listen(-1)
        return spare

    def close(self) -> None:
        """End it."""
        spare, self._spare = self._spare, None
        self._held = False
        self._listen(-1)
        if spare is not None:
            spare.process.kill()
            spare.process.wait()
            assert spare.process.stdin is not None
            spare.process.stdin.close()
            spare.errors.close()

    def _listen(self, told: int) -> None:
        """To this one from now on, -1 none."""
        if self._told >= 0:
            os.close(self._told)
        self._told = told

    def _alive(self) -> bool:
        """Whether there is one; one that has ended by itself is cleared away."""
        if self._spare is not None and self._spare.process.poll() is not None:
            self.close()
        return self._spare is not None


@dataclass(slots=True)
class ProcessWorker:
    """One process, from the engine's side. ``boot`` lacks only the address, which `start` is given."""

    name: str
    boot: ProcessBoot
    env: Env
    spares: Spares | None = None
    _process: subprocess.Popen[bytes] | None = None
    _errors: Any = None
    _pidfd: int = -1

    @property
    def identity(self) -> str:
        """Its name on the socket."""
        return self.boot.identity

    @property
    def token(self) -> str:
        """What it proves itself with."""
        return self.boot.token

    @property
    def pid(self) -> int | None:
        """Its process id; None before the start and after the end."""
        return None if self._process is None else self._process.pid

    def start(self, address: str) -> int:
        """Start it, once; gives a descriptor that becomes readable when it has ended.

        Raises LlamapipeError where it cannot be started: nothing of it is left then.
        """
        if self._process is not None:
            return self._pidfd
        boot = msgspec.structs.replace(self.boot, address=address)
        try:
            started = self.spares.take() if self.spares is not None else None
            if started is None:
                with _started_on(boot.cores):  # on its way up it would be in the way of those on others
                    started = _start(boot.module, (boot.fd,), self.env)
            else:
                _move(started.process.pid, boot.cores)
            self._process, self._errors = started.process, started.errors
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError as error:
            self.kill()
            self.reap()
            raise LlamapipeError(f"worker {self.name} cannot be started: {error.strerror or error}") from error
        data = msgspec.msgpack.encode(boot)
        self._tell(len(data).to_bytes(_SIZE_BYTES, "little") + data)
        return self._pidfd

    def _tell(self, data: bytes) -> None:
        """Write to its input without waiting for it to read: until it does, it has a lot to import."""
        assert self._process is not None
        stream = self._process.stdin
        assert stream is not None
        os.set_blocking(stream.fileno(), False)
        try:
            written = os.write(stream.fileno(), data)
        except BlockingIOError:
            written = 0
        except BrokenPipeError:  # it has ended already: the descriptor says so
            return
        os.set_blocking(stream.fileno(), True)
        if written < len(data):
            name = f"llamapipe boot {self.name}"
            threading.Thread(target=_write_all, args=(stream, data[written:]), name=name, daemon=True).start()

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs any more."""
        return self._process is None or self._process.poll() is not None

    def kill(self) -> None:
        """End it now, whatever it is doing."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def reap(self, *, wait_s: float = _END_S) -> str:
        """Wait for its end, force it after ``wait_s``, and say what it was."""
        process = self._process
        if process is None:
            return "never started"
        try:
            code = process.wait(wait_s)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if process.stdin is not None:
            with contextlib.suppress(OSError):  # what it was to be told and did not read
                process.stdin.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        tail = self._tail()
        self._process = None
        if code < 0:
            return f"process was killed by {_signal_name(-code)}"
        return f"process ended with exit code {code}" + (f": {tail}" if tail else "")

    def _tail(self) -> str:
        """Last line that it wrote."""
        if self._errors is None:
            return ""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _TAIL_BYTES))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        self._errors.close()
        self._errors = None
        return lines[-1].strip() if lines else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one of those for real time
        return f"signal {number}"


def _write_all(stream: IO[bytes], data: bytes) -> None:
    with contextlib.suppress(OSError, ValueError):  # it has ended, or its input was closed with it
        stream.write(data)
        stream.flush()


_BootT = TypeVar("_BootT", bound=ProcessBoot)


def read_boot(kind: type[_BootT]) -> _BootT:
    """The message on standard input. Raises LlamapipeError where it is none of this version."""
    stream = sys.stdin.buffer
    head = stream.read(_SIZE_BYTES)
    if not head:  # the engine has ended before it had a use for this process
        os._exit(0)
    size = int.from_bytes(head, "little")
    boot = msgspec.msgpack.decode(stream.read(size), type=kind)
    if boot.protocol != PROTOCOL:
        raise LlamapipeError(f"worker speaks protocol {PROTOCOL}, its engine {boot.protocol}")
    return boot


def begin_process(boot: ProcessBoot) -> zmq.Context[Any]:
    """What every new process does first: keep to its cores, let its heart be heard, leave Ctrl-C to the engine."""
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    collect_briefly()
    if boot.cores:
        os.sched_setaffinity(0, boot.cores)
    context: zmq.Context[Any] = zmq.Context()
    threading.Thread(target=_pulse, args=(context, boot), name="llamapipe pulse", daemon=True).start()
    import cv2

    cv2.setNumThreads(1)
    return context


def serve_process(boot: Boot, make_setups: Callable[[], Mapping[str, StageSetup]], clock: Clock) -> None:
    """Be a worker until told to stop, or until the engine is gone."""
    context = begin_process(boot)
    arena = LentArena(boot.fd, boot.slot_bytes)
    Worker(
        boot.name,
        identity=boot.identity,
        setups=make_setups(),
        streams={name: StreamFacts(*facts) for name, facts in boot.streams.items()},
        arena=arena,
        clock=clock,
        token=boot.token,
        lent=arena.lent,
    ).serve(context, boot.address)


def _pulse(context: zmq.Context[Any], boot: ProcessBoot) -> None:
    socket = dealer(context, f"{boot.identity}/pulse", boot.address)
    message = encode(Pulse(boot.identity))
    stdin = sys.stdin.fileno()
    while True:
        socket.send(message)
        _keep_short(_STDERR)
        if select.select([stdin], [], [], PULSE_S)[0] and not os.read(stdin, 1):
            os._exit(1)  # the engine is gone, and with it everybody who could take an answer


def _keep_short(fd: int) -> None:
    """Let go of what was written long ago, where it goes to a file without a name, as `_start` makes it."""
    with contextlib.suppress(OSError):
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink or found.st_size <= _MOST_OUTPUT_BYTES:
            return
        kept = os.pread(fd, _KEPT_OUTPUT_BYTES, found.st_size - _KEPT_OUTPUT_BYTES)
        os.ftruncate(fd, 0)
        os.write(fd, kept)


def boot_streams(streams: Mapping[str, StreamFacts]) -> dict[str, tuple[int, int, float]]:
    """Facts of streams as plain data."""
    return {name: (facts.width, facts.height, facts.fps) for name, facts in streams.items()}


def stages_of(stages: Sequence[StagePlan], kind: str) -> tuple[StagePlan, ...]:
    """Stages that workers of a kind serve."""
    return tuple(stage for stage in stages if stage.placement == kind)

"""Cameras that tests switch on and off: MPEG-TS over HTTP, in real time, at an address that stays."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path

import av


class TsServer:
    """Serves a clip as it would be filmed. ``keeps_clock``: whoever comes later sees what is filmed by then.

    Otherwise every connection begins with the first picture, like a camera that was restarted.
    """

    def __init__(self, clip: Path, *, keeps_clock: bool = False) -> None:
        self._data = clip.read_bytes()
        with av.open(str(clip)) as container:
            video = container.streams.video[0]
            packets = [packet for packet in container.demux(video) if packet.dts is not None]
            self._at = [0, *(packet.pos for packet in packets[1:])]  # the first comes with what precedes it
            self._time_s = [float((packet.dts - packets[0].dts) * packet.time_base) for packet in packets]
        self._began_s = time.monotonic()
        self._keeps_clock = keeps_clock
        self.sends = threading.Event()  # cleared: connections stay open and nothing comes
        self.sends.set()
        self.num_connections = 0
        self._port = 0
        self._run = threading.Event()
        self._threads: list[threading.Thread] = []
        self.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}/cam.ts"

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._listener.settimeout(0.02)
        self._port = self._listener.getsockname()[1]
        self._run = threading.Event()
        self._spawn(self._accept, self._listener, self._run)

    def stop(self) -> None:
        """Gone: connections are cut, new ones are refused."""
        self._run.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _spawn(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket, over: threading.Event) -> None:
        with listener:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, _ = listener.accept()
                    self.num_connections += 1
                    self._spawn(self._serve, connection, over)

    def _serve(self, connection: socket.socket, over: threading.Event) -> None:
        began_s = self._began_s if self._keeps_clock else time.monotonic()
        first = 0
        if self._keeps_clock:
            first = next(i for i, at_s in enumerate(self._time_s) if at_s >= time.monotonic() - began_s)
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
            for i in range(first, len(self._at) - 1):
                while not over.is_set() and (not self.sends.is_set() or time.monotonic() < began_s + self._time_s[i]):
                    time.sleep(0.005)
                if over.is_set():
                    return
                connection.sendall(self._data[self._at[i] : self._at[i + 1]])


class Silent:
    """A server that takes connections and never says a word."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}/cam.ts"
        self._connection: socket.socket | None = None

    def accept(self) -> None:
        """Wait until somebody has connected."""
        self._connection, _ = self._listener.accept()

    def stop(self) -> None:
        self._listener.close()
        if self._connection is not None:
            self._connection.close()

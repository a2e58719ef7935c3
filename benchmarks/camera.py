"""The other ends of a run's connections, to be switched off and on: a camera, and somebody who takes results."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import av
import numpy as np

_FPS = 25
_LENGTH_S = 60


class Camera:
    """MPEG-TS over HTTP in real time, at an address that stays. Makes the clip that it shows where it is not there."""

    def __init__(self, clip: Path) -> None:
        if not clip.exists():
            _film(clip)
        self._data = clip.read_bytes()
        self._port = 0
        self._over = threading.Event()
        self._client = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}/cam.ts"

    def __enter__(self) -> Camera:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        listener = socket.create_server(("127.0.0.1", self._port))
        listener.settimeout(0.02)
        self._port = listener.getsockname()[1]
        self._over, self._client = threading.Event(), threading.Event()
        self._spawn(self._accept, listener, self._over)

    def stop(self) -> None:
        """Gone: connections are cut, new ones are refused."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def wait_for_client(self, timeout_s: float) -> None:
        """Until somebody has connected since the start."""
        self._client.wait(timeout_s)

    def _spawn(self, work: Any, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket, over: threading.Event) -> None:
        with listener:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    self._spawn(self._serve, listener.accept()[0], over)
                    self._client.set()

    def _serve(self, connection: socket.socket, over: threading.Event) -> None:
        began_s, sent = time.monotonic(), 0
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
            while not over.is_set() and sent < len(self._data):
                due = int((time.monotonic() - began_s + 0.5) / _LENGTH_S * len(self._data)) // 188 * 188
                connection.sendall(self._data[sent:due])
                sent = max(sent, due)
                time.sleep(0.01)


def _film(clip: Path) -> None:
    """A minute of moving noise, a keyframe every half second."""
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 255, (240, 960, 3), np.uint8)
    with av.open(str(clip), "w", format="mpegts") as container:
        video = container.add_stream("libx264", _FPS, options={"preset": "ultrafast", "g": "12", "bf": "0"})
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        for i in range(_FPS * _LENGTH_S):
            picture = np.ascontiguousarray(scene[:, i % 640 : i % 640 + 320])
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(video.encode(None))


class SlowEndpoint:
    """Takes what a webhook posts; after every ``each`` posts it pauses, ``most`` times."""

    def __init__(self, each: int, pause_s: float, most: int) -> None:
        self.frames: list[int] = []  # received, outcomes of lost ones left out
        self.pauses = 0
        self.recovery_s: list[float] = []
        self._since = 0
        self._paused_s: float | None = None
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                lines = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint._take(lines, each, pause_s, most)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Keep the output clean."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/"

    def _take(self, lines: list[dict[str, Any]], each: int, pause_s: float, most: int) -> None:
        if self._paused_s is not None:
            self.recovery_s.append(time.monotonic() - self._paused_s)
            self._paused_s = None
        self.frames += [line["frame"] for line in lines if "outcome" not in line]
        self._since += 1
        if self._since >= each and self.pauses < most:
            self._since = 0
            self.pauses += 1
            time.sleep(pause_s)
            self._paused_s = time.monotonic()

    def __enter__(self) -> SlowEndpoint:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

"""Sources elsewhere: files over HTTP, servers that say nothing, addresses with passwords."""

from __future__ import annotations

import collections
import contextlib
import functools
import http.server
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamapipe.errors import SourceError, SourceLostError
from llamapipe.media import Decoded, Undecodable
from tests.media.sinks.clips import make_clip
from tests.media.sources.reading import opened, times
from tests.processes import wait_until


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def served(clip: Path) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(clip.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_file_over_http_reads_like_a_file(served: str) -> None:
    source = opened(f"{served}/clip.mp4", "url")
    assert not source.info.live
    assert source.info.num_frames == 40
    assert times(list(source)) == [512 * i for i in range(40)]


def test_loops_work_over_http(served: str) -> None:
    assert len(list(opened(f"{served}/clip.mp4", "url", loop=2, end_s=0.5))) == 20


def test_what_the_server_lacks_is_refused_without_its_password(served: str) -> None:
    address = served.replace("://", "://me:hunter2@") + "/gone.mp4?token=hunter2"
    with pytest.raises(SourceError, match="cannot be opened") as caught:
        opened(address, "url")
    assert "hunter2" not in str(caught.value)


class _Stalling:
    """A server that sends a stream, then nothing until it is told to hang up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.hang_up = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with self._listener:
            connection, _ = self._listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(self._data)
            self.hang_up.wait(20)

    def end(self) -> None:
        self.hang_up.set()
        self._thread.join()


@pytest.fixture
def stalling(tmp_path: Path) -> Iterator[_Stalling]:
    """12 s of stream: more than is read to learn its format."""
    path = make_clip(tmp_path / "live.ts", times=range(240), size=(64, 48))
    server = _Stalling(path.read_bytes())
    yield server
    server.end()


def test_a_live_stream_that_goes_away_is_lost_after_its_pictures(stalling: _Stalling) -> None:
    stalling.hang_up.set()
    source = opened(stalling.address, "url")
    items: list[Decoded | Undecodable] = []
    assert source.info.live
    assert source.info.num_frames is None
    with pytest.raises(SourceLostError, match="has ended"):
        collections.deque(map(items.append, source), maxlen=0)
    assert len(times(items)) == 240
    assert all(isinstance(item, Decoded) and item.captured_at_s is not None for item in items)


def test_closing_ends_a_read_that_waits_for_the_network(stalling: _Stalling) -> None:
    source = opened(stalling.address, "url")
    items: list[Decoded | Undecodable] = []
    reader = threading.Thread(target=lambda: items.extend(source), daemon=True)
    reader.start()
    wait_until(lambda: len(items) > 200, alive=reader.is_alive)
    time.sleep(0.3)  # by then the rest is read as well, most probably, and the next read waits
    assert reader.is_alive()
    began = time.monotonic()
    source.close()
    reader.join(15)
    assert not reader.is_alive()
    assert time.monotonic() - began < 10  # the server would hang up after 20
    assert not stalling.hang_up.is_set()
    assert len(items) > 200

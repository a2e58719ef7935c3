"""Posting to an endpoint."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from llamapipe.errors import OutputError, UsageError
from llamapipe.media.contract import Outcome, Sink
from tests.media.sinks.clips import boxes, item, open_sink

BOXES = "$ops.detect.boxes"


class Endpoint(ThreadingHTTPServer):
    """Answers with ``statuses`` in turn, then 200; keeps what it got."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses: list[int] = []
        self.requests: list[tuple[dict[str, str], Any]] = []
        self.release = threading.Event()
        self.release.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.release.wait(10)
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        if status < 300:
            self.server.requests.append((dict(self.headers), json.loads(body)))
        self.send_response(status)
        if status in (301, 302):
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


def hook(url: str, **params: Any) -> Sink:
    return open_sink("webhook", None, [BOXES], params={"url": url, "backoff_s": 0.01, **params})


def test_every_line_arrives_once_and_in_order(endpoint: Endpoint) -> None:
    sink = hook(endpoint.url, batch=4)
    for seq in range(30):
        sink.write(item(seq, {BOXES: boxes((1, 2, 3, 4))}))
    assert sink.close() == []
    lines = [line for _, batch in endpoint.requests for line in batch]
    assert [line["frame"] for line in lines] == list(range(30))
    assert lines[0]["items"] == [{"box": [1.0, 2.0, 3.0, 4.0], "label": "person", "score": 0.8765}]
    assert max(len(batch) for _, batch in endpoint.requests) <= 4
    assert endpoint.requests[0][0]["Content-Type"] == "application/json"


def test_what_says_that_frames_are_missing_takes_no_request_of_its_own(endpoint: Endpoint) -> None:
    """Else an endpoint that is too slow for the frames would be kept busy by those that were dropped because of it."""
    sink = hook(endpoint.url, batch=1)
    endpoint.release.clear()
    sink.write(item(0, {BOXES: boxes()}))
    for seq in range(1, 100):
        sink.write(item(seq, outcome=Outcome.DROPPED, reason="overload"))
    sink.write(item(100, {BOXES: boxes()}))
    endpoint.release.set()
    sink.close()
    assert [line["frame"] for _, batch in endpoint.requests for line in batch] == list(range(101))
    assert len(endpoint.requests) <= 3


def test_an_overloaded_endpoint_is_asked_again(endpoint: Endpoint) -> None:
    endpoint.statuses = [503, 429]
    sink = hook(endpoint.url)
    sink.write(item(0, {BOXES: boxes()}))
    sink.close()
    assert len(endpoint.requests) == 1


def test_an_endpoint_that_stays_down_fails_the_sink(endpoint: Endpoint) -> None:
    endpoint.statuses = [500] * 3
    sink = hook(endpoint.url, retries=2)
    sink.write(item(0, {BOXES: boxes()}))
    with pytest.raises(OutputError, match=r"/…: answered 500 .* after 3 tries"):
        sink.close()
    sink.abort()


@pytest.mark.parametrize("status", [404, 302])
def test_a_refusal_is_not_repeated(endpoint: Endpoint, status: int) -> None:
    endpoint.statuses = [status]
    sink = hook(endpoint.url)
    sink.write(item(0, {BOXES: boxes()}))
    with pytest.raises(OutputError, match=f"answered {status}"):
        sink.close()
    assert endpoint.requests == []


def test_nobody_listening_fails_the_next_write_and_hides_credentials(endpoint: Endpoint) -> None:
    port = endpoint.server_address[1]
    endpoint.server_close()
    sink = hook(f"http://me:s3cret@127.0.0.1:{port}/x/h00k?token=t0ken", retries=0, batch=1)
    with pytest.raises(OutputError, match=f"webhook http://127.0.0.1:{port}/") as caught:  # noqa: PT012
        for seq in range(1000):
            sink.write(item(seq, {BOXES: boxes()}))
    assert "s3cret" not in str(caught.value)
    assert "t0ken" not in str(caught.value)
    assert "h00k" not in str(caught.value)
    sink.abort()


def test_a_login_in_the_url_becomes_a_header(endpoint: Endpoint) -> None:
    sink = hook(endpoint.url.replace("//", "//me:p%40ss@"), headers={"X-Site": "north"})
    sink.write(item(0, {BOXES: boxes()}))
    sink.close()
    headers = endpoint.requests[0][0]
    assert headers["Authorization"] == f"Basic {base64.b64encode(b'me:p@ss').decode()}"
    assert headers["X-Site"] == "north"


def test_abort_does_not_wait_for_what_is_queued(endpoint: Endpoint) -> None:
    endpoint.release.clear()
    sink = hook(endpoint.url, batch=1, timeout_s=0.2)
    for seq in range(8):
        sink.write(item(seq, {BOXES: boxes()}))
    sink.abort()
    assert endpoint.requests == []


@pytest.mark.parametrize("url", ["ftp://example.org/x", "example.org", "http://", "http://host:port/x"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="expected http"):
        hook(url)


def test_what_is_no_web_server_is_said_and_nobody_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        threading.Thread(target=greet, daemon=True).start()
        sink = hook(f"http://127.0.0.1:{server.getsockname()[1]}/x", retries=1, batch=1)
        sink.write(item(0, {BOXES: boxes((1, 2, 3, 4))}))
        with pytest.raises(OutputError, match=r"what answers is no web server .* after 2 tries"):
            sink.close()


def test_a_blank_in_the_address_is_refused() -> None:
    with pytest.raises(UsageError, match="expected no blanks"):
        hook("http://host/my hook")

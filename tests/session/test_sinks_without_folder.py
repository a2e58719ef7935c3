"""Sinks that write no file are there without an output folder, and secrets of theirs are in no file."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import llamapipe
from llamapipe.control import read_log
from llamapipe.session import RunRequest, TuneRequest, run, tune
from llamapipe.spec import OpSpec, PipelineSpec, SinkSpec

Got = list[tuple[str, list[Any]]]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Got]]:
    """Its host and port, and what it was sent: the login, and the lines."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    got: Got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.headers["Authorization"], json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}", got
    server.shutdown()
    thread.join()
    server.server_close()


def pipeline(place: str) -> PipelineSpec:
    op = OpSpec(name="stage", type="test/level@v1", inputs={"frames": ("$source.frames",)})
    params = {"url": f"http://me:hunter2@{place}/x", "headers": {"X-Token": "hunter3"}}
    hook = SinkSpec(name="hook", type="llamapipe/webhook@v1", inputs=("$ops.stage.events",), params=params)
    return PipelineSpec(name="hook", ops=(op,), sinks=(hook,))


def test_a_webhook_of_the_pipeline_is_told_without_a_folder(
    endpoint: tuple[str, Got], clip: Path, operators: Path
) -> None:
    place, got = endpoint
    summary = run(RunRequest(pipeline(place), [str(clip)], ops_files=[operators]))
    assert summary.outcome == "done"
    assert sum(len(lines) for _, lines in got) == summary.frames.delivered
    got.clear()
    results = list(llamapipe.run(pipeline(place), clip, ops_files=[operators]))
    assert sum(len(lines) for _, lines in got) == len(results) == summary.frames.delivered


def test_trials_tell_nobody(endpoint: tuple[str, Got], clip: Path, operators: Path, tmp_path: Path) -> None:
    place, got = endpoint
    request = TuneRequest(pipeline(place), str(clip), ops_files=[operators], budget_s=60)  # type: ignore[arg-type]
    assert tune(request, env={"LLAMAPIPE_CACHE": str(tmp_path)}).tuning.tried
    assert got == []


def test_no_secret_of_a_sink_is_in_any_file_of_a_run(
    endpoint: tuple[str, Got], clip: Path, operators: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(RunRequest(pipeline(endpoint[0]), [str(clip)], output=out, ops_files=[operators], record_events=True))
    for file in (path for path in out.rglob("*") if path.is_file()):
        assert b"hunter" not in file.read_bytes(), file
    plan, entries = read_log((out / "events.jsonl").read_bytes().splitlines())
    assert plan.sinks[0].params == {}
    assert list(entries)

"""Posts each frame's lines to an HTTP endpoint."""

from __future__ import annotations

import base64
import http.client
import queue
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from llamapipe.errors import OutputError
from llamapipe.media.contract import SinkContext, SinkItem
from llamapipe.media.sinks.kinds import shown_url
from llamapipe.media.sinks.lines import Line, Lines, Missing

__all__ = ["WebhookSink"]

_QUEUED_BATCHES = 8  # may wait for a slow endpoint before write() blocks
_LOOK_S = 0.01  # how soon it is noticed that all has been sent
_AGAIN = frozenset({408, 425, 429})  # statuses below 500 that a later try may mend


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without its body: let it be an error instead."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


class _Refused(Exception):
    """The endpoint said no; ``final``: asking again would not help."""

    def __init__(self, reason: str, final: bool) -> None:
        super().__init__(reason)
        self.final = final


class WebhookSink:
    """POSTs JSON arrays of the objects that the jsonl sink writes.

    A thread sends what has come up to ``batch`` lines at a time, so that the pipeline waits for a slow endpoint
    only once some batches are queued. Lines that say that a frame is missing count in neither: they go with what is
    sent next, lest frames dropped because an endpoint is slow be what keeps it busy. A batch that fails is sent again
    ``retries`` times, after ``backoff_s`` and then twice as long each time; then the sink fails. An endpoint may see
    a batch twice: when its answer got lost, or when the run was killed and taken up again. Each request has a header
    ``Idempotency-Key`` that is the same whenever one process sends the same batch.
    """

    def __init__(self, context: SinkContext, params: Mapping[str, Any], default_path: str) -> None:
        parts = urllib.parse.urlsplit(params["url"])
        netloc = parts.netloc.rpartition("@")[2]
        self._shown = shown_url(params["url"])
        self._url = urllib.parse.urlunsplit(parts._replace(netloc=netloc, fragment=""))
        self._headers = {"Content-Type": "application/json", **{k: str(v) for k, v in params["headers"].items()}}
        if parts.username is not None:
            login = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            self._headers.setdefault("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
        self._lines = Lines(context.inputs, empty=params["empty"])
        self._batch: int = params["batch"]
        self._timeout_s: float = params["timeout_s"]
        self._retries: int = params["retries"]
        self._backoff_s: float = params["backoff_s"]
        self._key = f"{context.info.name}-{id(self):x}"
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._queue: queue.Queue[Line | Missing | None] = queue.Queue()
        self._room = threading.Semaphore(self._batch * _QUEUED_BATCHES)  # for lines with results
        self._stop = threading.Event()
        self._error: OutputError | None = None
        self._thread = threading.Thread(target=self._serve, name=f"webhook:{context.info.name}", daemon=True)
        self._thread.start()

    def write(self, item: SinkItem) -> None:
        """See `Sink.write`. An endpoint that failed shows at the next call."""
        for line in self._lines(item):
            self._put(line)

    def _put(self, line: Line | Missing | None) -> None:
        while not self._stop.is_set():
            if self._error is not None:
                raise self._error
            # Looks at the error again while there is no room.
            if line is None or isinstance(line, Missing) or self._room.acquire(timeout=0.1):
                self._queue.put(line)
                return

    def mark(self) -> Any:
        """Wait until everything so far has been sent: who goes on sends nothing of it again. See `Sink.mark`."""
        while self._queue.unfinished_tasks:
            if self._error is not None:
                raise self._error
            self._stop.wait(_LOOK_S)
        return None

    def close(self) -> Sequence[Path]:
        """Wait until everything has been sent. Raises OutputError where something could not."""
        if self._thread.is_alive():
            self._put(None)
            self._thread.join()
        if self._error is not None:
            raise self._error
        return []

    def abort(self) -> None:
        """See `Sink.abort`: what waits is not sent."""
        self._stop.set()
        with self._queue.mutex:
            self._queue.queue.clear()
        self._queue.put(None)
        self._thread.join(self._timeout_s)

    def _serve(self) -> None:
        number = 0
        ended = False
        try:
            while not ended:
                batch: list[Line | Missing] = []
                room = self._batch
                line = self._queue.get()
                while True:
                    if line is None:
                        ended = True
                        break
                    batch.append(line)
                    room -= not isinstance(line, Missing)
                    if not room:
                        break
                    try:
                        line = self._queue.get_nowait()
                    except queue.Empty:
                        break
                if self._stop.is_set():
                    return
                if batch:
                    self._deliver(msgspec.json.encode(batch), f"{self._key}-{number}")
                    number += 1
                for sent in batch:
                    self._queue.task_done()
                    if not isinstance(sent, Missing):
                        self._room.release()
        except OutputError as error:
            self._error = error
        except Exception as error:  # or the run would wait for ever for what nobody sends; its text may hold the url
            self._error = OutputError(f"webhook {self._shown}: {type(error).__name__}", hint="is the url right?")

    def _deliver(self, body: bytes, key: str) -> None:
        tries = self._retries + 1
        for attempt in range(tries):
            try:
                return self._post(body, key)
            except _Refused as error:
                if self._stop.is_set():
                    return None
                if error.final or attempt + 1 == tries:
                    times = f" after {attempt + 1} tries" if attempt else ""
                    raise OutputError(
                        f"webhook {self._shown}: {error}{times}", hint="is the endpoint up, and the url right?"
                    ) from None
                self._stop.wait(self._backoff_s * 2**attempt)
        return None

    def _post(self, body: bytes, key: str) -> None:
        request = urllib.request.Request(self._url, body, {**self._headers, "Idempotency-Key": key}, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                response.read()
        except urllib.error.HTTPError as error:
            with error:
                status = error.code
            final = status < 500 and status not in _AGAIN
            raise _Refused(f"answered {status} {error.reason}".rstrip(), final) from error
        except urllib.error.URLError as error:
            raise _Refused(str(getattr(error.reason, "strerror", None) or error.reason), False) from error
        except TimeoutError as error:
            raise _Refused(f"no answer in {self._timeout_s:g} s", False) from error
        except http.client.HTTPException as error:
            final = isinstance(error, http.client.InvalidURL)
            what = "its url cannot be" if final else f"what answers is no web server ({type(error).__name__})"
            raise _Refused(what, final) from error
        except (OSError, ValueError) as error:  # ValueError: what http.client says of a broken answer or header
            raise _Refused(str(error) or type(error).__name__, isinstance(error, ValueError)) from error

"""Cameras that tests switch on and off: MPEG-TS over HTTP and RTSP, in real time, at an address that stays."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av


class Camera:
    """Serves a clip as it would be filmed. ``keeps_clock``: whoever comes later sees what is filmed by then.

    Otherwise every connection begins with the first picture, like a camera that was restarted.
    """

    scheme = ""

    def __init__(self, clip: Path, *, keeps_clock: bool = False, repeats: bool = False) -> None:
        self._data = clip.read_bytes()
        with av.open(str(clip)) as container:
            video = container.streams.video[0]
            self._packets = [packet for packet in container.demux(video) if packet.dts is not None]
            first = self._packets[0].dts
            self._time_s = [float((packet.dts - first) * packet.time_base) for packet in self._packets]
        self._began_s = time.monotonic()
        self._keeps_clock = keeps_clock
        self._repeats = repeats  # at the end it begins anew, and so do its times
        self.sends = threading.Event()  # cleared: connections stay open and nothing comes
        self.sends.set()
        self.num_connections = 0
        self.sends_at_first = len(self._packets)  # of the clip's pictures, until it is switched off for the first time
        self.num_sent = 0  # pictures, over all connections
        self._port = 0
        self._run = threading.Event()
        self._threads: list[threading.Thread] = []
        self.start()

    @property
    def address(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self._port}/cam.ts"

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._listener.settimeout(0.02)
        self._port = self._listener.getsockname()[1]
        self._run = threading.Event()
        self._spawn(self._accept, self._listener, self._run)

    def stop(self) -> None:
        """Gone: connections are cut, new ones are refused."""
        self.sends_at_first = len(self._packets)
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
        connection.settimeout(5)
        with connection, contextlib.suppress(OSError):
            self._greet(connection)
            for i in self._due(over):
                connection.sendall(self._part(i))
                self.num_sent += 1

    def _due(self, over: threading.Event) -> Iterator[int]:
        """Numbers of packets, each when it is filmed."""
        began_s = self._began_s if self._keeps_clock else time.monotonic()
        now_s = time.monotonic() - began_s if self._keeps_clock else 0.0
        first = next(i for i, at_s in enumerate(self._time_s) if at_s >= now_s)
        numbers = range(first, len(self._packets) - 1)
        for i in itertools.cycle(numbers) if self._repeats else numbers:
            if i == 0:
                began_s = max(began_s, time.monotonic())
            while not over.is_set() and not (
                self.sends.is_set() and i < self.sends_at_first and time.monotonic() >= began_s + self._time_s[i]
            ):
                time.sleep(0.005)
            if over.is_set():
                return
            yield i

    def _greet(self, connection: socket.socket) -> None:
        raise NotImplementedError

    def _part(self, number: int) -> bytes:
        raise NotImplementedError


class TsServer(Camera):
    """MPEG-TS over HTTP. The clip is such a stream."""

    scheme = "http"

    def _greet(self, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")

    def _part(self, number: int) -> bytes:
        begin = self._packets[number].pos if number else 0  # the first comes with what precedes it
        return self._data[begin : self._packets[number + 1].pos]


class RtspServer(Camera):
    """H.264 as RTP inside of the RTSP connection (RFC 2326, RFC 6184). The clip is an MPEG-TS."""

    scheme = "rtsp"
    _SDP = (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=cam\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
        "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track\r\n"
    )
    _PIECE = 1200  # bytes of a picture in one RTP packet

    def __init__(self, clip: Path) -> None:
        self._sequence = itertools.count()
        super().__init__(clip)

    def _greet(self, connection: socket.socket) -> None:
        """Answer until PLAY."""
        asked = ""
        while True:
            while "\r\n\r\n" not in asked:
                data = connection.recv(4096)
                if not data:
                    raise ConnectionError
                asked += data.decode()
            request, asked = asked.split("\r\n\r\n", 1)
            method = request.split(" ", 1)[0]
            number = re.search(r"CSeq: *(\d+)", request)
            answer = f"RTSP/1.0 200 OK\r\nCSeq: {number.group(1) if number else 0}\r\n"
            body = ""
            if method == "OPTIONS":
                answer += "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
            elif method == "DESCRIBE":
                body = self._SDP
                answer += f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
            elif method in ("SETUP", "PLAY"):
                answer += "Session: 1\r\n"
                if method == "SETUP":
                    answer += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            connection.sendall(f"{answer}\r\n{body}".encode())
            if method == "PLAY":
                return

    def _part(self, number: int) -> bytes:
        packet = self._packets[number]
        ticks = packet.pts - self._packets[0].dts
        payloads = [piece for nal in re.split(rb"\x00?\x00\x00\x01", bytes(packet))[1:] for piece in self._pieces(nal)]
        sent = b""
        for i, payload in enumerate(payloads):
            mark = 0x80 if i == len(payloads) - 1 else 0
            header = struct.pack("!BBHII", 0x80, mark | 96, next(self._sequence) & 0xFFFF, ticks & 0xFFFFFFFF, 1)
            sent += struct.pack("!cBH", b"$", 0, len(header) + len(payload)) + header + payload
        return sent

    def _pieces(self, nal: bytes) -> list[bytes]:
        if len(nal) <= self._PIECE:
            return [nal]
        kind, body = nal[0] & 0x1F, nal[1:]
        cuts = range(0, len(body), self._PIECE)
        pieces: list[bytes] = []
        for cut in cuts:
            edge = (0x80 if cut == 0 else 0) | (0x40 if cut == cuts[-1] else 0)
            pieces.append(bytes([nal[0] & 0xE0 | 28, edge | kind]) + body[cut : cut + self._PIECE])
        return pieces


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

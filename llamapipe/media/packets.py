"""Packets of sources that can block: read ahead by a thread, so that closing never waits for the network."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av
    import av.container
    import av.video.stream

__all__ = ["PacketPump"]

_AHEAD = 64  # packets; a full queue leaves the rest to the sender's own flow control
_LOOK_S = 0.05  # how soon either side notices that the source was closed


class PacketPump:
    """Reads packets of one stream. It owns ``container`` and closes it once no read is under way.

    A blocked read cannot be interrupted from outside: the thread stays behind until the read times out, nobody
    waits for it, and only it may free what the read uses.
    """

    def __init__(self, container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> None:
        self._container = container
        self._stream = stream
        self._queue: queue.Queue[Any] = queue.Queue(_AHEAD)  # packets, then the error that ended them or None
        self._stopped = threading.Event()
        threading.Thread(target=self._read, name="packets", daemon=True).start()

    def __iter__(self) -> Iterator[av.Packet[Any]]:
        """Packets until the end or until `stop`. Raises what reading raised."""
        while not self._stopped.is_set():
            try:
                item = self._queue.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def stop(self) -> None:
        """Ends the iteration, from any thread. Returns at once."""
        self._stopped.set()

    def _read(self) -> None:
        ending: BaseException | None = None
        try:
            for packet in self._container.demux(self._stream):
                if not self._put(packet):
                    break
        except Exception as error:  # raised again where the packets are taken
            ending = error
        self._put(ending)
        self._stopped.wait()  # the taker may still be decoding: the decoder belongs to the container
        self._container.close()

    def _put(self, item: Any) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=_LOOK_S)
                return True
            except queue.Full:
                continue
        return False

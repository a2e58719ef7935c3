"""The best program known for the job: PyAV with frame threads, three workers that share one session of one thread

each, tensors made once, results written in order by a bounded queue. With ``--video`` it also draws the boxes, straight
into the planes of the decoder's picture, and encodes them as H.264.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import resource
import threading
import time
import traceback
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from benchmarks.handwritten.yolox import SIZE, detect, letterbox, line, session

WORKERS = 3
_GREEN = (150, 44, 21)  # Y, U, V


def frames_of(video: Path, loop: int, end_s: float) -> Iterator[av.VideoFrame]:
    """Every picture of the video before ``end_s``, so many times."""
    for _ in range(loop):
        with av.open(str(video)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "FRAME"
            stream.codec_context.thread_count = 2
            yield from takewhile(lambda frame: frame.time < end_s, container.decode(stream))


class Video:
    """An H.264 file with the boxes drawn in, encoded as llamapipe does it by default."""

    def __init__(self, path: Path, first: av.VideoFrame, rate: Any, options: dict[str, str]) -> None:
        self.container = av.open(str(path), "w")
        self.stream = self.container.add_stream("libx264", rate=rate, options=options)
        self.stream.width, self.stream.height, self.stream.pix_fmt = first.width, first.height, "yuv420p"
        self.number, self.time_base = 0, 1 / rate

    def write(self, frame: av.VideoFrame, boxes: list[list[float]]) -> None:
        picture = frame.to_ndarray()  # I420, one copy
        height, width = frame.height, frame.width
        planes = [
            picture[:height],
            picture[height : height + height // 4].reshape(height // 2, width // 2),
            picture[height + height // 4 :].reshape(height // 2, width // 2),
        ]
        for x1, y1, x2, y2 in boxes:
            for plane, value, shrink in zip(planes, _GREEN, (1, 2, 2), strict=True):
                corners = (int(x1) // shrink, int(y1) // shrink), (int(x2) // shrink, int(y2) // shrink)
                cv2.rectangle(plane, *corners, value, 2 // shrink)
        drawn = av.VideoFrame.from_numpy_buffer(picture, format="yuv420p")
        drawn.pts = self.number
        drawn.time_base = self.time_base
        self.number += 1
        self.container.mux(self.stream.encode(drawn))

    def close(self) -> None:
        self.container.mux(self.stream.encode(None))
        self.container.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("model")
    parser.add_argument("output", type=Path)
    parser.add_argument("--loop", type=int, default=1)
    parser.add_argument("--end", type=float, default=float("inf"), metavar="SECONDS")
    parser.add_argument("--annotated", type=Path)
    parser.add_argument("--encoder", default="{}", help="options of libx264, as JSON")
    arguments = parser.parse_args()
    begun_s = time.perf_counter()
    cv2.setNumThreads(1)
    network = session(arguments.model, 1)
    name = network.get_inputs()[0].name
    work: queue.Queue[Any] = queue.Queue(2 * WORKERS)
    done: dict[int, Any] = {}
    ready = threading.Condition()
    room = threading.Semaphore(16)  # pictures between decoding and writing
    first_s: list[float] = []

    def worker() -> None:
        tensor = np.full((1, 3, SIZE, SIZE), 114, np.float32)
        while (given := work.get()) is not None:
            number, frame = given
            scale = letterbox(frame.to_ndarray(format="bgr24"), tensor)
            found = detect(network.run(None, {name: tensor})[0], scale)
            with ready:
                done[number] = found, frame
                ready.notify()

    def writer() -> None:
        number = 0
        video: Video | None = None
        with arguments.output.open("w") as file:
            while True:
                with ready:
                    while number not in done and number != total[0]:
                        ready.wait()
                    if number == total[0]:
                        break
                    found, frame = done.pop(number)
                file.write(line(arguments.video.stem, number, frame.time, found) + "\n")
                if arguments.annotated is not None:
                    if video is None:
                        video = Video(arguments.annotated, frame, rate[0], json.loads(arguments.encoder))
                    video.write(frame, [box for box, _, _ in found])
                if not first_s:
                    first_s.append(time.perf_counter() - begun_s)
                room.release()
                number += 1
        if video is not None:
            video.close()

    def give_up(failure: threading.ExceptHookArgs) -> None:
        traceback.print_exception(failure.exc_type, failure.exc_value, failure.exc_traceback)
        os._exit(1)  # else the others would wait for this thread for ever

    threading.excepthook = give_up
    with av.open(str(arguments.video)) as container:
        rate = [container.streams.video[0].average_rate]
    total = [-1]
    threads = [threading.Thread(target=worker) for _ in range(WORKERS)] + [threading.Thread(target=writer)]
    started_s = time.perf_counter()
    for thread in threads:
        thread.start()
    frames = 0
    for frame in frames_of(arguments.video, arguments.loop, arguments.end):
        room.acquire()
        work.put((frames, frame))
        frames += 1
    for _ in range(WORKERS):
        work.put(None)
    with ready:
        total[0] = frames
        ready.notify()
    for thread in threads:
        thread.join()
    wall_s = time.perf_counter() - started_s
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = usage.ru_utime + usage.ru_stime
    print(json.dumps({"frames": frames, "wall_s": wall_s, "cpu_s": cpu_s, "first_s": first_s[0]}))


if __name__ == "__main__":
    main()

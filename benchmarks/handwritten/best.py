"""The best program known for the job: PyAV with frame threads, three workers that share one session of one thread

each, tensors made once, results written in order by a bounded queue.
"""

from __future__ import annotations

import argparse
import json
import queue
import resource
import threading
import time
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from benchmarks.handwritten.yolox import SIZE, detect, letterbox, line, session

WORKERS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("model")
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    network = session(arguments.model, 1)
    name = network.get_inputs()[0].name
    work: queue.Queue[Any] = queue.Queue(2 * WORKERS)
    done: dict[int, str] = {}
    ready = threading.Condition()

    def worker() -> None:
        tensor = np.full((1, 3, SIZE, SIZE), 114, np.float32)
        while (given := work.get()) is not None:
            number, frame = given
            scale = letterbox(frame.to_ndarray(format="bgr24"), tensor)
            found = detect(network.run(None, {name: tensor})[0], scale)
            text = line(arguments.video.stem, number, frame.time, found)
            with ready:
                done[number] = text
                ready.notify()

    def writer() -> None:
        number = 0
        with arguments.output.open("w") as file:
            while True:
                with ready:
                    while number not in done and number != total[0]:
                        ready.wait()
                    if number == total[0]:
                        return
                    text = done.pop(number)
                file.write(text + "\n")
                number += 1

    total = [-1]
    threads = [threading.Thread(target=worker) for _ in range(WORKERS)] + [threading.Thread(target=writer)]
    started_s = time.perf_counter()
    for thread in threads:
        thread.start()
    frames = 0
    with av.open(str(arguments.video)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "FRAME"
        stream.codec_context.thread_count = 2
        for frame in container.decode(stream):
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
    print(json.dumps({"frames": frames, "wall_s": wall_s, "cpu_s": usage.ru_utime + usage.ru_stime}))


if __name__ == "__main__":
    main()

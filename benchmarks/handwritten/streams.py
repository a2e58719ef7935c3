"""Many paced streams by hand: a decoding thread a stream, workers that share one session of one thread each."""

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

from benchmarks.handwritten.yolox import session

SIZE = 352
MIN_SCORE = 0.3
WORKERS = 3


def detect(output: np.ndarray, width: int, height: int) -> list[tuple[list[float], float, int]]:
    """FastestDet: box in source pixels, score, class; best first."""
    maps = output[0].reshape(output.shape[1], -1)
    columns = output.shape[3]
    found = np.flatnonzero(maps[0] >= MIN_SCORE ** (1 / 0.6))
    if not len(found):
        return []
    cells = maps[:, found]
    label = cells[5:].argmax(0)
    score = cells[0] ** 0.6 * cells[5:].max(0) ** 0.4
    sure = score >= MIN_SCORE
    cells, found, label, score = cells[:, sure], found[sure], label[sure], score[sure]
    if not len(found):
        return []
    centre_x = (np.tanh(cells[1]) + found % columns) / columns * width
    centre_y = (np.tanh(cells[2]) + found // columns) / columns * height
    w, h = width / (1 + np.exp(-cells[3])), height / (1 + np.exp(-cells[4]))
    boxes = np.stack([centre_x - w / 2, centre_y - h / 2, w, h], 1)
    keep = np.asarray(cv2.dnn.NMSBoxesBatched(boxes.tolist(), score.tolist(), label.tolist(), MIN_SCORE, 0.5))
    boxes[:, 2:] += boxes[:, :2]
    return [(boxes[i].round(2).tolist(), round(float(score[i]), 4), int(label[i])) for i in keep.reshape(-1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("model")
    parser.add_argument("output", type=Path)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--loop", type=int, default=1)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    network = session(arguments.model, 1)
    name = network.get_inputs()[0].name
    work: queue.Queue[Any] = queue.Queue()
    latencies: list[float] = []
    lock = threading.Lock()
    files = [(arguments.output / f"{i}.jsonl").open("w") for i in range(arguments.streams)]
    started_s = time.perf_counter()

    def reader(number: int) -> None:
        sent = 0
        for _ in range(arguments.loop):
            with av.open(str(arguments.video)) as container:
                stream = container.streams.video[0]
                stream.codec_context.thread_count = 1
                period_s = 1 / float(stream.average_rate)
                for frame in container.decode(stream):
                    due_s = started_s + sent * period_s
                    time.sleep(max(0.0, due_s - time.perf_counter()))
                    work.put((number, sent, due_s, frame))
                    sent += 1

    def worker() -> None:
        tensor = np.empty((1, 3, SIZE, SIZE), np.float32)
        while (given := work.get()) is not None:
            number, seq, due_s, frame = given
            bgr = frame.to_ndarray(format="bgr24")
            small = cv2.resize(bgr, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
            for channel, plane in enumerate(cv2.split(small)):
                np.multiply(plane, np.float32(1 / 255), out=tensor[0, channel])
            found = detect(network.run(None, {name: tensor})[0], frame.width, frame.height)
            items = [{"box": box, "label": label, "score": score} for box, score, label in found]
            text = json.dumps({"stream": str(number), "frame": seq, "pts_s": frame.time, "items": items})
            with lock:
                files[number].write(text + "\n")
                latencies.append(time.perf_counter() - due_s)

    readers = [threading.Thread(target=reader, args=(i,)) for i in range(arguments.streams)]
    workers = [threading.Thread(target=worker) for _ in range(WORKERS)]
    for thread in [*readers, *workers]:
        thread.start()
    for thread in readers:
        thread.join()
    for _ in workers:
        work.put(None)
    for thread in workers:
        thread.join()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "frames": len(latencies),
                "p95_ms": float(np.quantile(latencies, 0.95)) * 1000,
                "cpu_s": usage.ru_utime + usage.ru_stime,
                "wall_s": time.perf_counter() - started_s,
            }
        )
    )


if __name__ == "__main__":
    main()

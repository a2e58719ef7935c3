"""The first program that one writes: OpenCV capture, onnxruntime with its defaults, one frame after the other."""

from __future__ import annotations

import argparse
import json
import resource
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from benchmarks.handwritten.yolox import SIZE, detect, letterbox, line, session


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
    network = session(arguments.model, None)
    name = network.get_inputs()[0].name
    capture = cv2.VideoCapture(str(arguments.video))
    fps = capture.get(cv2.CAP_PROP_FPS)
    frames = 0
    passes = 1
    first = 0  # frame of this pass
    container = None
    if arguments.annotated is not None:
        container = av.open(str(arguments.annotated), "w")
        stream = container.add_stream(
            "libx264", rate=Fraction(fps).limit_denominator(1001), options=json.loads(arguments.encoder)
        )
        stream.width = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        stream.height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        stream.pix_fmt = "yuv420p"
    started_s = time.perf_counter()
    with arguments.output.open("w") as file:
        while True:
            there, bgr = capture.read()
            there = there and (frames - first) / fps < arguments.end
            if not there and passes < arguments.loop:
                passes += 1
                first = frames
                capture = cv2.VideoCapture(str(arguments.video))
                continue
            if not there:
                break
            tensor = np.full((1, 3, SIZE, SIZE), 114, np.float32)
            scale = letterbox(bgr, tensor)
            found = detect(network.run(None, {name: tensor})[0], scale)
            file.write(line(arguments.video.stem, frames, frames / fps, found) + "\n")
            frames += 1
            if container is not None:
                for (x1, y1, x2, y2), _, _ in found:
                    cv2.rectangle(bgr, (int(x1), int(y1)), (int(x2), int(y2)), (0, 200, 0), 2)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(bgr, format="bgr24")))
    if container is not None:
        container.mux(stream.encode(None))
        container.close()
    wall_s = time.perf_counter() - started_s
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"frames": frames, "wall_s": wall_s, "cpu_s": usage.ru_utime + usage.ru_stime}))


if __name__ == "__main__":
    main()

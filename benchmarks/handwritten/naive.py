"""The first program that one writes: OpenCV capture, onnxruntime with its defaults, one frame after the other."""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.handwritten.yolox import SIZE, detect, letterbox, line, session


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("model")
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    network = session(arguments.model, None)
    name = network.get_inputs()[0].name
    capture = cv2.VideoCapture(str(arguments.video))
    fps = capture.get(cv2.CAP_PROP_FPS)
    frames = 0
    started_s = time.perf_counter()
    with arguments.output.open("w") as file:
        while True:
            there, bgr = capture.read()
            if not there:
                break
            tensor = np.full((1, 3, SIZE, SIZE), 114, np.float32)
            scale = letterbox(bgr, tensor)
            found = detect(network.run(None, {name: tensor})[0], scale)
            file.write(line(arguments.video.stem, frames, frames / fps, found) + "\n")
            frames += 1
    wall_s = time.perf_counter() - started_s
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"frames": frames, "wall_s": wall_s, "cpu_s": usage.ru_utime + usage.ru_stime}))


if __name__ == "__main__":
    main()

"""YOLOX-nano by hand: letterbox, session, decoding. Shared by the hand-written programs.

Reference of the method: Ge et al., "YOLOX: Exceeding YOLO Series in 2021", section 2.
"""

from __future__ import annotations

import json
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = 416
MIN_SCORE = 0.3
_GRID = np.concatenate(
    [
        np.stack(np.meshgrid(np.arange(SIZE // s), np.arange(SIZE // s)), -1).reshape(-1, 2).astype(np.float32)
        for s in (8, 16, 32)
    ]
)
_STRIDE = np.concatenate([np.full((SIZE // s) ** 2, s, np.float32) for s in (8, 16, 32)])


def session(path: str, threads: int | None) -> Any:
    """An onnxruntime session; ``threads`` None leaves every default as it is."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def letterbox(bgr: NDArray[np.uint8], tensor: NDArray[np.float32]) -> float:
    """Fill ``tensor`` (1, 3, 416, 416), which holds 114 everywhere; returns the scale."""
    height, width = bgr.shape[:2]
    scale: float = min(SIZE / height, SIZE / width)
    small = cv2.resize(bgr, (int(width * scale), int(height * scale)), interpolation=cv2.INTER_LINEAR)
    h, w = small.shape[:2]
    for channel, plane in enumerate(cv2.split(small)):
        tensor[0, channel, :h, :w] = plane
    return scale


def detect(output: NDArray[np.float32], scale: float) -> list[tuple[list[float], float, int]]:
    """Objects of one picture: box in source pixels, score, class; best first."""
    rows = output[0]
    found = np.flatnonzero(rows[:, 4] >= MIN_SCORE)
    if not len(found):
        return []
    rows = rows[found]
    label = rows[:, 5:].argmax(1)
    score = rows[:, 4] * rows[np.arange(len(rows)), 5 + label]
    sure = score >= MIN_SCORE
    rows, score, label, found = rows[sure], score[sure], label[sure], found[sure]
    if not len(found):
        return []
    stride = _STRIDE[found, None]
    centre = (rows[:, :2] + _GRID[found]) * stride
    size = np.exp(rows[:, 2:4]) * stride
    boxes = np.concatenate([centre - size / 2, size], 1) / scale
    keep = np.asarray(cv2.dnn.NMSBoxesBatched(boxes.tolist(), score.tolist(), label.tolist(), MIN_SCORE, 0.5))
    boxes[:, 2:] += boxes[:, :2]
    return [(boxes[i].round(2).tolist(), round(float(score[i]), 4), int(label[i])) for i in keep.reshape(-1)]


def line(stream: str, frame: int, pts_s: float, found: list[tuple[list[float], float, int]]) -> str:
    """One line of JSON, as llamapipe writes it."""
    items = [{"box": box, "label": label, "score": score} for box, score, label in found]
    return json.dumps({"stream": stream, "frame": frame, "pts_s": round(pts_s, 6), "stage": "detect", "items": items})

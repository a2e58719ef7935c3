"""Reading detections and ground truth: llamapipe's JSON lines, MOTChallenge text, COCO JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llamapipe.errors import UsageError

__all__ = ["Images", "Row", "read_detections", "read_stages", "read_truths"]


@dataclass(frozen=True, slots=True)
class Images:
    """What a COCO file says of its ids; empty for other files."""

    frames: Mapping[int, int] = field(default_factory=dict)  # image id -> frame
    labels: Mapping[int, str] = field(default_factory=dict)  # category id -> label


@dataclass(frozen=True, slots=True)
class Row:
    """One box in one frame (from 0)."""

    frame: int
    box: tuple[float, float, float, float]  # left, top, right, bottom
    score: float
    label: str  # empty where the file has none
    track_id: int  # -1: none


def read_detections(path: Path, stage: str | None, images: Images) -> tuple[list[Row], set[int] | None]:
    """Rows of a stage, and the frames that were looked at, None where the file does not say. Raises UsageError.

    ``images`` are the truth's: COCO results alone say neither which frame an image is nor what a category means.
    """
    text = _text(path)
    first = text.lstrip()[:1]
    if first == "{" and path.suffix != ".json":
        return _json_lines(path, text, stage)
    if first and first in "[{":
        return _coco_results(path, text, stage, images)
    return list(_mot(path, text)), None


def read_truths(path: Path) -> tuple[list[Row], set[int], Images]:
    """Rows of ground truth, the frames that are labelled, and what a COCO file says of its ids. Raises UsageError."""
    text = _text(path)
    if text.lstrip()[:1] == "{":
        return _coco_truths(path, text)
    # In MOTChallenge ground truth, rows of confidence 0 are there to be ignored.
    rows = [row for row in _mot(path, text) if row.score != 0]
    return rows, {row.frame for row in rows}, Images()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text: expected detections.jsonl, MOTChallenge text or COCO JSON") from error


def read_stages(path: Path) -> tuple[dict[str, list[Row]], set[int]]:
    """Rows by stage of a run's JSON lines, and the frames that it looked at. Raises UsageError."""
    lines = _lines(path, _text(path))
    found: dict[str, list[Row]] = {line["stage"]: [] for line in lines if "items" in line}
    for line in lines:
        if "items" in line:
            found[line["stage"]] += _rows(line)
    return found, {line["frame"] for line in lines if "outcome" not in line}  # dropped and failed ones it never saw


def _lines(path: Path, text: str) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise UsageError(f"{path}:{number}: no JSON: {error.msg}") from error
    if any("frame" not in line for line in lines):
        raise UsageError(f"{path}: a line has no frame", hint="expected the detections.jsonl of a run")
    streams = {line.get("stream") for line in lines}
    if len(streams) > 1:
        raise UsageError(f"{path} holds several streams: {', '.join(sorted(map(str, streams)))}")
    return lines


def _rows(line: Mapping[str, Any]) -> list[Row]:
    return [
        Row(line["frame"], tuple(item["box"]), item["score"], item.get("label", ""), item.get("track_id", -1))
        for item in line["items"]
    ]


def _json_lines(path: Path, text: str, stage: str | None) -> tuple[list[Row], set[int]]:
    lines = _lines(path, text)
    with_items = sorted({line["stage"] for line in lines if "items" in line})
    if stage is None:
        stage = "detect" if "detect" in with_items else with_items[0] if len(with_items) == 1 else None
    if stage is None or stage not in with_items:
        asked = f"no stage {stage!r}" if stage is not None else "several stages"
        raise UsageError(f"{path} has {asked}", hint=f"say --stage, one of {', '.join(with_items) or '(none)'}")
    mine = [line for line in lines if line.get("stage") == stage and "items" in line]
    return [row for line in mine for row in _rows(line)], {line["frame"] for line in lines}


def _mot(path: Path, text: str) -> Iterator[Row]:
    for number, cells in enumerate(csv.reader(text.splitlines()), 1):
        if not cells:
            continue
        try:
            frame, track, left, top, width, height = (float(cell) for cell in cells[:6])
            score = float(cells[6]) if len(cells) > 6 else 1.0
        except ValueError as error:
            raise UsageError(
                f"{path}:{number}: expected MOTChallenge text: frame, id, left, top, width, height, confidence",
                hint=f"got {','.join(cells)[:80]!r}",
            ) from error
        yield Row(int(frame) - 1, (left, top, left + width, top + height), score, "", int(track))


def _coco_results(path: Path, text: str, stage: str | None, images: Images) -> tuple[list[Row], set[int] | None]:
    data = _json(path, text)
    try:
        looked_at = None
        if isinstance(data, dict):
            images, data = _images(data), data["annotations"]
            looked_at = set(images.frames.values())
        stages = sorted({entry["stage"] for entry in data if "stage" in entry})
        wanted = stage or ("detect" if "detect" in stages else None)
        if stages and wanted not in stages and (stage is not None or len(stages) > 1):
            asked = f"no stage {stage!r}" if stage is not None else "several stages"
            raise UsageError(f"{path} has {asked}", hint=f"say --stage, one of {', '.join(stages)}")
        rows = [
            _coco_row(entry, images, float(entry.get("score", 1)))
            for entry in data
            if wanted is None or entry.get("stage", wanted) == wanted
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{path}: expected COCO results (image_id, category_id, bbox, score): {error}") from error
    return rows, looked_at


def _coco_truths(path: Path, text: str) -> tuple[list[Row], set[int], Images]:
    data = _json(path, text)
    try:
        images = _images(data)
        rows = [_coco_row(entry, images, 1.0) for entry in data["annotations"] if not entry.get("iscrowd")]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{path}: expected COCO ground truth (images, annotations, categories): {error}") from error
    return rows, set(images.frames.values()), images


def _images(data: dict[str, Any]) -> Images:
    """An image is the frame that it names, else its place in the list."""
    frames = {entry["id"]: int(entry.get("frame", i)) for i, entry in enumerate(data["images"])}
    return Images(frames, {entry["id"]: entry["name"] for entry in data["categories"]})


def _coco_row(entry: dict[str, Any], images: Images, score: float) -> Row:
    image = entry["image_id"]
    if images.frames and image not in images.frames:
        raise ValueError(f"there is no image {image}")
    label = images.labels.get(entry["category_id"], "")
    frame = images.frames.get(image, image)
    return Row(int(frame), _corners(entry["bbox"]), score, label, int(entry.get("track_id", -1)))


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}:{error.lineno}: no JSON: {error.msg}") from error


def _corners(bbox: list[float]) -> tuple[float, float, float, float]:
    left, top, width, height = bbox
    return left, top, left + width, top + height

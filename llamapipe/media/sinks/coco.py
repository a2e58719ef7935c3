"""COCO results: images, annotations with a score, categories."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from llamapipe.data import Boxes
from llamapipe.media.contract import Outcome, SinkContext, SinkItem
from llamapipe.media.sinks.files import target, writing
from llamapipe.media.sinks.lines import box_items, stage_and_port
from llamapipe.media.sinks.side import SideFile
from llamapipe.media.sinks.text import TextFile

__all__ = ["CocoSink"]

_IN_MEMORY = 4 << 20  # bytes of the image list before it goes to disk


class CocoSink:
    """One JSON object. An image is a frame: its id counts from 1, ``frame`` from 0.

    ``bbox`` is left, top, width, height in source pixels. With several inputs each annotation names its
    ``stage``. Annotations go to the file as they come and the image list behind them, so memory stays flat.
    """

    def __init__(self, context: SinkContext, params: Mapping[str, Any], default_path: str) -> None:
        self._inputs = [(selector, stage_and_port(selector)[0]) for selector in context.inputs]
        self._names_stage = len(self._inputs) > 1
        self._info = context.info
        self._encoder = msgspec.json.Encoder()
        self._categories: dict[str, int] = {}
        self._num_boxes = 0
        self._num_images = 0
        self._path = target(context, default_path)
        mark = context.mark
        self._file = TextFile(self._path, force=context.force, mark=None if mark is None else mark["file"])
        self._images: Any  # list of images, which goes behind the annotations
        if context.keep is None:
            self._images = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(self._path.parent))  # noqa: SIM115 - until close()
        else:
            self._images = SideFile(context.keep / "images", 0 if mark is None else mark["images"])
        if mark is None:
            self._file.buffer += b'{"annotations":['
        else:
            self._categories = dict(mark["categories"])
            self._num_boxes, self._num_images = mark["num_boxes"], mark["num_images"]

    def write(self, item: SinkItem) -> None:
        """See `Sink.write`."""
        if item.outcome is not Outcome.DELIVERED:
            return
        image_id = item.seq + 1
        image = {
            "id": image_id,
            "file_name": f"{item.stream}/{item.seq:06d}",
            "width": self._info.width,
            "height": self._info.height,
            "frame": item.seq,
            "pts_s": round(item.pts_s, 6),
        }
        with writing(self._path):
            self._images.write((b",\n" if self._num_images else b"") + self._encoder.encode(image))
        self._num_images += 1
        for selector, stage in self._inputs:
            boxes = item.values.get(selector)
            if isinstance(boxes, Boxes):
                self._add(boxes, image_id, stage)
        self._file.spill()

    def mark(self) -> Any:
        """See `Sink.mark`."""
        return {
            "file": self._file.mark(),
            "images": self._images.mark(),
            "categories": self._categories,
            "num_boxes": self._num_boxes,
            "num_images": self._num_images,
        }

    def _add(self, boxes: Boxes, image_id: int, stage: str) -> None:
        for name in boxes.names:
            self._categories.setdefault(name, len(self._categories) + 1)
        for found in box_items(boxes):
            x1, y1, x2, y2 = found.box
            width, height = round(x2 - x1, 2), round(y2 - y1, 2)
            self._num_boxes += 1
            annotation: dict[str, Any] = {
                "id": self._num_boxes,
                "image_id": image_id,
                "category_id": self._categories[found.label],
                "bbox": [x1, y1, width, height],
                "area": round(width * height, 2),
                "iscrowd": 0,
                "score": found.score,
            }
            if found.track_id >= 0:
                annotation["track_id"] = found.track_id
            if self._names_stage:
                annotation["stage"] = stage
            self._file.buffer += (b",\n" if self._num_boxes > 1 else b"") + self._encoder.encode(annotation)

    def close(self) -> Sequence[Path]:
        """See `Sink.close`."""
        categories = [{"id": i, "name": name} for name, i in self._categories.items()]
        self._file.buffer += b'],\n"categories":' + self._encoder.encode(categories) + b',\n"images":['
        with writing(self._path):
            self._images.seek(0)
        while piece := self._images.read(1 << 20):
            self._file.buffer += piece
            self._file.spill()
        self._file.buffer += b"]}\n"
        self._images.close()
        return [self._file.commit()]

    def abort(self) -> None:
        """See `Sink.abort`."""
        self._images.close()
        self._file.abort()

"""Tables, one row a box: csv and parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from llamapipe.data import Boxes
from llamapipe.errors import UsageError
from llamapipe.media.contract import Outcome, SinkContext, SinkItem
from llamapipe.media.sinks.files import PendingFile, target, writing
from llamapipe.media.sinks.lines import box_items, stage_and_port
from llamapipe.media.sinks.side import SideFile
from llamapipe.media.sinks.text import TextFile

__all__ = ["COLUMNS", "CsvSink", "ParquetSink"]

COLUMNS = ("stream", "frame", "pts_s", "stage", "label", "score", "x1", "y1", "x2", "y2", "track_id")

Row = tuple[str, int, float, str, str, float, float, float, float, float, int | None]

_GROUP_ROWS = 1 << 16  # of a parquet row group: bounds memory, large enough to compress well


class _Rows:
    """Makes a frame's rows; frames that were not delivered have none."""

    def __init__(self, inputs: Sequence[str]) -> None:
        self._inputs = [(selector, stage_and_port(selector)[0]) for selector in inputs]

    def __call__(self, item: SinkItem) -> list[Row]:
        if item.outcome is not Outcome.DELIVERED:
            return []
        pts_s = round(item.pts_s, 6)
        return [
            # Of an unpacked box mypy does not know that it is four numbers.
            (item.stream, item.seq, pts_s, stage, b.label, b.score, *b.box, None if b.track_id < 0 else b.track_id)  # type: ignore[misc]
            for selector, stage in self._inputs
            if isinstance(boxes := item.values.get(selector), Boxes)
            for b in box_items(boxes)
        ]


class CsvSink:
    """Comma-separated rows under a header; an empty ``track_id`` where there is none."""

    def __init__(self, context: SinkContext, params: Mapping[str, Any], default_path: str) -> None:
        self._rows = _Rows(context.inputs)
        self._file = TextFile(target(context, default_path), force=context.force, mark=context.mark)
        self._text = io.StringIO()
        self._writer = csv.writer(self._text, lineterminator="\n")
        if context.mark is None:
            self._put([COLUMNS])

    def _put(self, rows: Sequence[Sequence[object]]) -> None:
        self._writer.writerows(rows)
        self._file.buffer += self._text.getvalue().encode()
        self._text.seek(0)
        self._text.truncate()

    def write(self, item: SinkItem) -> None:
        """See `Sink.write`."""
        rows = self._rows(item)
        if rows:
            self._put(rows)
            self._file.spill()

    def mark(self) -> Any:
        """See `Sink.mark`."""
        return self._file.mark()

    def close(self) -> Sequence[Path]:
        """See `Sink.close`."""
        return [self._file.commit()]

    def abort(self) -> None:
        """See `Sink.abort`."""
        self._file.abort()


class ParquetSink:
    """The same columns, typed; row groups are written as they fill. Needs pyarrow.

    A table that was begun cannot be gone on with: where that may be asked for, rows are kept beside it until the end.
    """

    def __init__(self, context: SinkContext, params: Mapping[str, Any], default_path: str) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise UsageError(
                "the parquet sink needs pyarrow, which is not installed", hint="pip install 'llamapipe[parquet]'"
            ) from error
        text = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
        types = {"stream": text, "stage": text, "label": text, "frame": pyarrow.int64(), "pts_s": pyarrow.float64()}
        types["track_id"] = pyarrow.int64()
        self._schema = pyarrow.schema([(name, types.get(name, pyarrow.float32())) for name in COLUMNS])
        self._arrow = pyarrow
        self._rows = _Rows(context.inputs)
        self._pending: list[Row] = []
        self._side: SideFile | None = None
        if context.keep is not None:
            self._side = SideFile(context.keep / "rows", 0 if context.mark is None else context.mark["rows"])
        self._file = PendingFile(target(context, default_path), force=context.force or context.mark is not None)
        self._writer: Any = None
        try:
            with writing(self._file.path):
                self._writer = pyarrow.parquet.ParquetWriter(
                    str(self._file.partial), self._schema, compression=params["compression"]
                )
        except BaseException:
            self._file.abort()
            raise

    def _flush(self) -> None:
        columns = list(zip(*self._pending, strict=True)) if self._pending else [()] * len(COLUMNS)
        arrays = [self._arrow.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        with writing(self._file.path):
            self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))
        self._pending.clear()

    def write(self, item: SinkItem) -> None:
        """See `Sink.write`."""
        rows = self._rows(item)
        if self._side is None:
            self._add(rows)
        elif rows:
            data = msgspec.msgpack.encode(rows)
            self._side.write(len(data).to_bytes(4, "little") + data)

    def _add(self, rows: list[Row]) -> None:
        self._pending += rows
        if len(self._pending) >= _GROUP_ROWS:
            self._flush()

    def mark(self) -> Any:
        """See `Sink.mark`."""
        return {"rows": self._side.mark() if self._side is not None else 0}

    def close(self) -> Sequence[Path]:
        """See `Sink.close`."""
        if self._side is not None:
            self._side.seek(0)
            while size := self._side.read(4):
                self._add(msgspec.msgpack.decode(self._side.read(int.from_bytes(size, "little")), type=list[Row]))
            self._side.close()
        if self._pending:
            self._flush()
        with writing(self._file.path):
            self._writer.close()
        return [self._file.commit()]

    def abort(self) -> None:
        """See `Sink.abort`."""
        self._pending.clear()
        if self._side is not None:
            self._side.close()
        with suppress(OSError):  # the file goes anyway
            self._writer.close()
        self._file.abort()

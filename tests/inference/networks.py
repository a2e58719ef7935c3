"""Tiny ONNX files, written byte by byte: the onnx package is no dependency.

Field numbers are those of onnx.proto (ONNX 1.x, IR version 8).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Shape = Sequence[int | str]  # a name stands for any size


def _varint(n: int) -> bytes:
    out = bytearray()
    n &= (1 << 64) - 1
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*out, n])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _value(name: str, shape: Shape) -> bytes:
    sides = b"".join(_bytes(1, _bytes(2, n) if isinstance(n, str) else _number(1, n)) for n in shape)
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, 1) + _bytes(2, sides)))


def _constant(name: str, array: NDArray[np.generic]) -> bytes:
    kind = {"float32": 1, "int64": 7}[array.dtype.name]
    return (
        b"".join(_number(1, n) for n in array.shape) + _number(2, kind) + _bytes(8, name) + _bytes(9, array.tobytes())
    )


def _integers(name: str, values: Sequence[int]) -> bytes:
    return _bytes(5, _bytes(1, name) + b"".join(_number(8, v) for v in values) + _number(20, 7))


def _node(kind: str, inputs: Sequence[str], output: str, attributes: bytes = b"") -> bytes:
    return b"".join(_bytes(1, i) for i in inputs) + _bytes(2, output) + _bytes(4, kind) + attributes


def _save(path: Path, nodes: Sequence[bytes], constants: Sequence[bytes], given: bytes, found: Sequence[bytes]) -> Path:
    graph = b"".join(_bytes(1, node) for node in nodes) + _bytes(2, "tiny")
    graph += b"".join(_bytes(5, constant) for constant in constants) + _bytes(11, given)
    graph += b"".join(_bytes(12, value) for value in found)
    path.write_bytes(_number(1, 8) + _bytes(7, graph) + _bytes(8, _bytes(1, "") + _number(2, 13)))
    return path


def cell_means(path: Path, batch: int | str = "n", height: int | str = 32, width: int | str = 64) -> Path:
    """Mean of every 8x8 cell: (n, 3, h, w) -> (n, 3, h/8, w/8)."""
    pool = _node("AveragePool", ["images"], "means", _integers("kernel_shape", [8, 8]) + _integers("strides", [8, 8]))
    rows = height // 8 if isinstance(height, int) else "rows"
    columns = width // 8 if isinstance(width, int) else "columns"
    given = _value("images", (batch, 3, height, width))
    return _save(path, [pool], [], given, [_value("means", (batch, 3, rows, columns))])


def always(path: Path, answer: NDArray[np.float32], *, size: tuple[int, int] = (32, 32)) -> Path:
    """A network of one picture that gives ``answer`` (1, ...) whatever it sees."""
    zero, tall = np.zeros(1, np.float32), np.array([1] * answer.ndim, np.int64)
    nodes = [
        _node("ReduceMean", ["images"], "mean", _integers("axes", [0, 1, 2, 3])),
        _node("Mul", ["mean", "zero"], "nothing"),
        _node("Reshape", ["nothing", "tall"], "spread"),
        _node("Add", ["spread", "answer"], "output"),
    ]
    constants = [_constant("zero", zero), _constant("tall", tall), _constant("answer", answer)]
    return _save(path, nodes, constants, _value("images", (1, 3, *size)), [_value("output", answer.shape)])


def baked_batch(path: Path) -> Path:
    """As an exporter writes it: the batch of 1 is a constant of the Reshape. (1, 3, 32, 64) -> (1, 6144)."""
    node = _node("Reshape", ["images", "target"], "row")
    constants = [_constant("target", np.array([1, 6144], np.int64))]
    return _save(path, [node], constants, _value("images", (1, 3, 32, 64)), [_value("row", (1, 6144))])


def mixes_batch(path: Path) -> Path:
    """What a picture gives depends on the others of its batch. (batch, 3, 32, 64) -> the same."""
    nodes = [
        _node("ReduceMean", ["images"], "mean", _integers("axes", [0])),
        _node("Sub", ["images", "mean"], "rest"),
        _node("Add", ["rest", "one"], "output"),
    ]
    shape = ("batch", 3, 32, 64)
    return _save(
        path, nodes, [_constant("one", np.ones(1, np.float32))], _value("images", shape), [_value("output", shape)]
    )

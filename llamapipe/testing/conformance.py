"""Rules that hold for every operator, checked on real pictures.

    from llamapipe.testing import check_operator

    def test_brightness_keeps_the_rules():
        check_operator(Brightness, params={"threshold": 40.0})

`check_operator` raises AssertionError that names the rule that was broken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from llamapipe.data import Boxes, Classes, Event, Events, Image, Tracks
from llamapipe.operator import Context, Filtered, Inputs, Operator, PortKind, Predictor, State
from llamapipe.testing.pictures import moving_scene

__all__ = ["check_operator", "example_inputs"]

Size = tuple[int, int]  # width, height

SIZES: Sequence[Size] = ((96, 64), (97, 61), (1, 1))

_KINDS: dict[PortKind, type[Boxes] | type[Events]] = {
    PortKind.BOXES: Boxes,
    PortKind.TRACKS: Tracks,
    PortKind.CLASSES: Classes,
    PortKind.EVENTS: Events,
}


def check_operator(
    cls: type[Operator],
    *,
    params: Mapping[str, Any] | None = None,
    predictor: Predictor | None = None,
    inputs: Callable[[Image], Inputs] | None = None,
    sizes: Sequence[Size] = SIZES,
    frames: int = 6,
) -> None:
    """Run ``cls`` on short clips of each of ``sizes`` and check what every operator must keep to.

    ``params`` are those that differ from their defaults; ``predictor`` is handed to operators that use a model;
    ``inputs`` makes an item's inputs from a picture where `example_inputs` does not fit. Rules: the manifest is
    documented and its defaults are allowed; outputs are those declared; inputs are never written to; two instances
    agree; a batch gives what its items give one by one; state survives a snapshot, and there is none where none
    is declared.
    """
    _check_manifest(cls)
    make_inputs = inputs if inputs is not None else lambda image: example_inputs(cls, image)
    for width, height in sizes:
        where = f"{cls.manifest.type} on {width}x{height} pictures"

        def new(width: int = width, height: int = height) -> Operator:
            return cls(_context(cls, params or {}, predictor, width, height))

        items = [make_inputs(image) for image in moving_scene(width, height, frames)]
        results = _run(cls, new(), items, where)
        _require(
            _same(results, [_plain(out) for out in new().process_batch(items)]), where, "a batch gives other results"
        )
        if cls.manifest.state is State.NONE:
            _check_stateless(new, items, results, where)
        else:
            _check_state(new, items, results, where)
        new().close()


def example_inputs(cls: type[Operator], image: Image) -> Inputs:
    """Something on every input port: the picture, and boxes of which one is whole, one cut off and one outside."""
    return {name: _example(port.kind, image) for name, port in cls.manifest.inputs.items()}


def _check_manifest(cls: type[Operator]) -> None:
    manifest = cls.manifest
    _require(bool(manifest.doc.strip()), manifest.type, "the manifest has no doc")
    _require(bool(manifest.outputs), manifest.type, "there is no output")
    for name, param in manifest.params.items():
        if not param.required:
            problem = param.problem(param.default)
            _require(problem is None, manifest.type, f"the default of {name} is not allowed: {problem}")
    if manifest.fan_out:
        kinds = {port.kind for port in manifest.outputs.values()}
        _require(kinds == {PortKind.FRAMES}, manifest.type, "a fan-out gives pictures only")


def _context(
    cls: type[Operator], params: Mapping[str, Any], predictor: Predictor | None, width: int, height: int
) -> Context:
    declared = cls.manifest.params
    unknown = [name for name in params if name not in declared]
    _require(not unknown, cls.manifest.type, f"no such parameter: {', '.join(unknown)}")
    missing = [name for name, param in declared.items() if param.required and name not in params]
    _require(not missing, cls.manifest.type, f"give check_operator params for: {', '.join(missing)}")
    filled = {name: params.get(name, param.default) for name, param in declared.items()}
    return Context("checked", filled, predictor, "stream", width, height, 25.0)


def _run(cls: type[Operator], operator: Operator, items: Sequence[Inputs], where: str) -> list[Any]:
    """Plain results of the items, one by one; what was given must be untouched after."""
    results: list[Any] = []
    for item in items:
        before = _plain(item)
        output = operator.process_batch([item])[0]
        _require(_plain(item) == before, where, "it wrote into its inputs; copy before you write")
        _check_output(cls, output, where)
        results.append(_plain(output))
    return results


def _check_output(cls: type[Operator], output: Any, where: str) -> None:
    manifest = cls.manifest
    if isinstance(output, Filtered):
        _require(manifest.filters, where, "it returned FILTERED, but its manifest does not say filters=True")
        return
    _require(isinstance(output, Mapping), where, f"expected outputs by port name, got {type(output).__name__}")
    for name, port in manifest.outputs.items():
        _require(name in output, where, f"output {name} is missing; it gave {', '.join(output) or 'nothing'}")
        value = output[name]
        if port.kind is not PortKind.FRAMES:
            wanted = Boxes if issubclass(_KINDS[port.kind], Boxes) else Events
            _require(
                isinstance(value, wanted), where, f"output {name} is a {type(value).__name__}, expected {port.kind}"
            )
            continue
        _require(
            isinstance(value, list | tuple) == manifest.fan_out, where, f"output {name}: a list is for fan_out=True"
        )
        for picture in value if manifest.fan_out else [value]:
            pixels = picture.bgr if isinstance(picture, Image) else picture
            fits = isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.size > 0
            _require(fits and pixels.shape[2] == 3, where, f"output {name} is no picture (height, width, 3) uint8")


def _check_stateless(new: Callable[[], Operator], items: Sequence[Inputs], results: Sequence[Any], where: str) -> None:
    operator = new()
    _require(operator.snapshot() is None, where, "a stateless operator has a snapshot; declare State.PER_STREAM")
    backwards = [_plain(out) for item in reversed(items) for out in operator.process_batch([item])]
    _require(_same(results, backwards[::-1]), where, "results depend on the order; declare State.PER_STREAM")


def _check_state(new: Callable[[], Operator], items: Sequence[Inputs], results: Sequence[Any], where: str) -> None:
    again = [_plain(out) for item in items[:1] for out in new().process_batch([item])]
    _require(_same(results[:1], again), where, "two instances give different results")
    for cut in range(len(items) + 1):
        first, second = new(), new()
        for item in items[:cut]:
            first.process_batch([item])
        try:
            state = msgspec.msgpack.decode(msgspec.msgpack.encode(first.snapshot()))
        except (TypeError, ValueError) as error:
            raise AssertionError(f"{where}: the snapshot is no plain data: {error}") from error
        second.restore(state)
        rest = [_plain(out) for item in items[cut:] for out in second.process_batch([item])]
        _require(_same(results[cut:], rest), where, f"restored after {cut} frames, it goes on differently")


def _example(kind: PortKind, image: Image) -> Any:
    if kind is PortKind.FRAMES:
        return image
    if kind is PortKind.EVENTS:
        return Events(
            [Event("zone-count", "gate", value=float(image.seq)), Event("line-crossed", "gate", "person", 1, 1.0)]
        )
    # One thing walks to the right; one sticks out of the picture; one is outside of it.
    share = np.array(
        [[0.1 + 0.05 * image.seq, 0.2, 0.4 + 0.05 * image.seq, 0.8], [0.7, 0.6, 1.4, 1.5], [-0.9, -0.8, -0.2, -0.1]]
    )
    xyxy = share * np.array([image.width, image.height] * 2)
    tracked = np.array([1, 2, -1]) if kind is PortKind.TRACKS else None
    made = _KINDS[kind]
    assert issubclass(made, Boxes)
    return made(
        xyxy.astype(np.float32),
        np.array([0.9, 0.6, 0.3], np.float32),
        np.array([0, 1, 0], np.int32),
        ("person", "car"),
        tracked,
    )


def _plain(value: Any) -> Any:
    """Anything that goes through ports as plain data that can be compared."""
    if isinstance(value, Filtered):
        return value.value
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Image):
        place = value.placement
        return [value.width, value.height, msgspec.to_builtins(place), value.bgr.tobytes()]
    if isinstance(value, np.ndarray):
        return [value.shape, value.tobytes()]
    if isinstance(value, Boxes):
        ids = None if value.track_id is None else value.track_id.tolist()
        return [value.xyxy.tolist(), value.score.tolist(), value.labels, ids]
    if isinstance(value, Events):
        return list(value)
    return value


def _same(first: Any, second: Any) -> bool:
    """Equal, where numbers may differ in their last digits: a model's batch is not its items to the last bit."""
    if isinstance(first, float) and isinstance(second, float):
        return bool(np.isclose(first, second, rtol=1e-3, atol=1e-3, equal_nan=True))
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(_same, first, second))
    return bool(first == second)


def _require(holds: bool, where: str, what: str) -> None:
    if not holds:
        raise AssertionError(f"{where}: {what}")

"""Which sinks a run has, and making them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llamapipe.data import Image
from llamapipe.media import SINKS, parse_sink
from llamapipe.media.contract import Outcome, Sink, SinkItem
from llamapipe.operator import Manifest, PortKind
from llamapipe.spec import PipelineSpec, SinkSpec

__all__ = ["FunctionSink", "PictureTap", "with_asked_sinks", "with_jsonl", "with_results"]

_JSONL = "llamapipe/jsonl@v1"


def with_asked_sinks(spec: PipelineSpec, asked: Sequence[str], manifests: Mapping[str, Manifest]) -> PipelineSpec:
    """The spec with the command line's ``KIND=PATH`` sinks added, each fed with what its kind can take.

    ``manifests`` is by stage name. Raises UsageError for a kind that is none.
    """
    sinks = list(spec.sinks)
    for text in asked:
        kind, path, params = parse_sink(text)
        accepts = SINKS[kind].accepts
        selectors = _pictures(spec, manifests) if accepts == {PortKind.FRAMES} else _findings(spec, manifests, accepts)
        if SINKS[kind].max_inputs == 1 and len(selectors) > 1:  # the last tracks, else the last boxes: what is final
            tracks = _findings(spec, manifests, frozenset({PortKind.TRACKS}))
            selectors = (tracks or selectors)[-1:]
        sinks.append(SinkSpec(name=_free_name(kind, sinks), type=kind, inputs=selectors, path=path, params=params))
    return spec.model_copy(update={"sinks": tuple(sinks)})


def with_jsonl(spec: PipelineSpec, manifests: Mapping[str, Manifest]) -> PipelineSpec:
    """The spec with a JSON lines sink of everything found, unless it has one."""
    selectors = _findings(spec, manifests, SINKS[_JSONL].accepts)
    if any(sink.type == _JSONL for sink in spec.sinks) or not selectors:
        return spec
    sink = SinkSpec(name=_free_name(_JSONL, spec.sinks), type=_JSONL, inputs=selectors)
    return spec.model_copy(update={"sinks": (*spec.sinks, sink)})


def with_results(spec: PipelineSpec, manifests: Mapping[str, Manifest]) -> PipelineSpec:
    """The spec with one sink that is given everything: what a caller iterates over."""
    selectors = _findings(spec, manifests, None) + _pictures(spec, manifests, every=True)
    sink = SinkSpec(name=_free_name("results", spec.sinks), type="llamapipe/results@v1", inputs=selectors)
    return spec.model_copy(update={"sinks": (*spec.sinks, sink)})


def _free_name(type: str, sinks: Sequence[SinkSpec]) -> str:
    short = type.rsplit("/", 1)[-1].split("@", 1)[0]
    used = {sink.name for sink in sinks}
    return next(name for i in range(1, len(used) + 2) if (name := short if i == 1 else f"{short}-{i}") not in used)


def _findings(spec: PipelineSpec, manifests: Mapping[str, Manifest], accepts: frozenset[str] | None) -> tuple[str, ...]:
    return tuple(
        f"$ops.{op.name}.{port}"
        for op in spec.ops
        for port, output in manifests[op.name].outputs.items()
        if output.kind is not PortKind.FRAMES and (accepts is None or output.kind in accepts)
    )


def _pictures(spec: PipelineSpec, manifests: Mapping[str, Manifest], *, every: bool = False) -> tuple[str, ...]:
    """The last pictures that a frame has one of, else the source's own; with ``every``, all of them."""
    from llamapipe.spec import levels

    stage_levels = levels(spec, manifests)
    found = [
        f"$ops.{op.name}.{port}"
        for op in spec.ops
        for port, output in manifests[op.name].outputs.items()
        if output.kind is PortKind.FRAMES and not manifests[op.name].fan_out and not stage_levels[op.name]
    ]
    if every:
        hides = any(manifest.hides for manifest in manifests.values())
        return tuple(found) if hides else ("$source.frames", *found)
    return (found[-1],) if found else ("$source.frames",)


class FunctionSink:
    """Hands every frame to a function. Nothing is written.

    ``keeps``: pictures lie in memory that other frames will be written to, and are copied for the function.
    """

    def __init__(self, take: Callable[[SinkItem], None], *, keeps: bool = False) -> None:
        self._take = take
        self._keeps = keeps

    def write(self, item: SinkItem) -> None:
        """Hand it over."""
        if self._keeps:
            values = {k: v.kept() if isinstance(v, Image) else v for k, v in item.values.items()}
            item = replace(item, values=values)
        self._take(item)

    def mark(self) -> Any:
        """Who iterates over results cannot be given them again."""
        return None

    def close(self) -> Sequence[Path]:
        """No files."""
        return ()

    def abort(self) -> None:
        """Nothing to undo."""


class PictureTap:
    """A sink that shows delivered pictures to somebody else on their way."""

    def __init__(self, sink: Sink, show: Callable[[Image, SinkItem], None]) -> None:
        self._sink = sink
        self._show = show

    def write(self, item: SinkItem) -> None:
        """Write, then show."""
        self._sink.write(item)
        if item.outcome is Outcome.DELIVERED:
            picture: Any = next((value for value in item.values.values() if isinstance(value, Image)), None)
            if picture is not None:
                self._show(picture, item)

    def mark(self) -> Any:
        """Mark what it wraps."""
        return self._sink.mark()

    def close(self) -> Sequence[Path]:
        """Close what it wraps."""
        return self._sink.close()

    def abort(self) -> None:
        """Abort what it wraps."""
        self._sink.abort()

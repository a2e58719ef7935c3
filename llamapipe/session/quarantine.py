"""Items that failed too often: kept with all that it takes to run them again, and run again.

One zip file an item: ``item.json`` (stage, operator files, models, inputs), the pictures as they lay in memory, and
each as a PNG for people to look at.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from llamapipe.clock import Env
from llamapipe.control.actions import Quarantine
from llamapipe.control.plan import StagePlan
from llamapipe.data import FrameRef
from llamapipe.errors import OutputError, UsageError
from llamapipe.inference import AssetStore, cache_root, register_file, use_catalogue
from llamapipe.media import PictureLayout, layout_of, pack, unpack
from llamapipe.operator import load_registry
from llamapipe.report import write_whole
from llamapipe.runtime import Arena, LocalArena, StageHost, StageSetup, StreamFacts
from llamapipe.session.setups import predictor_loader
from llamapipe.wire import ItemInputs, ItemOutputs, Payload

__all__ = ["QuarantinedItem", "Quarantiner", "reproduce"]

FOLDER = "quarantine"
_MOST = 20  # files a run: what fails everywhere need not be kept a thousand times


class QuarantinedItem(msgspec.Struct, frozen=True):
    """All but the pixels."""

    reason: str
    stage: StagePlan
    streams: dict[str, tuple[int, int, float]]  # width, height, frames a second
    operators: tuple[str, ...]  # files that define some
    models: tuple[tuple[str, str, tuple[str, ...], tuple[int, int]], ...]  # file, decoder, labels, input size
    item: ItemInputs  # references count the pictures of the file as slots
    pictures: list[PictureLayout]
    version: int = 1


@dataclass(slots=True)
class Quarantiner:
    """Writes items into a run's folder."""

    folder: Path
    stages: Mapping[str, StagePlan]
    streams: Callable[[], dict[str, tuple[int, int, float]]]  # as in `QuarantinedItem`, of all that are there
    operators: tuple[str, ...]
    models: tuple[tuple[str, str, tuple[str, ...], tuple[int, int]], ...]
    files: list[Path] = field(default_factory=list)

    def keep(self, action: Quarantine, item: ItemInputs, arena: Arena) -> Path | None:
        """Write one; None where enough are kept, or it cannot be written: that must not end the run."""
        if len(self.files) >= _MOST:
            return None
        pictures: dict[tuple[int, int], int] = {}
        layouts: list[PictureLayout] = []
        members: list[tuple[str, bytes]] = []

        def moved(payload: Payload) -> Payload:
            if isinstance(payload, bytes):
                return payload
            place = (payload.slot, payload.generation)
            if place not in pictures:
                picture = arena.image(payload).native
                assert picture is not None
                layout = layout_of(picture)
                data = bytearray(layout.num_bytes)
                pack(picture, layout, memoryview(data))
                number = pictures[place] = len(layouts)
                layouts.append(layout)
                members.append((f"picture-{number}.bin", bytes(data)))
                members.append((f"picture-{number}.png", _png(arena.image(payload).bgr)))
            return msgspec.structs.replace(payload, slot=pictures[place], generation=0)

        inputs = [[moved(payload) for payload in edge] for edge in item.inputs]
        kept = QuarantinedItem(
            action.reason,
            self.stages[action.stage],
            self.streams(),
            self.operators,
            self.models,
            msgspec.structs.replace(item, inputs=inputs),
            layouts,
        )
        path = self.folder / FOLDER / f"{action.stream}-{action.seq}-{action.stage}-{action.index}.zip"
        buffer = BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("item.json", msgspec.json.format(msgspec.json.encode(kept), indent=2))
            for name, data in members:
                archive.writestr(name, data)
        with contextlib.suppress(OSError, OutputError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, buffer.getvalue())
            self.files.append(path)
            return path
        return None


def _png(bgr: NDArray[np.uint8]) -> bytes:
    import cv2

    _, data = cv2.imencode(".png", bgr)
    return bytes(data.tobytes())


def reproduce(path: Path, *, env: Env) -> tuple[QuarantinedItem, ItemOutputs]:
    """Run a kept item again, in this process: it may well end it.

    Raises UsageError for a file that is none, and whatever loading the stage raises.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            kept = msgspec.json.decode(archive.read("item.json"), type=QuarantinedItem)
            pixels = [archive.read(f"picture-{number}.bin") for number in range(len(kept.pictures))]
    except (OSError, KeyError, zipfile.BadZipFile, msgspec.MsgspecError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise UsageError(
            f"{path} is no item that a run has put into quarantine: {reason}",
            hint="expected a file of DIR/quarantine, such as cam-12-faces-0.zip",
        ) from error
    use_catalogue(cache_root(env))
    for file, decoder, labels, input_size in kept.models:
        register_file(Path(file), decoder=decoder, labels=labels, input_size=input_size)
    operator = load_registry(kept.operators).get(kept.stage.type)
    assets = AssetStore(cache_root(env), env=env)
    configuration = kept.stage.configuration
    setup = StageSetup(
        kept.stage,
        operator,
        configuration.params,
        load_predictor=predictor_loader(assets),
    )
    arena = LocalArena()
    pictures = [unpack(layout, memoryview(data)) for layout, data in zip(kept.pictures, pixels, strict=True)]
    item = kept.item
    places: dict[int, FrameRef] = {}

    def placed(payload: Payload) -> Payload:
        if isinstance(payload, bytes):
            return payload
        if payload.slot not in places:
            places[payload.slot] = arena.put(
                pictures[payload.slot],
                stream=payload.stream,
                seq=payload.seq,
                pts=payload.pts,
                time_base=payload.time_base,
                captured_at_s=payload.captured_at_s,
            )
        here = places[payload.slot]
        return msgspec.structs.replace(payload, arena=here.arena, slot=here.slot, generation=here.generation)

    inputs = [[placed(payload) for payload in edge] for edge in item.inputs]
    streams = {name: StreamFacts(*facts) for name, facts in kept.streams.items()}
    host = StageHost(setup, arena, streams)
    try:
        [outputs] = host.run([msgspec.structs.replace(item, inputs=inputs)])
    finally:
        host.close()
    return kept, outputs

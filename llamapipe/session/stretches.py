"""Short stretches of a video, decoded once and kept, so that every configuration sees the same frames.

Frames within a stretch follow each other, as trackers need it. The stretches are spread evenly over what happens in the
video, as far as the bytes of its packets tell, rather than over its time: where there is nothing to find, no
configuration is told from another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llamapipe.clock import Clock
from llamapipe.errors import SourceError
from llamapipe.media import SourceSpec, activity, open_source
from llamapipe.media.contract import Decoded, SourceInfo, SourceStats, Undecodable
from llamapipe.media.pictures import AvPicture

__all__ = ["HeldVideo", "Part", "Stretches", "decode_stretches", "joined", "part_s"]

Part = tuple[float | None, float | None]
"""Seconds from the beginning of a video between which its frames are; None: its beginning, its end."""

_USUAL_FPS = 25.0
_MOST_BYTES = 384 << 20  # of decoded pictures that are kept
_BYTES_A_PIXEL = 1.5
_LUMA_WIDTH = 96  # of the pictures that videos are compared by


@dataclass(frozen=True, slots=True)
class Stretches:
    """``frames`` in order of time; ``indices`` are their places in the video, from 0; a number of the stretch each."""

    info: SourceInfo  # of the whole video, or the part that it is for
    frames: tuple[Decoded, ...]
    indices: tuple[int, ...]
    stretch: tuple[int, ...]

    @property
    def fps(self) -> float:
        """Nominal."""
        return float(self.info.fps or _USUAL_FPS)

    @property
    def media_s(self) -> float:
        """Length of the whole video, or of the part."""
        return self.info.duration_s or (self.info.num_frames or len(self.frames)) / self.fps

    def first(self, count: int) -> Stretches:
        """About ``count`` frames: the beginning of every stretch. All where there are no more."""
        if count >= len(self.frames):
            return self
        numbers = sorted(set(self.stretch))
        each = max(2, count // max(1, len(numbers)))
        keep = [at for n in numbers for at in [i for i, s in enumerate(self.stretch) if s == n][:each]]
        return Stretches(
            self.info,
            tuple(self.frames[i] for i in keep),
            tuple(self.indices[i] for i in keep),
            tuple(self.stretch[i] for i in keep),
        )

    def luma(self) -> list[NDArray[np.uint8]]:
        """Small pictures of brightness, a stretch each: (frames, h, w) uint8."""
        import cv2

        found: dict[int, list[NDArray[np.uint8]]] = {}
        height = max(8, round(_LUMA_WIDTH * self.info.height / max(1, self.info.width)))
        for number, frame in zip(self.stretch, self.frames, strict=True):
            bgr = _fresh(frame).picture.bgr()
            small = cv2.resize(bgr, (_LUMA_WIDTH, height), interpolation=cv2.INTER_AREA)
            found.setdefault(number, []).append(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.uint8))
        return [np.stack(pictures) for _, pictures in sorted(found.items())]


def joined(parts: Sequence[Stretches]) -> Stretches:
    """Several of one video, in order of time, none over another. Expects at least one."""
    frames = [frame for part in parts for frame in part.frames]
    return Stretches(
        parts[0].info,
        tuple(replace(frame, seq=seq) for seq, frame in enumerate(frames)),
        tuple(index for part in parts for index in part.indices),
        tuple(number for number, part in enumerate(parts) for _ in part.frames),
    )


def part_s(info: SourceInfo, start_s: float | None, end_s: float | None) -> float:
    """Length of a part of a video; 0 where nobody can say."""
    whole_s = info.duration_s or 0.0
    end_s = whole_s if end_s is None else min(end_s, whole_s) if whole_s else end_s
    return max(0.0, end_s - (start_s or 0.0))


def decode_stretches(
    spec: SourceSpec,
    info: SourceInfo,
    count: int,
    stretches: int,
    *,
    clock: Clock,
    part: Part = (None, None),
) -> Stretches:
    """About ``count`` frames of a part in so many stretches, or all where there are no more. Raises SourceError."""
    fps = float(info.fps or _USUAL_FPS)
    times_s, happens = activity(Path(spec.uri))
    if not len(times_s):
        times_s = np.arange(info.num_frames or round((info.duration_s or 0) * fps) or count) / fps
        happens = np.ones(len(times_s))
    begin = int(np.searchsorted(times_s, part[0])) if part[0] is not None else 0
    end = int(np.searchsorted(times_s, part[1])) if part[1] is not None else len(times_s)
    if (begin, end) != (0, len(times_s)):
        if begin >= end:
            raise SourceError(f"source {spec.shown}: there is no frame in the part that was asked for")
        info = replace(info, num_frames=end - begin, duration_s=(end - begin) / fps)
    happens = happens[begin:end]
    total = len(happens)
    frame_bytes = max(1, round(info.width * info.height * _BYTES_A_PIXEL))
    count = max(2, min(count, total, _MOST_BYTES // frame_bytes))
    stretches = max(1, min(stretches, count // 2)) if count < total else 1
    each = max(1, min(count, total) // stretches)
    starts = [begin + start for start in (_starts(happens, each, stretches) if count < total else [0])]
    frames: list[Decoded] = []
    indices: list[int] = []
    numbers: list[int] = []
    for number, start in enumerate(starts):
        # Between two frames: what begins at the time of one must not miss it by rounding.
        start_s = float(times_s[start - 1] + times_s[start]) / 2 if start else None
        source = open_source(spec, clock=clock, start_s=start_s, max_frames=each, threads=2)
        first = start
        try:
            for item in source:
                if isinstance(item, Undecodable) or (frames and item.pts <= frames[-1].pts):
                    continue
                frames.append(Decoded(len(frames), item.pts, item.picture, None))
                indices.append(first + item.seq)
                numbers.append(number)
        finally:
            source.close()
    if not frames:
        raise SourceError(f"source {spec.shown}: no picture could be decoded")
    return Stretches(info, tuple(frames), tuple(indices), tuple(numbers))


def _starts(happens: NDArray[np.float64], each: int, stretches: int) -> list[int]:
    """First frames of the stretches, in order, none over another: each in the middle of an equal part of all bytes."""
    whole = np.cumsum(happens) / happens.sum()
    middles = np.searchsorted(whole, (np.arange(stretches) + 0.5) / stretches)
    starts: list[int] = []
    for n, middle in enumerate(middles):
        earliest = starts[-1] + each if starts else 0
        latest = len(happens) - each * (stretches - n)
        starts.append(int(max(earliest, min(middle - each // 2, latest))))
    return starts


class HeldVideo:
    """Decoded frames as a `VideoSource`. ``paced``: at the video's own rate, gaps between stretches left out."""

    def __init__(self, held: Stretches, *, clock: Clock, paced: bool = False) -> None:
        self.info = replace(held.info, num_frames=len(held.frames), duration_s=len(held.frames) / held.fps)
        self.stats = SourceStats()
        self._frames: Sequence[Decoded] = held.frames
        self._period_s = 1 / held.fps
        self._clock = clock
        self._paced = paced
        self._closed = False

    def __iter__(self) -> Iterator[Decoded | Undecodable]:
        began_s = self._clock.now_s()
        for seq, frame in enumerate(self._frames):
            due_s = began_s + seq * self._period_s
            while self._paced and not self._closed and (left_s := due_s - self._clock.now_s()) > 0:
                self._clock.sleep(min(left_s, 0.05))
            if self._closed:
                return
            fresh = _fresh(frame)
            yield Decoded(seq, fresh.pts, fresh.picture, due_s if self._paced else None)

    def close(self) -> None:
        """Stop reading."""
        self._closed = True


def _fresh(frame: Decoded) -> Decoded:
    """Without what earlier readers had converted: every configuration pays for its own, and memory stays bounded."""
    picture = frame.picture
    if not isinstance(picture, AvPicture):
        return frame
    return replace(frame, picture=AvPicture(picture.stored, picture.rotation))

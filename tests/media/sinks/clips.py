"""Clips made for these tests, and what a run would hand to a sink."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Boxes, Image
from llamapipe.media import SINKS
from llamapipe.media.contract import Outcome, Sink, SinkContext, SinkItem, SourceInfo

RATE = 48000


class Picture:
    """A decoded frame as `Native`."""

    def __init__(self, frame: av.VideoFrame) -> None:
        self._frame = frame
        self.width, self.height, self.format = frame.width, frame.height, frame.format.name

    def bgr(self) -> NDArray[np.uint8]:
        return self._frame.to_ndarray(format="bgr24")

    def frame(self) -> Any:
        return self._frame


def picture(i: int, width: int = 320, height: int = 240) -> NDArray[np.uint8]:
    """A smooth picture with a bright bar that moves."""
    y, x = np.mgrid[:height, :width]
    bgr = np.stack([x * 200 // width, y * 200 // height, np.full_like(x, 90)], -1).astype(np.uint8)
    at = 10 * i % (width - 20)
    bgr[:, at : at + 16] = (40, 200, 230)
    return bgr


def make_clip(
    path: Path,
    *,
    times: Sequence[int] = range(20),
    time_base: Fraction = Fraction(1, 20),
    size: tuple[int, int] = (320, 240),
    audio: str | None = None,
    audio_from_s: float = 0.0,
    audio_s: float | None = None,
    pixel_format: str = "yuv420p",
    colours: tuple[int, int] = (6, 1),
    codec: str = "libx264",
    rate: int = 20,
    lossless: bool = False,
    keyframe_each: int | None = None,
) -> Path:
    """A clip with pictures at ``times`` (in ``time_base``) and, with ``audio``, a tone that ticks each 0.25 s."""
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=rate)
        video.width, video.height, video.pix_fmt = *size, pixel_format
        context = video.codec_context
        context.time_base = time_base
        context.colorspace, context.color_range = colours
        if codec == "libx264":
            video.options = {"qp": "0"} if lossless else {"crf": "12", "preset": "ultrafast", "bf": "2"}
            if keyframe_each is not None:
                video.options = {**video.options, "g": str(keyframe_each)}
        sound = out.add_stream(audio, rate=RATE) if audio else None
        if sound is not None:
            length_s = audio_s if audio_s is not None else float((times[-1] - times[0] + 1) * time_base)
            begin = round((audio_from_s) * RATE)
            wave = _ticks(round(length_s * RATE))
            sound.layout = "mono"
            resampler = av.AudioResampler(format=sound.format.name, layout="mono", rate=RATE)
            for start in range(0, len(wave), 1024):
                frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="flt", layout="mono")
                frame.sample_rate = RATE
                frame.pts, frame.time_base = begin + start, Fraction(1, RATE)
                for ready in resampler.resample(frame):
                    out.mux(sound.encode(ready))
            out.mux(sound.encode(None))
        for i, pts in enumerate(times):
            made = av.VideoFrame.from_ndarray(picture(i, *size), format="bgr24")
            made = made.reformat(format=pixel_format, dst_colorspace=_SWS[colours[0]], dst_color_range=colours[1])
            made.pts, made.time_base = pts, time_base
            out.mux(video.encode(made))
        out.mux(video.encode(None))
    return path


_SWS = {1: 1, 2: 5, 5: 5, 6: 5, 9: 9}


def _ticks(samples: int) -> NDArray[np.float32]:
    t = np.arange(samples) / RATE
    return (0.5 * np.sin(2 * np.pi * 880 * t) * ((t % 0.25) < 0.05)).astype(np.float32)


def info_of(path: Path, **changes: Any) -> SourceInfo:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        facts: dict[str, Any] = {
            "name": path.stem,
            "uri": str(path),
            "width": video.width,
            "height": video.height,
            "fps": video.average_rate,
            "num_frames": video.frames or None,
            "duration_s": None if video.duration is None else float(video.duration * video.time_base),
            "time_base": video.time_base,
            "live": False,
            "has_audio": bool(container.streams.audio),
        }
    return SourceInfo(**{**facts, **changes})


def frames_of(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def native(frame: av.VideoFrame) -> Image:
    return Image(width=frame.width, height=frame.height, native=Picture(frame))


def delivered(
    path: Path, selector: str = "$source.frames", edit: Callable[[Image], Image] | None = None
) -> Iterator[SinkItem]:
    """Items of a run that delivers every frame of a clip."""
    for seq, frame in enumerate(frames_of(path)):
        image = native(frame)
        value = edit(image) if edit is not None else image
        yield SinkItem("clip", seq, frame.pts, float(frame.time), Outcome.DELIVERED, {selector: value})


def item(seq: int = 0, values: Mapping[str, Any] | None = None, **changes: Any) -> SinkItem:
    facts: dict[str, Any] = {"stream": "cam", "seq": seq, "pts": seq, "pts_s": seq / 25, "outcome": Outcome.DELIVERED}
    return SinkItem(**{**facts, "values": values or {}, **changes})


def boxes(
    *rows: tuple[float, float, float, float],
    names: Sequence[str] = ("person",),
    track: Sequence[int] | None = None,
    label: Sequence[int] | None = None,
) -> Boxes:
    n = len(rows)
    return Boxes(
        np.array(rows, np.float32).reshape(-1, 4),
        np.full(n, 0.87654, np.float32),
        np.array(label if label is not None else [0] * n, np.int32),
        names,
        None if track is None else np.array(track, np.int64),
    )


CAM = SourceInfo("cam", "cam.mp4", 640, 480, Fraction(25), None, None, Fraction(1, 25), False, False)


def open_sink(kind: str, directory: Path | None, inputs: Sequence[str], **changes: Any) -> Sink:
    """A sink of ``kind`` as a session opens it."""
    info = changes.pop("info", CAM)
    return SINKS[f"llamapipe/{kind}@v1"].make(SinkContext(info, directory, inputs, **changes))


def left(folder: Path) -> list[str]:
    """Names of everything in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

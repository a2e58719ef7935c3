"""A second look into a source file: what its `SourceInfo` does not say, and its audio."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from llamapipe.media.sinks.encoder import Colours

__all__ = ["SourceHeader", "open_header"]


@dataclass(slots=True)
class SourceHeader:
    """An open file. Times are the file's own, in seconds."""

    container: Any
    video: Any
    audio: Any  # an av.AudioStream, or None
    video_start_s: Fraction
    start_s: Fraction | None  # of pictures or audio, whichever begins first; None where the file does not say
    end_s: Fraction | None  # of the pictures
    num_frames: int | None  # that the container promises, None where it does not count them
    aspect: Fraction | None  # width of a pixel by its height, as stored
    colours: Colours  # as the file is marked

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def has_pictures_after(self, time_s: Fraction) -> bool:
        """Whether the file has pictures later than ``time_s``: a run that ended there was cut short."""
        try:
            with av.open(self.container.name, metadata_errors="ignore") as container:
                video = container.streams[self.video.index]
                container.seek(round(time_s / video.time_base), stream=video)
                for packet in container.demux(video):
                    if packet.pts is not None and packet.size and packet.pts * packet.time_base > time_s:
                        return True
        except (av.FFmpegError, OSError):
            pass  # nothing that can be read comes after
        return False

    def pass_s(self, first_s: Fraction, end_s: Fraction | None, step_s: Fraction) -> Fraction:
        """How long one pass of a loop lasts: from the first picture to one step after the last.

        Reads through the pictures' packets once, decoding none, and leaves the reading place at their end.
        """
        last_s = first_s
        try:
            self.container.seek(0)
            for packet in self.container.demux(self.video):
                if packet.pts is None or not packet.size:
                    continue
                time_s = Fraction(packet.pts * packet.time_base)
                if end_s is None or time_s < end_s:
                    last_s = max(last_s, time_s)
        except av.FFmpegError:
            pass  # a damaged end: what came before it is what is played
        return last_s - first_s + step_s


def open_header(uri: str, *, audio: bool) -> SourceHeader | None:
    """Look into a file with pictures; None for anything else, since a stream must not be opened twice."""
    if not uri or not Path(uri).is_file():
        return None
    container: Any = None
    try:
        container = av.open(uri, metadata_errors="ignore")
        pictures = [s for s in container.streams.video if "attached_pic" not in str(s.disposition)]
        video = (pictures or list(container.streams.video))[0]
    except (av.FFmpegError, OSError, IndexError):
        if container is not None:
            container.close()
        return None
    sound = container.streams.audio[0] if audio and container.streams.audio else None
    if sound is not None and (sound.codec_context is None or not sound.codec_context.sample_rate):
        sound = None  # a codec that FFmpeg does not know
    video_start_s = _seconds(video, video.start_time)
    starts = (video_start_s, None if sound is None else _seconds(sound, sound.start_time))
    start_s = min((start for start in starts if start is not None), default=None)
    duration_s = _seconds(video, video.duration)
    if duration_s is None and container.duration is not None:
        duration_s = Fraction(container.duration, 1_000_000)
    return SourceHeader(
        container,
        video,
        sound,
        video_start_s or Fraction(0),
        start_s,
        None if duration_s is None or video_start_s is None else video_start_s + duration_s,
        video.frames or None,
        video.sample_aspect_ratio,
        Colours.of(video.codec_context),
    )


def _seconds(stream: Any, ticks: int | None) -> Fraction | None:
    return None if ticks is None else Fraction(ticks * stream.time_base)

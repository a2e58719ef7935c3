"""Audio of a source, in step with its pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from llamapipe.clock import SystemClock
from llamapipe.data import Image
from llamapipe.media import SourceSpec, open_source
from llamapipe.media.contract import Decoded, Outcome, SinkItem
from tests.media.sinks.clips import delivered, info_of, make_clip, open_sink

FRAMES = "$source.frames"
CODECS = [
    ("aac", "mp4", "aac"),
    ("libmp3lame", "mp4", "mp3float"),
    ("libopus", "mkv", "opus"),
    ("pcm_s16le", "mov", "aac"),
]
TICKS = [0.0, 0.25, 0.5, 0.75]


def run(clip: Path, folder: Path, name: str = "out.mp4", **cut: Any) -> Path:
    """A run over the clip by the project's own source, into a video."""
    source = open_source(SourceSpec(name="clip", uri=str(clip), kind="file"), clock=SystemClock(), **cut)
    facts = {"end_s": cut.get("end_s"), "loop": cut.get("loop", 1)}
    sink = open_sink("video", folder, [FRAMES], info=source.info, source_uri=str(clip), path=name, **facts)
    for got in source:
        assert isinstance(got, Decoded)
        image = Image(width=got.picture.width, height=got.picture.height, native=got.picture)
        pts_s = float(got.pts * source.info.time_base)
        sink.write(SinkItem("clip", got.seq, got.pts, pts_s, Outcome.DELIVERED, {FRAMES: image}))
    (path,) = sink.close()
    return path


def heard(path: Path) -> tuple[str, list[float], float]:
    """Codec, when the tone sets in, and how long there is sound, in seconds from the first picture."""
    with av.open(str(path)) as container:
        first_s = next(container.decode(video=0)).time
    onsets: list[float] = []
    end_s = last_s = 0.0
    with av.open(str(path)) as container:
        codec = container.streams.audio[0].codec_context.name
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=48000)
        for frame in container.decode(audio=0):
            begin_s = frame.time - first_s
            for piece in resampler.resample(frame):
                loud = np.flatnonzero(np.abs(piece.to_ndarray()[0]) > 0.15)
                if len(loud):
                    for at_s in begin_s + loud / 48000:
                        if not onsets or at_s - last_s > 0.1:
                            onsets.append(round(float(at_s), 3))
                        last_s = float(at_s)
            end_s = begin_s + frame.samples / frame.sample_rate
    return codec, onsets, end_s


@pytest.mark.parametrize(("codec", "suffix", "written"), CODECS)
@pytest.mark.parametrize("out", ["out.mp4", "out.mkv"])
def test_audio_is_in_step(codec: str, suffix: str, written: str, out: str, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / f"clip.{suffix}", audio=codec)
    assert heard(clip)[1] == pytest.approx(TICKS, abs=0.005)
    found, onsets, end_s = heard(run(clip, tmp_path, out))
    assert found == written
    assert onsets == pytest.approx(TICKS, abs=0.025)  # a packet without its run-up sets in late
    assert onsets[1:] == pytest.approx(TICKS[1:], abs=0.005)
    assert end_s == pytest.approx(1.0, abs=0.03)


def test_packets_are_copied_untouched(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", audio="aac")

    def packets(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(audio=0) if packet.size]

    assert packets(run(clip, tmp_path)) == packets(clip)


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_start_and_end_cut_the_audio_too(codec: str, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mov", audio=codec, times=range(60))
    _, onsets, end_s = heard(run(clip, tmp_path, start_s=1.4, end_s=2.2))
    assert onsets == pytest.approx([0.1, 0.35, 0.6], abs=0.005)
    assert end_s == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_audio_ends_with_the_pictures_of_a_run_that_was_cut_short(codec: str, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mov", audio=codec, times=range(40))
    assert heard(run(clip, tmp_path, max_frames=12))[2] == pytest.approx(0.6, abs=0.03)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_audio_that_outlasts_the_pictures_is_kept(suffix: str, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / f"clip.{suffix}", audio="aac", audio_s=1.6)
    _, onsets, end_s = heard(run(clip, tmp_path))
    assert end_s == pytest.approx(1.6, abs=0.03)
    assert len(onsets) == 7


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
@pytest.mark.parametrize("audio_s", [0.7, 1.0, 1.3])
def test_every_pass_of_a_loop_has_its_audio(codec: str, audio_s: float, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mov", audio=codec, audio_s=audio_s)
    _, onsets, end_s = heard(run(clip, tmp_path, loop=3))
    once = [tick for tick in TICKS if tick < audio_s]
    last = [tick for tick in (*TICKS, 1.0, 1.25) if tick < audio_s]
    assert onsets == pytest.approx([*once, *(1 + t for t in once), *(2 + t for t in last)], abs=0.015)
    assert end_s == pytest.approx(2 + audio_s, abs=0.03)


def test_late_and_early_audio_keep_their_distance(tmp_path: Path) -> None:
    late = make_clip(tmp_path / "late.mp4", audio="aac", audio_from_s=0.3, audio_s=0.5)
    assert heard(run(late, tmp_path, "late-out.mp4"))[1] == pytest.approx(heard(late)[1], abs=0.005)
    early = make_clip(tmp_path / "early.ts", audio="aac", times=range(10, 30), audio_s=1.5)
    assert heard(run(early, tmp_path, "early-out.mp4"))[1] == pytest.approx(heard(early)[1], abs=0.005)


def test_telephone_audio_of_a_camera_becomes_aac(tmp_path: Path) -> None:
    clip = tmp_path / "camera.mov"
    make_clip(tmp_path / "pictures.mp4")
    with av.open(str(clip), "w") as made, av.open(str(tmp_path / "pictures.mp4")) as pictures:
        video = made.add_stream_from_template(pictures.streams.video[0])
        sound = made.add_stream("pcm_mulaw", rate=8000)
        sound.layout = "mono"
        time = np.arange(8000) / 8000
        wave = (20000 * np.sin(2 * np.pi * 880 * time) * (time % 0.25 < 0.05)).astype(np.int16)
        for start in range(0, 8000, 160):
            frame = av.AudioFrame.from_ndarray(wave[None, start : start + 160], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 8000, start
            made.mux(sound.encode(frame))
        for packet in pictures.demux(video=0):
            if packet.size:
                packet.stream = video
                made.mux(packet)
    codec, onsets, end_s = heard(run(clip, tmp_path))
    assert codec == "aac"
    assert onsets == pytest.approx(TICKS, abs=0.01)
    assert end_s == pytest.approx(1.0, abs=0.14)  # a packet of AAC is long at this rate


def test_audio_can_be_left_out(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", audio="aac")
    for name, changes in (
        ("off.mp4", {"params": {"audio": False}}),
        ("live.mp4", {"info": info_of(clip, live=True)}),
        ("elsewhere.mp4", {"source_uri": "rtsp://me:secret@camera/1"}),
    ):
        facts: dict[str, Any] = {"info": info_of(clip), "source_uri": str(clip), **changes}
        sink = open_sink("video", tmp_path, [FRAMES], path=name, **facts)
        for one in delivered(clip):
            sink.write(one)
        (path,) = sink.close()
        with av.open(str(path)) as container:
            assert not container.streams.audio
            assert container.streams.video[0].frames == 20


def test_audio_that_breaks_off_does_not_stop_the_pictures(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.ts", audio="aac", times=range(40))
    data = bytearray(clip.read_bytes())
    rng = np.random.default_rng(0)
    broken = tmp_path / "broken.ts"
    for at in range(len(data) // 2, len(data), 700):
        data[at] = int(rng.integers(256))
    broken.write_bytes(data[: len(data) * 3 // 4])
    sink = open_sink("video", tmp_path, [FRAMES], info=info_of(clip), source_uri=str(broken))
    for one in delivered(clip):
        sink.write(one)
    (path,) = sink.close()
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 40

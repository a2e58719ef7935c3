"""Video files: pictures, times, colours."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from llamapipe.data import Image
from llamapipe.errors import UsageError
from llamapipe.media.contract import Outcome, SinkItem
from tests.media.sinks.clips import (
    CAM,
    delivered,
    frames_of,
    info_of,
    item,
    left,
    make_clip,
    native,
    open_sink,
    picture,
)

FRAMES = "$source.frames"
LOSSLESS = {"crf": 0}


def edited(image: Image) -> Image:
    return image.replaced(image.bgr.copy())


def run(clip: Path, folder: Path, *items: SinkItem, **changes: object) -> Path:
    """Write items, or every frame of the clip, and give the file."""
    edit = changes.pop("edit", None)
    changes.setdefault("info", info_of(clip))
    sink = open_sink("video", folder, [FRAMES], source_uri=str(clip), **changes)
    for one in items or delivered(clip, FRAMES, edit):  # type: ignore[arg-type]
        sink.write(one)
    (path,) = sink.close()
    return path


def times(path: Path) -> list[Fraction]:
    return [frame.pts * Fraction(frame.time_base) for frame in frames_of(path)]


def duration(path: Path) -> Fraction:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        return Fraction(video.duration * video.time_base)


def test_a_video_has_the_frames_times_and_length_of_its_source(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    out = run(clip, tmp_path)
    assert out == tmp_path / "annotated.mp4"
    assert times(out) == times(clip)
    assert duration(out) == duration(clip) == 1
    assert left(tmp_path) == ["annotated.mp4", "clip.mp4"]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("edit", [None, edited])
def test_a_variable_rate_and_a_late_start_are_kept(suffix: str, edit: object, tmp_path: Path) -> None:
    at = [1000, 1040, 1080, 1090, 1300, 1310, 1800, 1833]
    clip = make_clip(tmp_path / "clip.mkv", times=at, time_base=Fraction(1, 1000))
    out = run(clip, tmp_path, path=f"out.{suffix}", edit=edit)
    assert times(clip)[0] == 1
    assert times(out) == [time - 1 for time in times(clip)]
    if suffix == "mp4":  # whose index adds up durations in decoding order
        assert Fraction(833, 1000) < duration(out) < Fraction(95, 100)


def test_one_frame_lasts_as_long_as_in_the_source(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", times=[0], time_base=Fraction(1, 5), rate=5)
    for path, edit in (("native.mp4", None), ("edited.mp4", edited)):
        out = run(clip, tmp_path, path=path, edit=edit)
        assert len(frames_of(out)) == 1
        assert duration(out) == duration(clip) == Fraction(1, 5)


def test_equal_times_are_put_apart(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    items = [
        item(i, {FRAMES: native(frame)}, pts=pts)
        for i, (frame, pts) in enumerate(zip(frames_of(clip), [0, 5, 5, 9], strict=False))
    ]
    out = run(clip, tmp_path, *items)
    assert len(frames_of(out)) == 4


@pytest.mark.parametrize(
    ("pixel_format", "colours"),
    [("yuv420p", (6, 1)), ("yuv420p", (1, 1)), ("yuv420p", (2, 1)), ("yuvj420p", (5, 2)), ("yuv420p", (9, 1))],
)
def test_a_picture_that_nobody_changed_keeps_its_numbers(
    pixel_format: str, colours: tuple[int, int], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", times=range(4), pixel_format=pixel_format, colours=colours)
    out = run(clip, tmp_path, params=LOSSLESS)
    for before, after in zip(frames_of(clip), frames_of(out), strict=True):
        assert np.array_equal(before.to_ndarray(), after.to_ndarray())
        assert (after.color_range, after.colorspace) == (before.color_range, before.colorspace)


@pytest.mark.parametrize("first_is_edited", [False, True])
@pytest.mark.parametrize(
    ("pixel_format", "colours"),
    [
        ("yuv420p", (6, 1)),
        ("yuv420p", (1, 1)),
        ("yuv420p", (2, 1)),
        ("yuvj420p", (5, 2)),
        ("yuv444p", (1, 1)),
        ("yuv420p10le", (1, 1)),
    ],
)
def test_colours_look_the_same_native_or_edited(
    pixel_format: str, colours: tuple[int, int], first_is_edited: bool, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", times=range(4), pixel_format=pixel_format, colours=colours)
    items = []
    for seq, frame in enumerate(frames_of(clip)):
        image = native(frame)
        items.append(item(seq, {FRAMES: edited(image) if seq % 2 != first_is_edited else image}, pts=frame.pts))
    out = run(clip, tmp_path, *items, params=LOSSLESS)
    for before, after in zip(frames_of(clip), frames_of(out), strict=True):
        difference = native(before).bgr.astype(int) - native(after).bgr
        assert abs(difference.mean(axis=(0, 1))).max() < 2  # no channel drifts by more than rounding
        assert np.percentile(abs(difference), 95) < 8  # edges of the bar lose some colour to 4:2:0


@pytest.mark.parametrize("edit", [None, edited])
def test_primaries_and_transfer_are_the_sources(edit: object, tmp_path: Path) -> None:
    with av.open(str(tmp_path / "hdr.mp4"), "w") as made:
        stream = made.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.codec_context.color_primaries, stream.codec_context.color_trc = 9, 16  # BT.2020, PQ
        made.mux(stream.encode(av.VideoFrame.from_ndarray(picture(0, 160, 120), format="bgr24")))
        made.mux(stream.encode(None))
    out = run(tmp_path / "hdr.mp4", tmp_path, edit=edit)
    frame = frames_of(out)[0]
    assert (frame.color_primaries, frame.color_trc) == (9, 16)


@pytest.mark.parametrize("edit", [None, edited])
def test_a_source_without_marks_stays_without_whichever_picture_is_first(edit: object, tmp_path: Path) -> None:
    """Its numbers mean BT.601 and limited range on the way to pixels and on the way back."""
    clip = make_clip(tmp_path / "clip.mp4", times=range(4), colours=(2, 0))
    assert {(frame.colorspace, frame.color_range) for frame in frames_of(clip)} == {(2, 0)}
    out = run(clip, tmp_path, edit=edit, params=LOSSLESS)
    for before, after in zip(frames_of(clip), frames_of(out), strict=True):
        assert (after.colorspace, after.color_range, after.color_primaries, after.color_trc) == (2, 0, 2, 2)
        difference = native(before).bgr.astype(int) - native(after).bgr
        assert abs(difference.mean(axis=(0, 1))).max() < 2


def test_a_marked_source_with_new_pixels_is_marked_as_what_these_are(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", times=range(2), colours=(1, 1))
    frame = frames_of(run(clip, tmp_path, edit=edited))[0]
    assert (frame.colorspace, frame.color_range) == (6, 1)


def test_a_gray_clip_stays_gray(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", times=range(3), pixel_format="gray", codec="ffv1")
    out = run(clip, tmp_path, params=LOSSLESS)
    for before, after in zip(frames_of(clip), frames_of(out), strict=True):
        assert np.abs(native(before).bgr.astype(int) - native(after).bgr).max() < 4


@pytest.mark.parametrize("edit", [None, edited])
def test_an_odd_size_grows_by_a_repeated_edge(edit: object, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", times=range(3), size=(161, 121), codec="ffv1")
    out = run(clip, tmp_path, params=LOSSLESS, edit=edit)
    for before, after in zip(frames_of(clip), frames_of(out), strict=True):
        assert (after.width, after.height) == (162, 122)
        old, new = native(before).bgr.astype(int), native(after).bgr
        assert np.percentile(abs(old - new[:121, :161]), 95) < 8
        luma = after.to_ndarray()[:122]
        assert np.array_equal(luma[:, 160], luma[:, 161])
        assert np.array_equal(luma[120], luma[121])


def test_pictures_of_another_size_are_scaled_to_the_first(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", times=range(4))
    small = make_clip(tmp_path / "small.mp4", times=range(4), size=(160, 120))
    images = [native(frames_of(clip)[0]), native(frames_of(small)[1]), Image.from_bgr(picture(2, 200, 100))]
    out = run(clip, tmp_path, *(item(i, {FRAMES: image}) for i, image in enumerate(images)))
    sizes = {(frame.width, frame.height) for frame in frames_of(out)}
    assert sizes == {(320, 240)}
    shrunk = cv2.resize(frames_of(out)[1].to_ndarray(format="bgr24"), (160, 120))
    assert np.abs(shrunk.astype(int) - picture(1, 160, 120)).mean() < 6


def test_a_crop_shows_its_own_part(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", times=range(2))
    image = native(frames_of(clip)[0])
    out = run(clip, tmp_path, item(0, {FRAMES: image.crop(100, 60, 260, 160)}), params=LOSSLESS)
    (after,) = frames_of(out)
    assert (after.width, after.height) == (160, 100)
    assert np.abs(native(after).bgr.astype(int) - image.bgr[60:160, 100:260]).mean() < 3


def test_the_decoders_frame_is_left_as_it_was(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", times=[7, 9, 12])
    items = list(delivered(clip))
    before = [(i.values[FRAMES].native.frame().pts, i.values[FRAMES].native.frame().pict_type) for i in items]
    run(clip, tmp_path, *items)
    assert [(i.values[FRAMES].native.frame().pts, i.values[FRAMES].native.frame().pict_type) for i in items] == before


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.DROPPED])
def test_an_undelivered_frame_is_a_gap_or_black_where_something_is_hidden(outcome: Outcome, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", times=range(6))
    items = list(delivered(clip))
    for i in (0, 2, 5):
        items[i] = SinkItem("clip", i, items[i].pts, items[i].pts_s, outcome, reason="blur: ValueError", stage="blur")
    out = run(clip, tmp_path, *items, path="gap.mp4")
    assert times(out) == [Fraction(i, 20) for i in (1, 3, 4)]
    out = run(clip, tmp_path, *items, path="black.mp4", hides=True)
    assert times(out) == [Fraction(i, 20) for i in range(6)]
    brightest = [int(frame.to_ndarray(format="gray")[:, ::4].max()) for frame in frames_of(out)]
    assert [value < 24 for value in brightest] == [True, False, True, False, False, True]


@pytest.mark.parametrize("outcome", [Outcome.FILTERED, Outcome.CANCELLED])
def test_a_frame_left_out_on_purpose_is_never_black(outcome: Outcome, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", times=range(4))
    items = list(delivered(clip))
    items[1] = item(1, outcome=outcome, pts=items[1].pts)
    items[2] = item(2, pts=items[2].pts)  # delivered by a run in which the stage was skipped
    assert times(run(clip, tmp_path, *items, hides=True)) == [0, Fraction(3, 20)]


@pytest.mark.parametrize("kind", ["video", "frames"])
def test_where_something_is_hidden_no_other_input_stands_in(kind: str, tmp_path: Path) -> None:
    sink = open_sink(kind, tmp_path, ["$ops.blur.frames", FRAMES], hides=True)
    sink.write(item(0, {"$ops.blur.frames": Image.from_bgr(picture(0)), FRAMES: Image.from_bgr(picture(0))}))
    sink.write(item(1, {FRAMES: Image.from_bgr(picture(1))}))
    (path,) = sink.close()
    assert len(frames_of(path) if kind == "video" else left(path)) == 1


def test_a_frame_that_never_was_a_picture_does_not_move_the_start(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", times=[500, 550, 600], time_base=Fraction(1, 1000))
    items = [item(0, outcome=Outcome.FAILED, stage="source", reason="source: corrupt-packet"), *delivered(clip)]
    assert times(run(clip, tmp_path, *items, hides=True))[0] == 0


def test_without_a_picture_there_is_no_file(tmp_path: Path) -> None:
    sink = open_sink("video", tmp_path, [FRAMES], hides=True)
    sink.write(item(0, outcome=Outcome.FAILED, stage="blur"))
    sink.write(item(1, outcome=Outcome.FILTERED))
    assert sink.close() == []
    assert left(tmp_path) == []


def test_abort_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", audio="aac")
    sink = open_sink("video", tmp_path / "out", [FRAMES], info=info_of(clip), source_uri=str(clip))
    for one in delivered(clip):
        sink.write(one)
    sink.abort()
    sink.abort()
    assert left(tmp_path / "out") == []


def test_a_rate_can_be_capped(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    out = run(clip, tmp_path, params={"fps": 5})
    assert times(out) == [Fraction(i, 5) for i in range(5)]
    assert duration(out) == 1


def test_codec_and_quality_are_parameters(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    sizes = {}
    for name, params in {
        "fine": {"crf": 10},
        "rough": {"crf": 40},
        "slow": {"preset": "medium", "threads": 1},
        "rate": {"bitrate": 60_000},
        "hevc": {"codec": "hevc"},
    }.items():
        out = run(clip, tmp_path, path=f"{name}.mp4", params=params)
        assert times(out) == times(clip)
        sizes[name] = out.stat().st_size
        with av.open(str(out)) as container:
            assert container.streams.video[0].codec_context.name == ("hevc" if name == "hevc" else "h264")
    assert sizes["rough"] < sizes["fine"]


def test_pixels_that_are_not_square_stay_so(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "wide.mp4"), "w") as made:
        stream = made.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(picture(i, 160, 120), format="bgr24")
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    out = run(tmp_path / "wide.mp4", tmp_path)
    with av.open(str(out)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


def test_a_name_that_no_container_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a name in \.mp4"):
        open_sink("video", tmp_path, [FRAMES], path="x.avi")
    assert left(tmp_path) == []


def test_arrays_alone_make_a_video(tmp_path: Path) -> None:
    sink = open_sink("video", tmp_path, ["$ops.a.frames", FRAMES], info=CAM)
    for i in range(5):
        sink.write(item(i, {FRAMES: Image.from_bgr(picture(i))}))
    (out,) = sink.close()
    assert times(out) == [Fraction(i, 25) for i in range(5)]
    assert duration(out) == Fraction(1, 5)
    assert np.abs(frames_of(out)[3].to_ndarray(format="bgr24").astype(int) - picture(3)).mean() < 4


def test_thin_lines_keep_their_colour(tmp_path: Path) -> None:
    drawn = np.full((64, 64, 3), 120, np.uint8)
    for at in (10, 31):  # an even and an odd column: chroma has half the width
        drawn[:, at] = (0, 0, 255)
    sink = open_sink("video", tmp_path, [FRAMES], params=LOSSLESS)
    sink.write(item(0, {FRAMES: Image.from_bgr(drawn)}))
    (out,) = sink.close()
    shown = frames_of(out)[0].to_ndarray(format="bgr24").astype(int)
    for at in (10, 31):
        assert (shown[:, at, 2] - shown[:, at, 0]).mean() > 80


def test_the_fast_conversion_is_bt601() -> None:
    from llamapipe.media.sinks.encoder import _bt601_planes

    corners = np.array(np.meshgrid([0, 128, 255], [0, 77, 255], [0, 200, 255])).reshape(3, 27).T.astype(np.uint8)
    bgr = np.repeat(np.repeat(corners[None], 4, 0), 4, 1)
    b, g, r = (corners[:, i].astype(float) / 255 for i in range(3))
    y = 0.299 * r + 0.587 * g + 0.114 * b
    planes = _bt601_planes(bgr)
    u, v = planes[4:].reshape(2, 2, 54)
    assert np.abs(planes[0, ::4] - (16 + 219 * y)).max() <= 1
    assert np.abs(u[0, ::2] - (128 + 112 * (b - y) / 0.886)).max() <= 1.2
    assert np.abs(v[0, ::2] - (128 + 112 * (r - y) / 0.701)).max() <= 1.2

"""Following things over time: track (ByteTrack)."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Boxes, Image, Tracks
from llamapipe.operator import Context, Inputs, Manifest, Operator, Outputs, Param, Port, PortKind, State

__all__ = ["Track"]

_DEFAULT_FPS = 30.0
_LIBRARY_FPS = 30.0  # the rate in whose frames the trackers package counts how long to keep a lost track


class Track(Operator):
    """Give each thing one id for as long as it is seen (ByteTrack).

    Ids are whole numbers from 1 on, in order of appearance, and each stream has its own: a second video starts at 1
    again. A box gets its id once it has been matched in `min_frames` frames in a row; until then it is left out, so
    that counting ids counts things and not flicker (`keep_unconfirmed` passes such boxes on with track_id -1). Boxes
    keep the detector's place and score, in the detector's order.

    Let the detector keep weak boxes (a `min_score` of at most `weak_score`): ByteTrack uses them to hold on to things
    that are half hidden, and never starts a track with one. Connect `frames` where the frame rate varies or frames
    were filtered before: time then follows their time stamps instead of the nominal rate.

    Restarts: a snapshot holds the whole state of the filters (mean and covariance of each track, its counters, its
    id), so a restored tracker goes on as if nothing had happened.
    """

    manifest: ClassVar[Manifest] = Manifest(
        type="llamapipe/track@v1",
        doc=cleandoc(__doc__ or ""),
        inputs={
            "boxes": Port(PortKind.BOXES, "what was found in each frame, in order"),
            "frames": Port(PortKind.FRAMES, "the frames, only for their time stamps", optional=True),
        },
        outputs={"tracks": Port(PortKind.TRACKS, "the boxes that belong to a track, with its id")},
        params={
            "start_score": Param(
                float, 0.5, "a new track starts with a box of at least this score", minimum=0, maximum=1
            ),
            "sure_score": Param(
                float,
                0.4,
                "boxes of at least this score are matched first, weaker ones to what is left",
                minimum=0,
                maximum=1,
            ),
            "weak_score": Param(
                float, 0.2, "boxes below this score are not looked at: they are mostly flicker", minimum=0, maximum=1
            ),
            "min_iou": Param(
                float, 0.1, "least overlap (IoU) of a box with where its track should be", minimum=0, maximum=1
            ),
            "min_frames": Param(
                int, 2, "frames in a row that a thing must be seen to get its id; 1 is as 2", minimum=1, maximum=1000
            ),
            "keep_s": Param(
                float, 1.0, "seconds that a track waits for its thing to come back", minimum=0, maximum=3600
            ),
            "per_label": Param(bool, False, "never let a track change its label (car to truck, say)"),
            "keep_unconfirmed": Param(bool, False, "also pass boxes without a track, with track_id -1"),
        },
        state=State.PER_STREAM,
    )

    @classmethod
    def warm_up(cls) -> None:
        """Imports of up to a second, and what linear algebra sets up for a first match, of which no frame is to wait.

        The latter was seen to stop everything for 25 ms in the second frame.
        """
        import supervision
        from trackers import ByteTrackTracker

        tracker = ByteTrackTracker()
        for shift in range(3):
            tracker.update(
                supervision.Detections(
                    xyxy=np.array([[10.0 + shift, 10.0, 50.0 + shift, 90.0], [100.0, 10.0 + shift, 150.0, 80.0]]),
                    confidence=np.array([0.9, 0.8]),
                    class_id=np.array([0, 0]),
                )
            )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._fps = context.fps if context.fps > 0 else _DEFAULT_FPS
        self._trackers: dict[str, Any] = {}  # by label, or one under "" for all labels
        self._ids: dict[tuple[str, int], int] = {}  # (tracker, its own id) -> our id, of tracks that live
        self._next_id = 1
        self._last_s: float | None = None

    def process(self, inputs: Inputs) -> Outputs:
        """Match the boxes of the next frame of the stream."""
        boxes: Boxes = inputs["boxes"]
        image: Image | None = inputs.get("frames")
        timestamp_s = None if image is None else self._advance(image.pts_s)
        track_id = np.full(len(boxes), -1, np.int64)
        looked_at = boxes.score >= float(self.params["weak_score"])
        for key, members in self._groups(boxes, looked_at):
            track_id[members] = self._matched(key, boxes, members, timestamp_s)
        tracks = Tracks(boxes.xyxy, boxes.score, boxes.label, boxes.names, track_id)
        return {"tracks": tracks if self.params["keep_unconfirmed"] else tracks.select(track_id >= 0)}

    def _advance(self, pts_s: float) -> float:
        # Two frames of one time stamp (coarse containers) must still count as two steps, or the library warns.
        self._last_s = pts_s if self._last_s is None else max(pts_s, self._last_s + 1e-6)
        return self._last_s

    def _groups(self, boxes: Boxes, looked_at: NDArray[np.bool_]) -> list[tuple[str, NDArray[np.intp]]]:
        """Which boxes go to which tracker. Every tracker known gets its turn: time passes for all of them."""
        if not self.params["per_label"]:
            return [("", np.flatnonzero(looked_at))]
        labels = np.array(boxes.labels, dtype=object)
        keys = dict.fromkeys([*self._trackers, *labels[looked_at].tolist()])
        return [(key, np.flatnonzero((labels == key) & looked_at)) for key in keys]

    def _matched(
        self, key: str, boxes: Boxes, members: NDArray[np.intp], timestamp_s: float | None
    ) -> NDArray[np.int64]:
        """Our track ids (k,) of the boxes ``members`` (k,), -1 for those without a track."""
        import supervision

        tracker = self._trackers.get(key)
        if tracker is None:
            if not len(members):
                return np.empty(0, np.int64)
            tracker = self._trackers[key] = self._new_tracker()
        found = tracker.update(
            supervision.Detections(
                xyxy=boxes.xyxy[members],
                confidence=boxes.score[members],
                class_id=boxes.label[members].astype(int),
                data={"position": np.arange(len(members))},  # the library reorders boxes: this brings them back
            ),
            timestamp=timestamp_s,
        )
        ours = np.full(len(members), -1, np.int64)
        if len(found):
            for position, theirs in sorted(
                zip(found.data["position"].tolist(), found.tracker_id.tolist(), strict=True)
            ):
                if theirs >= 0:
                    ours[position] = self._our_id(key, theirs)
        alive = {(key, track.tracker_id) for track in tracker.tracks}
        self._ids = {theirs: mine for theirs, mine in self._ids.items() if theirs[0] != key or theirs in alive}
        return ours

    def _our_id(self, key: str, theirs: int) -> int:
        mine = self._ids.get((key, theirs))
        if mine is None:
            mine = self._ids[key, theirs] = self._next_id
            self._next_id += 1
        return mine

    def _new_tracker(self) -> Any:
        from trackers import ByteTrackTracker

        return ByteTrackTracker(
            lost_track_buffer=round(float(self.params["keep_s"]) * _LIBRARY_FPS),
            frame_rate=self._fps,
            track_activation_threshold=float(self.params["start_score"]),
            minimum_consecutive_frames=int(self.params["min_frames"]),
            minimum_iou_threshold=float(self.params["min_iou"]),
            high_conf_det_threshold=float(self.params["sure_score"]),
        )

    def snapshot(self) -> Any:
        """Filters, counters and ids as plain data."""
        return {
            "next_id": self._next_id,
            "last_s": self._last_s,
            "ids": [[key, theirs, mine] for (key, theirs), mine in self._ids.items()],
            "trackers": {key: _tracker_state(tracker) for key, tracker in self._trackers.items()},
        }

    def restore(self, state: Any) -> None:
        """See `snapshot`."""
        self._next_id = state["next_id"]
        self._last_s = state["last_s"]
        self._ids = {(key, theirs): mine for key, theirs, mine in state["ids"]}
        self._trackers = {}
        for key, tracker_state in state["trackers"].items():
            self._trackers[key] = self._new_tracker()
            _restore_tracker(self._trackers[key], tracker_state)


_COUNTERS = (
    "tracker_id",
    "age",
    "time_since_update",
    "time_since_update_seconds",
    "number_of_successful_consecutive_updates",
)


def _tracker_state(tracker: Any) -> dict[str, Any]:
    return {
        "next": tracker._next_track_id,
        "last_s": tracker._last_timestamp,
        "tracks": [
            {
                **{name: getattr(track, name) for name in _COUNTERS},
                "mean": track.state_estimator.kf.state.ravel().tolist(),
                "covariance": track.state_estimator.kf.state_covariance.ravel().tolist(),
            }
            for track in tracker.tracks
        ],
    }


def _restore_tracker(tracker: Any, state: dict[str, Any]) -> None:
    """The noise matrices are constants of the library, and come with a new track of the same kind."""
    from trackers.core.bytetrack.tracklet import ByteTrackTracklet

    tracker._next_track_id = state["next"]
    tracker._last_timestamp = state["last_s"]
    tracker.tracks = []
    for entry in state["tracks"]:
        track = ByteTrackTracklet(np.array(entry["mean"][:4]), tracker.state_estimator_class)
        for name in _COUNTERS:
            setattr(track, name, entry[name])
        filter_state = track.state_estimator.get_state()
        filter_state["state"] = np.array(entry["mean"], np.float64).reshape(-1, 1)
        filter_state["state_covariance"] = np.array(entry["covariance"], np.float64).reshape(
            filter_state["state_covariance"].shape
        )
        track.state_estimator.set_state(filter_state)
        tracker.tracks.append(track)

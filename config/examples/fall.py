"""Tells who stood a moment ago and now lies: the box of a track has become wider than it is high."""

from engines.types import Detections
from streamer.types import Frame, Note


class Fall:
    reads = (Detections,)  # what is expected of each node in `reads`, in order
    writes = Note

    def __init__(self, ratio: float = 1.3) -> None:
        self.ratio = ratio
        self.upright: set[int] = set()

    def __call__(self, frame: Frame, tracks: Detections | None) -> Note | None:
        if tracks is None or tracks.track_id is None:
            return None
        width, height = (tracks.xyxy[:, 2:] - tracks.xyxy[:, :2]).T
        lying = set(tracks.track_id[width > self.ratio * height].tolist())
        fallen = self.upright & lying
        self.upright = set(tracks.track_id.tolist()) - lying
        events = [{"kind": "fell", "track_id": track, "pts": frame.pts} for track in sorted(fallen)]
        return Note("fall", {"lying": sorted(lying)}, events)

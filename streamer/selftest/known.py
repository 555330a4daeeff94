"""The node that clips are cut around: who is truly there, so that every runtime is asked about the same clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from engines.types import Detections, Int
from engines.world import CLASSES
from streamer.types import Frame

NODE = f"{__name__}:Known"  # as ``kind: python`` names it
SUFFIX = ".known.npz"


class Known:
    """Say who is there in each frame of the films in a *folder*, by the frame's camera and media time."""

    reads: tuple[type, ...] = ()
    writes = Detections
    labels = CLASSES

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fps = 0.0
        self._objects: Mapping[int, Detections] = {}

    def __call__(self, frame: Frame) -> Detections | None:
        if not self._fps:  # there is one of us a camera, but only its frames say which
            self._fps, self._objects = _read(self._folder / f"{frame.camera}{SUFFIX}")
        return self._objects.get(round(frame.pts * self._fps))


def write(path: Path, fps: float, objects: Sequence[Detections]) -> None:
    """Write down who is there in each frame of a film; all have numbers."""
    np.savez(
        path,
        fps=fps,
        counts=[len(each) for each in objects],
        xyxy=np.concatenate([each.xyxy for each in objects]),
        class_id=np.concatenate([each.class_id for each in objects]),
        track_id=np.concatenate([_numbers(each) for each in objects]),
    )


def _numbers(objects: Detections) -> Int:
    assert objects.track_id is not None, "the truth numbers all"  # noqa: S101 - for the type checker
    return objects.track_id


def _read(path: Path) -> tuple[float, Mapping[int, Detections]]:
    with np.load(path) as file:
        counts = file["counts"]
        ends = np.cumsum(counts)
        xyxy, class_id, track_id = (np.split(file[name], ends[:-1]) for name in ("xyxy", "class_id", "track_id"))
        sure = (np.ones(n, np.float32) for n in counts)
        rows = zip(xyxy, class_id, sure, track_id, strict=True)
        return float(file["fps"]), {index: Detections(*columns) for index, columns in enumerate(rows)}

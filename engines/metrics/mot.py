"""How well objects are followed: MOTA, IDF1 and HOTA, as motrics computes them (the figures of TrackEval, bit for bit).

Bernardin and Stiefelhagen 2008, https://doi.org/10.1155/2008/246309 (MOTA); Ristani et al. 2016,
https://arxiv.org/abs/1609.01775 (IDF1); Luiten et al. 2021, https://arxiv.org/abs/2009.07736 (HOTA).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import motrics
import numpy as np

from engines.types import Detections


@dataclass(frozen=True, slots=True)
class Figures:
    """How well the objects of one class were followed through one sequence; shares in 0..1, MOTA may be negative."""

    mota: float  # 1 - (misses + false alarms + switches) / true boxes, at IoU 0.5
    idf1: float  # F1 of boxes that have the right number, at IoU 0.5
    hota: float  # root of detection times association accuracy, over IoU 0.05 … 0.95
    detection: float  # HOTA's DetA
    association: float  # HOTA's AssA
    misses: int
    false_alarms: int
    switches: int  # how often a true object's number changed


def evaluate(truth: Sequence[Detections], tracked: Sequence[Detections]) -> Figures:
    """Compare what was *tracked* in each frame with its *truth*; both have track ids, and classes do not count.

    Raises ValueError when they are not as many frames, when ids are missing, or one comes twice in a frame.
    """
    if len(truth) != len(tracked):
        raise ValueError(f"the truth has {len(truth)} frames, but {len(tracked)} were tracked")
    done = motrics.evaluate(_frames(truth), _frames(tracked))
    clear, hota = done.clear, done.hota
    return Figures(
        mota=clear.mota,
        idf1=done.identity.idf1,
        hota=hota.hota,
        detection=hota.deta,
        association=hota.assa,
        misses=clear.num_misses,
        false_alarms=clear.num_false_positives,
        switches=clear.num_switches,
    )


def _frames(sequence: Sequence[Detections]) -> motrics.Frames:
    return motrics.Frames([_ids(each) for each in sequence], [each.xyxy.astype(np.float64) for each in sequence])


def _ids(objects: Detections) -> list[int]:
    if objects.track_id is None:
        if not len(objects):
            return []
        raise ValueError("objects have no track ids, so how they are followed cannot be measured")
    ids: list[int] = objects.track_id.tolist()
    if len(set(ids)) < len(ids):
        raise ValueError("two objects of one frame have the same track id; each may be there once")
    return ids

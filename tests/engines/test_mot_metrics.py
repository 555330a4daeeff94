from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from crowds import Greedy, crowd

from engines.boxes import iou
from engines.types import Detections, Int

pytest.importorskip("motrics", reason="motrics is not installed: pip install 'streamer[test]'")

from engines.metrics.mot import evaluate

PLACES = {"a": (0, 0, 10, 20), "b": (100, 0, 110, 20), "nowhere": (500, 500, 510, 520)}


def frame(**ids: int) -> Detections:
    boxes = np.array([PLACES[place] for place in ids], np.float32).reshape(-1, 4)
    n = len(ids)
    return Detections(boxes, np.zeros(n, np.int32), np.ones(n, np.float32), np.array([*ids.values()], np.int32))


TRUTH = [frame(a=1, b=2)] * 4


def test_following_without_a_fault_is_one() -> None:
    got = evaluate(TRUTH, [frame(a=7, b=3)] * 4)
    assert (got.mota, got.idf1, got.hota) == (1, 1, 1)
    assert (got.misses, got.false_alarms, got.switches) == (0, 0, 0)


def test_figures_worked_out_by_hand() -> None:
    """Numbers are exchanged after two frames; in the last, one object is missed and a box is where nothing is."""
    got = evaluate(TRUTH, [frame(a=1, b=2), frame(a=1, b=2), frame(a=2, b=1), frame(b=1, nowhere=9)])
    assert (got.misses, got.false_alarms, got.switches) == (1, 1, 2)
    assert got.mota == pytest.approx(1 - 4 / 8)
    assert got.idf1 == pytest.approx(4 / 8)  # a is 1 and b is 2: four of eight true boxes, four of eight found ones
    assert got.detection == pytest.approx(7 / 9)
    # Of pairs that agree n times, n / (times of the true + times of the found - n), for each box that is found.
    association = (2 * 2 / 6 + 2 * 2 / 6 + 2 * 2 / 5 + 1 / 6) / 7
    assert got.association == pytest.approx(association)
    assert got.hota == pytest.approx(math.sqrt(7 / 9 * association))


def test_nothing_found_and_nothing_there() -> None:
    nothing = [Detections.empty()] * 4
    assert evaluate(TRUTH, nothing).misses == 8
    assert evaluate(nothing, TRUTH).false_alarms == 8
    assert evaluate(TRUTH, nothing).hota == 0


@pytest.mark.parametrize(
    ("tracked", "says"),
    [
        ([frame(a=1)], "4 frames, but 1"),
        ([frame(a=1, b=1)] * 4, "same track id"),
        ([Detections(*[getattr(frame(a=1), c) for c in ("xyxy", "class_id", "confidence")])] * 4, "no track ids"),
    ],
)
def test_what_cannot_be_measured_is_refused(tracked: Sequence[Detections], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        evaluate(TRUTH, tracked)


def test_the_figures_are_those_of_trackeval() -> None:
    """TrackEval is the reference for HOTA; its package wants a second OpenCV, so it is not among our extras."""
    metrics = pytest.importorskip(
        "trackeval.metrics", reason="TrackEval is not installed: pip install --no-deps trackeval tabulate"
    )
    shots = crowd(12, 6, seed=4)
    tracker = Greedy()
    truth, tracked = [shot.truth for shot in shots], [tracker.update(shot.found, shot.pts) for shot in shots]
    data: dict[str, Any] = {
        "gt_ids": [ids(each) for each in dense(truth)],
        "tracker_ids": [ids(each) for each in dense(tracked)],
        "similarity_scores": [
            iou(a.xyxy.astype(np.float64), b.xyxy.astype(np.float64)) for a, b in zip(truth, tracked, strict=True)
        ],
        "num_timesteps": len(shots),
    }
    for side in ("gt", "tracker"):
        data[f"num_{side}_ids"] = len(np.unique(np.concatenate(data[f"{side}_ids"])))
        data[f"num_{side}_dets"] = sum(map(len, data[f"{side}_ids"]))
    got, quiet = evaluate(truth, tracked), {"PRINT_CONFIG": False}
    measures = metrics.CLEAR(quiet), metrics.Identity(quiet), metrics.HOTA()
    clear, identity, hota = (measure.eval_sequence(data) for measure in measures)
    assert got.mota == pytest.approx(clear["MOTA"], abs=1e-12)
    assert got.switches == clear["IDSW"]
    assert got.idf1 == pytest.approx(identity["IDF1"], abs=1e-12)
    assert got.hota == pytest.approx(float(np.mean(hota["HOTA"])), abs=1e-12)
    assert got.association == pytest.approx(float(np.mean(hota["AssA"])), abs=1e-12)


def dense(sequence: Sequence[Detections]) -> list[Detections]:
    """Number objects from nought on without gaps, as TrackEval wants them."""
    known = np.unique(np.concatenate([ids(each) for each in sequence]))
    return [
        Detections(each.xyxy, each.class_id, each.confidence, np.searchsorted(known, ids(each)).astype(np.int32))
        for each in sequence
    ]


def ids(objects: Detections) -> Int:
    assert objects.track_id is not None
    return objects.track_id

"""Figures, in hundredths, of what was published, against what is true."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from engines.boxes import iou
from engines.metrics import coco, mot
from engines.metrics.actions import top_k
from engines.metrics.flow import FlowError, flow_error
from engines.metrics.truth import Found
from engines.motion import upsample
from engines.types import Bool, Detections, Float
from engines.world import ACTIONS
from engines.world.truth import annotated
from streamer.selftest.films import Moment
from streamer.selftest.lineup import Measure
from streamer.selftest.reading import Reel, detections, masks
from streamer.selftest.spans import Span, spans
from streamer.wire import DetectionsResult

Reels = Sequence[Reel]
_SAME = 0.5  # IoU from which two boxes are of the same object
_APART = 1_000_000  # between the track ids of two films
_ACTION = {name: index for index, name in enumerate(ACTIONS)}


def measure(how: Measure, reels: Reels, node: str) -> float:
    """Measure what a node found; NaN where it has found nothing that could be measured."""
    return 100 * _MEASURES[how](reels, node)


def boxes(reels: Reels, node: str) -> float:
    """Average precision of boxes at IoU 0.50."""
    return _precision(reels, node, "boxes")


def outlines(reels: Reels, node: str) -> float:
    """Average precision of masks at IoU 0.50."""
    return _precision(reels, node, "masks")


def _precision(reels: Reels, node: str, kind: coco.Kind) -> float:
    shown = [(reel.footage.scenes[index], each) for reel in reels for index, each in _sampled(reel, node)]
    if not shown:
        return float("nan")
    found = {i: Found(detections(each), masks(each) if kind == "masks" else None) for i, (_, each) in enumerate(shown)}
    if kind == "masks" and any(each.masks is None for each in found.values()):
        return float("nan")
    return coco.evaluate(annotated([scene for scene, _ in shown]), found, kind).summary.ap50


def _sampled(reel: Reel, node: str) -> Iterator[tuple[int, DetectionsResult]]:
    return ((index, each) for index, each in reel.objects(node) if index in reel.footage.scenes)


def identity(reels: Reels, node: str) -> float:
    """IDF1: how many boxes have the number of their object, where it can well be seen."""
    true: list[Detections] = []
    tracked: list[Detections] = []
    for number, reel in enumerate(reels):
        for index, each in reel.objects(node):
            moment, found = reel.footage.moments[index], detections(each)
            true.append(_renumbered(moment.objects[~moment.doubtful], number))
            tracked.append(_renumbered(found[~_on_doubtful(found, moment)], number))
    return mot.evaluate(true, tracked).idf1 if true else float("nan")


def _on_doubtful(found: Detections, moment: Moment) -> Bool:
    """Say which boxes (N,) show an object that nobody can be blamed for finding."""
    if not len(found) or not len(moment.objects):
        return np.zeros(len(found), np.bool_)
    overlap = iou(found.xyxy, moment.objects.xyxy)
    best = overlap.argmax(axis=1)
    out: Bool = (overlap.max(axis=1) >= _SAME) & moment.doubtful[best]
    return out


def _renumbered(objects: Detections, film: int) -> Detections:
    ids = objects.track_id
    return objects if ids is None else replace(objects, track_id=ids + np.int32(film * _APART))


def endpoint(reels: Reels, node: str) -> float:
    """Endpoint error of the whole fields that were published last, as a share of that of no motion at all."""
    fields = [(reel, reel.fields[node]) for reel in reels if node in reel.fields]
    ended = [(reel, each) for reel, each in fields if reel.film.index(each.pts) == reel.film.frames - 1]
    if len(ended) < len(reels):
        return float("nan")
    error = FlowError.mean(_error(reel, each.flow.uv) for reel, each in ended)
    still = FlowError.mean(_error(reel, np.zeros((1, 1, 2), np.float32)) for reel in reels)
    return error.endpoint / still.endpoint


def _error(reel: Reel, found: Float) -> FlowError:
    truth = reel.footage.motion
    height, width = truth.known.shape
    return flow_error(truth.uv, upsample(found, (height, width)), truth.known)


def action(reels: Reels, node: str) -> float:
    """Top-1 over the clips that show one object doing one thing."""
    scored = [span for reel in reels for span in spans(reel, node)]
    if not scored:
        return float("nan")
    return top_k([span.action for span in scored], np.stack([_probs(span) for span in scored])).top1


def _probs(span: Span) -> Float:
    probs = np.zeros(len(ACTIONS), np.float32)
    for each in span.told.labels:
        if each.label in _ACTION:
            probs[_ACTION[each.label]] = each.score
    return probs


_MEASURES: Mapping[Measure, Callable[[Reels, str], float]] = {
    "boxes": boxes,
    "masks": outlines,
    "identity": identity,
    "endpoint": endpoint,
    "action": action,
}

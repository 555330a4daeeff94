"""Packets to bytes. Column by column: no scalar of NumPy is ever touched one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic_core import to_json

from engines.types import Array, Detections, Flow
from streamer.types import Actions, Packet, Windows
from streamer.wire.messages import SCHEMA, WireError

Labels = Sequence[str]
TOP = 5  # labels an action keeps
GRID = (9, 16)  # rows and columns of a flow's summary


class Encoder:
    """Write packets as messages of schema 1; *labels* are the class names of each node.

    Only *nodes* are written, or without them every node but those that hold pixels.
    """

    def __init__(self, labels: Mapping[str, Labels], nodes: Sequence[str] | None = None) -> None:
        self._labels = labels
        self._nodes = None if nodes is None else frozenset(nodes)

    def __call__(self, packet: Packet) -> bytes:
        """Return compact JSON. Raise WireError when a value has no form on the wire or is not finite."""
        frame = packet.frame
        height, width = frame.image.shape[:2]
        message = {
            "schema": SCHEMA,
            "camera": frame.camera,
            "seq": frame.seq,
            "pts": _finite(round(frame.pts, 3), "pts"),
            "captured_at": _finite(round(frame.captured_at, 3), "captured_at"),
            "size": (width, height),
            "results": {
                node: self._result(node, value) for node, value in packet.values.items() if self._wants(node, value)
            },
            "latency_ms": _latency(packet),
        }
        return to_json(message)

    def _wants(self, node: str, value: object) -> bool:
        return not isinstance(value, Windows) if self._nodes is None else node in self._nodes

    def _result(self, node: str, value: object) -> dict[str, Any]:
        encode = _ENCODERS.get(type(value))
        if encode is None:
            known = ", ".join(kind.__name__ for kind in _ENCODERS)
            raise WireError(f"node {node}: {type(value).__name__} has no form on the wire; publish nodes of {known}")
        try:
            return encode(value, self._labels.get(node, ()))
        except _NotFinite as error:
            raise WireError(f"node {node}: {error} is not finite; check its model and its precision") from error


class _NotFinite(Exception):  # noqa: N818 - never leaves this module
    """Says which field."""


def _latency(packet: Packet) -> dict[str, float]:
    times = {step: _finite(round(ms, 3), f"latency of {step}") for step, ms in packet.latency_ms.items()}
    if packet.marked_ns is not None:
        times["total"] = round((packet.marked_ns - packet.frame.grabbed_ns) / 1e6, 3)
    return times


def _finite(value: float, name: str) -> float:
    if not math.isfinite(value):
        raise WireError(f"{name}: {value} is not finite; check the source")
    return value


def _rounded(array: Array, decimals: int, name: str) -> Any:
    """Turn an array into lists of short floats. Float64 first: a rounded float32 is long again; + 0.0: no -0.0."""
    doubles: npt.NDArray[np.float64] = array.astype(np.float64)
    if not np.isfinite(doubles).all():
        raise _NotFinite(name)
    return (doubles.round(decimals) + 0.0).tolist()


def _name(labels: Labels, class_id: int) -> str:
    return labels[class_id] if 0 <= class_id < len(labels) else str(class_id)


def _detections(value: Detections, labels: Labels) -> dict[str, Any]:
    boxes = _rounded(value.xyxy, 2, "a box")
    class_ids = value.class_id.tolist()
    confidences = _rounded(value.confidence, 4, "a confidence")
    items = [
        {"box": box, "label": _name(labels, class_id), "class_id": class_id, "confidence": confidence}
        for box, class_id, confidence in zip(boxes, class_ids, confidences, strict=True)
    ]
    if value.track_id is not None:
        for item, track_id in zip(items, value.track_id.tolist(), strict=True):
            item["track_id"] = track_id
    return {"kind": "detections", "items": items}


def _flow(value: Flow, _labels: Labels) -> dict[str, Any]:
    if not value.uv.size:
        raise _NotFinite("the mean of a flow without pixels")
    if not np.isfinite(value.uv).all():
        raise _NotFinite("a vector")
    magnitude = np.linalg.norm(value.uv, axis=2)
    mean, p95 = _rounded(np.array([magnitude.mean(dtype=np.float64), np.percentile(magnitude, 95)]), 3, "a magnitude")
    return {
        "kind": "flow",
        "mean": _rounded(value.uv.mean(axis=(0, 1), dtype=np.float64), 3, "the mean"),
        "magnitude": {"mean": mean, "p95": p95},
        "grid": {"size": GRID, "uv": _rounded(_cells(value.uv).reshape(-1, 2), 3, "the grid")},
    }


def _cells(uv: Array) -> npt.NDArray[np.float64]:
    """Average (H, W, 2) over a grid of cells. Where pixels are fewer than cells, neighbours share one."""
    cells: npt.NDArray[np.float64] = uv.astype(np.float64)
    for axis, count in enumerate(GRID):
        size = cells.shape[axis]
        edges = np.arange(count + 1) * size // count
        counts = np.maximum(np.diff(edges), 1).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        cells = np.add.reduceat(cells, edges[:-1], axis=axis) / counts
    return cells


def _actions(value: Actions, labels: Labels) -> dict[str, Any]:
    items = []
    for action in value.items:
        track = {} if action.track_id is None else {"track_id": action.track_id}
        best = np.argsort(-action.scores.probs, kind="stable")[:TOP]
        scores = _rounded(action.scores.probs[best], 4, "a score")
        top = [{"label": _name(labels, i), "score": s} for i, s in zip(best.tolist(), scores, strict=True)]
        items.append({**track, "first_seq": action.first_seq, "last_seq": action.last_seq, "labels": top})
    return {"kind": "actions", "items": items}


# A new kind of value is one function and one row.
_ENCODERS: dict[type, Callable[[Any, Labels], dict[str, Any]]] = {
    Detections: _detections,
    Flow: _flow,
    Actions: _actions,
}

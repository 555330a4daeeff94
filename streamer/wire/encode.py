"""Packets to bytes, column by column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, compress, islice
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from pydantic_core import to_json

from engines.geometry import Size
from engines.types import Array, Detections, Float, Flow, Masks
from streamer.types import Actions, Crossings, Frame, Note, Occupancy, Packet
from streamer.wire import scene
from streamer.wire.base import SCHEMA, WireError
from streamer.wire.facts import NOTHING, MaskForm, NodeFacts
from streamer.wire.fields import encode_field
from streamer.wire.values import NotFinite, finite, name_of, rounded

GRID = (9, 16)  # rows and columns of a flow's summary


@dataclass(frozen=True, slots=True)
class Beside:
    """What goes with a message, each to a place of its own."""

    events: tuple[bytes, ...] = ()
    fields: Mapping[str, bytes] = field(default_factory=dict)  # whole flow fields by node


class Encoder:
    """Write packets as messages of schema 1; *facts* say what is known of each node.

    Only *nodes* are written, or without them every node whose values have a form on the wire. A packet is encoded
    once, however many sinks that share an encoder ask for it.
    """

    def __init__(self, facts: Mapping[str, NodeFacts], nodes: Sequence[str] | None = None) -> None:
        self._facts = facts
        self._nodes = None if nodes is None else frozenset(nodes)
        self._written: WeakKeyDictionary[Packet, bytes] = WeakKeyDictionary()  # as long as the packets live

    def __call__(self, packet: Packet) -> bytes:
        """Return compact JSON. Raise WireError when a value has no form on the wire or is not finite."""
        message = self._written.get(packet)
        if message is None:
            message = self._written[packet] = self._encode(packet)
        return message

    def beside(self, packet: Packet) -> Beside:
        """Return what goes with the packet's message. Raise WireError as for the message itself."""
        wanted = {node: value for node, value in packet.values.items() if self._wants(node, value)}
        events = tuple(event for node, value in wanted.items() for event in self._events(node, value, packet.frame))
        fields = {
            node: encode_field(node, value, packet.frame)
            for node, value in wanted.items()
            if isinstance(value, Flow) and self._facts.get(node, NOTHING).field
        }
        return Beside(events, fields)

    def _events(self, node: str, value: object, frame: Frame) -> Iterator[bytes]:
        if not getattr(value, "events", ()):
            return
        with _naming(node):
            for event in _happenings(value, self._facts.get(node, NOTHING), frame):
                yield to_json({**_head(frame), "node": node, "event": event})

    def _encode(self, packet: Packet) -> bytes:
        frame = packet.frame
        height, width = frame.image.shape[:2]
        message = {
            **_head(frame),
            "size": (width, height),
            "results": {
                node: self._result(node, value, frame)
                for node, value in packet.values.items()
                if self._wants(node, value)
            },
            "latency_ms": _latency(packet),
        }
        return to_json(message)

    def _wants(self, node: str, value: object) -> bool:
        return encodable(type(value)) if self._nodes is None else node in self._nodes

    def _result(self, node: str, value: object, frame: Frame) -> dict[str, Any]:
        encode = _encoder_of(type(value))
        if encode is None:
            known = ", ".join(kind.__name__ for kind in _ENCODERS)
            raise WireError(f"node {node}: {type(value).__name__} has no form on the wire; publish nodes of {known}")
        with _naming(node):
            return encode(value, self._facts.get(node, NOTHING), frame)


@contextmanager
def _naming(node: str) -> Iterator[None]:
    """Say whose value is none."""
    try:
        yield
    except NotFinite as error:
        raise WireError(f"node {node}: {error} is not finite; check its model and its precision") from error


def encodable(kind: type) -> bool:
    """Tell whether values of this class have a form on the wire."""
    return _encoder_of(kind) is not None


def _encoder_of(kind: type) -> _Encode | None:
    return _ENCODERS.get(kind) or next((encode for k, encode in _ENCODERS.items() if issubclass(kind, k)), None)


def _happenings(value: object, facts: NodeFacts, frame: Frame) -> Iterable[dict[str, Any]]:
    match value:
        case Actions() | Crossings() | Occupancy():
            return (scene.happened(event, facts) for event in value.events)
        case Note():
            return scene.told(value, frame.pts)
    return ()


def _head(frame: Frame) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "camera": frame.camera,
        "seq": frame.seq,
        "pts": finite(round(frame.pts, 3), "pts"),
        "captured_at": finite(round(frame.captured_at, 3), "captured_at"),
    }


def _latency(packet: Packet) -> dict[str, float]:
    times = {step: finite(round(ms, 3), f"latency of {step}") for step, ms in packet.latency_ms.items()}
    if packet.marked_ns is not None:
        times["total"] = round((packet.marked_ns - packet.frame.grabbed_ns) / 1e6, 3)
    return times


def _detections(value: Detections, facts: NodeFacts, frame: Frame) -> dict[str, Any]:
    boxes = rounded(value.xyxy, 2, "a box")
    class_ids = value.class_id.tolist()
    confidences = rounded(value.confidence, 4, "a confidence")
    items = [
        {"box": box, "label": name_of(facts, class_id), "class_id": class_id, "confidence": confidence}
        for box, class_id, confidence in zip(boxes, class_ids, confidences, strict=True)
    ]
    for key, column in _optional_columns(value, facts, frame):
        for item, cell in zip(items, column, strict=True):
            item[key] = cell
    return {"kind": "detections", "items": items}


def _optional_columns(value: Detections, facts: NodeFacts, frame: Frame) -> Iterator[tuple[str, Sequence[Any]]]:
    if value.track_id is not None:
        yield "track_id", value.track_id.tolist()
    if value.masks is not None and facts.masks != "none":
        key, encode = _MASKS[facts.masks]
        height, width = frame.image.shape[:2]
        yield key, encode(value.masks, value.xyxy, (height, width))
    if value.regions is not None and facts.regions:
        names = [region.name for region in facts.regions]
        yield "regions", [list(compress(names, row)) for row in value.regions.tolist()]


def _run_lengths(masks: Masks, xyxy: Float, size: Size) -> list[dict[str, Any]]:
    from engines.masks import encode_masks  # here, for who only reads messages needs no OpenCV

    return [{"size": rle.size, "counts": rle.counts.decode("ascii")} for rle in encode_masks(masks, xyxy, size)]


def _outlines(masks: Masks, xyxy: Float, size: Size) -> list[list[Any]]:
    from engines.masks import polygons  # as above

    objects = polygons(masks, xyxy, size)
    points = np.concatenate([*chain(*objects), np.zeros((0, 2), np.float32)])  # all at once: most outlines are short
    rest = iter(rounded(points, 1, "an outline"))
    return [[list(islice(rest, len(line))) for line in lines] for lines in objects]


_MASKS: dict[MaskForm, tuple[str, Callable[[Masks, Float, Size], Sequence[Any]]]] = {
    "rle": ("mask", _run_lengths),
    "polygons": ("polygons", _outlines),
}


def _flow(value: Flow, _facts: NodeFacts, _frame: Frame) -> dict[str, Any]:
    if not value.uv.size:
        raise NotFinite("the mean of a flow without pixels")
    if not np.isfinite(value.uv).all():
        raise NotFinite("a vector")
    magnitude = np.linalg.norm(value.uv, axis=2)
    mean, p95 = rounded(np.array([magnitude.mean(dtype=np.float64), np.percentile(magnitude, 95)]), 3, "a magnitude")
    seconds = {} if value.seconds is None else {"seconds": rounded(np.array(value.seconds), 6, "the time")}
    return {
        "kind": "flow",
        **seconds,
        "mean": rounded(value.uv.mean(axis=(0, 1), dtype=np.float64), 3, "the mean"),
        "magnitude": {"mean": mean, "p95": p95},
        "grid": {"size": GRID, "uv": rounded(_cells(value.uv).reshape(-1, 2), 3, "the grid")},
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


def _actions(value: Actions, facts: NodeFacts, _frame: Frame) -> dict[str, Any]:
    return scene.actions(value, facts)


def _note(value: Note, _facts: NodeFacts, frame: Frame) -> dict[str, Any]:
    return scene.noted(value, frame.pts)


def _lines(value: Crossings, facts: NodeFacts, _frame: Frame) -> dict[str, Any]:
    return scene.lines(value, facts)


def _zones(value: Occupancy, facts: NodeFacts, _frame: Frame) -> dict[str, Any]:
    return scene.zones(value, facts)


# A new kind of value is one function and one row.
_Encode = Callable[[Any, NodeFacts, Frame], dict[str, Any]]
_ENCODERS: dict[type, _Encode] = {
    Detections: _detections,
    Flow: _flow,
    Actions: _actions,
    Crossings: _lines,
    Occupancy: _zones,
    Note: _note,
}

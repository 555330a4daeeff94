"""A camera's packets to pictures of what was found, with what was there before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from engines.types import Detections, Flow, Image
from streamer.draw.canvas import Layer, Mark, Pen, draw
from streamer.draw.flow import draw_arrows, paint_flow
from streamer.draw.tails import Tails
from streamer.types import Action, Actions, Crossings, Occupancy, Packet
from streamer.wire.facts import FlowStyle, NodeFacts

_SAID = 2.0  # seconds for which an action stays written: clips are complete only now and then
_MOVED = 0.5  # seconds for which a flow stays drawn: a node with `every` gives one only now and then


class Annotator:
    """Draw what the nodes in *facts* found, packet after packet of one camera, and flow in the way of *flow*."""

    def __init__(self, facts: Mapping[str, NodeFacts], flow: FlowStyle = "wheel") -> None:
        self._facts, self._style = facts, flow
        self._regions = tuple(dict.fromkeys(region for fact in facts.values() for region in fact.regions))
        self._tails = {node: Tails() for node in facts}
        self._last: tuple[float, tuple[int, ...]] | None = None  # media time and shape of the frame before
        self._said: dict[int | None, tuple[float, str]] = {}  # by track: when, and what it does
        self._flow: tuple[float, Flow] | None = None

    def __call__(self, packet: Packet, caption: str = "") -> Image:
        """Return a drawn copy of the packet's image."""
        self._watch(packet)
        self._listen(packet)
        values = {node: value for node, value in packet.values.items() if node in self._facts}
        layers = [
            self._layer(node, value, packet.frame.pts)
            for node, value in values.items()
            if isinstance(value, Detections)
        ]
        scene = self._said.get(None)
        return draw(self._moved(packet.frame.image), layers, tuple(self._marks(values)), _joined(caption, scene))

    def forget(self) -> None:
        """Begin anew: the stream broke."""
        for tails in self._tails.values():
            tails.forget()
        self._said, self._flow = {}, None

    def _layer(self, node: str, found: Detections, pts: float) -> Layer:
        tails = self._tails[node]
        tails.follow(found, pts)
        captions = {track: text for track, (_, text) in self._said.items() if track is not None}
        return Layer(found, self._facts[node].labels, tuple(tails), captions)

    def _marks(self, values: Mapping[str, object]) -> Iterator[Mark]:
        yield from (Mark(region, region.name) for region in self._regions)
        for node, facts in self._facts.items():
            value = values.get(node)
            crossed = {one.line: one for one in value.lines} if isinstance(value, Crossings) else {}
            inside = {one.zone: one for one in value.zones} if isinstance(value, Occupancy) else {}
            for line in facts.lines:
                count = crossed.get(line.name)
                counts = "" if count is None else f"  L>R {count.left_to_right}  R>L {count.right_to_left}"
                yield Mark(line, line.name + counts)
            for zone in facts.zones:
                state = inside.get(zone.name)
                yield Mark(zone, zone.name + ("" if state is None else f"  {state.occupancy}"))

    def _listen(self, packet: Packet) -> None:
        """Note what is worth showing for longer than its own frame, and let go of what no longer is."""
        pts = packet.frame.pts
        for node, value in packet.values.items():
            if node in self._facts and isinstance(value, Actions):
                self._said |= {one.track_id: (pts, _describe(one, self._facts[node])) for one in value.items}
            elif node in self._facts and isinstance(value, Flow):
                self._flow = pts, Flow(np.nan_to_num(value.uv), value.seconds)
        self._said = {track: said for track, said in self._said.items() if pts - said[0] <= _SAID}
        if self._flow is not None and pts - self._flow[0] > _MOVED:
            self._flow = None

    def _moved(self, image: Image) -> Image:
        if self._flow is None or self._style == "none":
            return image
        canvas = np.array(image)
        if self._style == "wheel":
            paint_flow(canvas, self._flow[1])
        else:
            draw_arrows(canvas, self._flow[1], Pen.for_image(canvas).line)
        return canvas

    def _watch(self, packet: Packet) -> None:
        """Let nothing that is kept span a break, also one that nobody tells of: time runs back, the size changes."""
        pts, shape = packet.frame.pts, packet.frame.image.shape
        if self._last is not None and (pts <= self._last[0] or shape != self._last[1]):
            self.forget()
        self._last = pts, shape


def _describe(action: Action, facts: NodeFacts) -> str:
    """Say what somebody does: ``waving 0.83``."""
    best = int(action.scores.probs.argmax())
    label = facts.labels[best] if best < len(facts.labels) else f"class {best}"
    return f"{label} {action.scores.probs[best]:.2f}"


def _joined(caption: str, scene: tuple[float, str] | None) -> str:
    return "  ".join(part for part in (caption, "" if scene is None else scene[1]) if part)

"""What is measured: the nodes of the self-test's pipeline, and the figures that are taken of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from engines.classical import METHODS
from engines.manifest import Manifest, find, find_streams
from engines.world import ACTIONS
from streamer.selftest import known
from streamer.selftest.films import BETWEEN, Footage

_DOUBTFUL = 0.05  # confidence from which objects count: average precision is of them all
_APART = 8  # samples from one clip to the next, of 12 or 10: so many clips that one of them is less than a point
_FINDER = {"confidence": _DOUBTFUL, "max_detections": 100}

# Heavy models look at fewer frames. What reads a node stands after it.
NODES: Mapping[str, Mapping[str, Any]] = {
    "yolox": {"kind": "detect", "model": "yolox-pico", **_FINDER},
    "ssd": {"kind": "detect", "model": "ssd-pico", **_FINDER, "every": 5},
    "masks": {"kind": "segment", "model": "maskrcnn-pico", **_FINDER, "every": 25},
    "flow": {"kind": "flow", "model": "flownets-pico", "field": True, "every": BETWEEN},
    "tracks": {"kind": "track", "detections": "yolox"},
    # Motion that needs no weights: what recognises actions is not judged by another network's flow.
    "classical": {"kind": "flow", "model": "dis", "every": 2},
    "known": {"kind": "python", "class": known.NODE},
    "clips": {"kind": "clips", "around": "known", "stride": _APART},
    "r3d": {"kind": "recognise", "model": "r3d-pico", "clips": "clips", "smooth": None, "top": len(ACTIONS)},
    "motion": {"kind": "clips", "around": "known", "flow": "classical", "stride": _APART},
    "both": {"kind": "recognise", "model": "two-stream-pico", "clips": "motion", "smooth": None, "top": len(ACTIONS)},
}
_READ = ("detections", "around", "flow", "clips")  # keys that name other nodes

Measure = Literal["boxes", "masks", "identity", "endpoint", "action"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, in hundredths, of what a node finds."""

    node: str
    measure: Measure
    name: str
    lower: bool = False  # is better


FIGURES = (
    Figure("yolox", "boxes", "mAP50"),
    Figure("ssd", "boxes", "mAP50"),
    Figure("masks", "masks", "mask mAP50"),
    Figure("tracks", "identity", "IDF1"),
    Figure("flow", "endpoint", "EPE, of zero's", lower=True),
    Figure("r3d", "action", "top-1"),
    Figure("both", "action", "top-1"),
)


@dataclass(frozen=True, slots=True)
class Lineup:
    """Nodes, and the figures of those that can be opened."""

    nodes: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: NODES)
    figures: Sequence[Figure] = FIGURES

    def needs(self, node: str) -> tuple[str, ...]:
        """Name a node after all that it reads, itself at the end."""
        told = self.nodes[node]
        read = [name for key in _READ if key in told for name in self.needs(str(told[key]))]
        return tuple(dict.fromkeys([*read, node]))

    def chosen(self, footage: Sequence[Footage]) -> Mapping[str, Mapping[str, Any]]:
        """Take the nodes that the figures need, for films of one folder."""
        wanted = {name for figure in self.figures for name in self.needs(figure.node)}
        return {name: _told_where(footage, told) for name, told in self.nodes.items() if name in wanted}

    def without(self, node: str) -> Lineup:
        """Leave out what needs a node."""
        return self.only(figure for figure in self.figures if node not in self.needs(figure.node))

    def only(self, figures: Iterable[Figure]) -> Lineup:
        return Lineup(self.nodes, tuple(figures))

    def title(self, figure: Figure) -> str:
        """Say of what a figure is: of a model, or of a tracker on one. Raises ManifestError."""
        told = self.nodes[figure.node]
        if "model" in told:
            return find(str(told["model"])).name
        return f"{figure.node} on {find(str(self.nodes[told['detections']]['model'])).name}"

    def manifests(self, node: str) -> list[Manifest]:
        """Find the networks that a node consists of; none where it has no model. Raises ManifestError."""
        model = self.nodes[node].get("model")
        return [] if model is None or model in METHODS else find_streams(find(str(model)))

    def networks(self, figure: Figure) -> list[Manifest]:
        """Find all networks that a figure depends on. Raises ManifestError."""
        return [manifest for node in self.needs(figure.node) for manifest in self.manifests(node)]


def _told_where(footage: Sequence[Footage], told: Mapping[str, Any]) -> Mapping[str, Any]:
    """Tell a node that knows the films where they are."""
    if told.get("class") != known.NODE:
        return told
    return {**told, "options": {"folder": str(footage[0].path.parent)}}

"""Candidates, as every served detector gives them, to detections: threshold, suppression, geometry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engines.decoders import DetectOptions
from engines.decoders.selection import Candidates, pick
from engines.errors import ModelError
from engines.types import Array, Detections, Geometry


class DecodeCandidates:
    """Select among `boxes` (N, K, 4) xyxy in input pixels, `scores` (N, K) and `classes` (N, K); see `pick`."""

    def __init__(self, classes: int, options: DetectOptions) -> None:
        self._classes, self._options = classes, options

    def __call__(self, outputs: Mapping[str, Array], geometry: Sequence[Geometry], /) -> list[Detections]:
        """Decode each row with its geometry; boxes in pixels of the source images, best first. Raises ModelError."""
        rows = candidates(outputs, len(geometry))
        return [pick(row, self._classes, self._options, place).found for row, place in zip(rows, geometry, strict=True)]


def candidates(outputs: Mapping[str, Array], images: int) -> list[Candidates]:
    """Take the candidates of each image from a graph's outputs; others may lie beside them. Raises ModelError."""
    count = outputs["scores"].shape[-1] if "scores" in outputs else 0
    wanted = {"boxes": (images, count, 4), "scores": (images, count), "classes": (images, count)}
    if any(name not in outputs or outputs[name].shape != shape for name, shape in wanted.items()):
        given = ", ".join(f"{name} {array.shape}" for name, array in outputs.items())
        raise ModelError(
            f"a served detector gives boxes, scores and classes, but this file gives {given}: build it anew"
        )
    return [Candidates(*row) for row in zip(*(outputs[name] for name in wanted), strict=True)]

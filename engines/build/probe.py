"""A first run of a network that somebody brings: what comes out shows whether its manifest reads it rightly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from engines.build.base import Recipe
from engines.build.graph import material
from engines.errors import ModelError
from engines.geometry import Size
from engines.manifest import Manifest
from engines.runtimes import open_runtime, usable
from engines.runtimes.base import RuntimeOptions
from engines.types import Array, Image

_HIGHEST = 1.01  # of a score, after rounding
_NARROW = 0.05  # of the image: boxes that all lie in less than that have other units than pixels
_MANY = 20  # boxes that should be spread over an image


@dataclass(frozen=True, slots=True)
class Probed:
    """What came out, in words, and what is odd about it."""

    found: str
    doubts: tuple[str, ...]


def probe(manifest: Manifest, weights: Path) -> Probed:
    """Run a model once on noise and once on grey.

    Raises ModelError when what comes out cannot be right, and what folding and opening it raise.
    """
    with TemporaryDirectory() as folder:
        graph = material(manifest, weights, Path(folder)).graph(Recipe())
        runtime = open_runtime(usable(("onnxruntime", "openvino"))[0], graph, RuntimeOptions("fp32", max_batch=1))
        try:
            ran = [_copied(runtime.infer({"frames": frame[None]})) for frame in _frames(manifest.preprocess.size)]
            on = runtime.description
        finally:
            runtime.close()
    outputs = {name: np.concatenate([each[name][0] for each in ran]) for name in ("boxes", "scores", "classes")}
    _refuse_nonsense(manifest, outputs)
    for each in ran:
        _refuse_odd_masks(manifest, each)
    found = f"ran on {on}; on noise and grey {_best(manifest, outputs)}"
    return Probed(found, tuple(_doubts(manifest, outputs)))


def _best(manifest: Manifest, outputs: Mapping[str, Array]) -> str:
    best = outputs["scores"].argmax()
    if outputs["scores"][best] <= 0:
        return "it finds nothing"
    label = manifest.labels[outputs["classes"][best]]
    return f"the best score is {outputs['scores'][best]:.3f} ({label})"


def _frames(size: Size) -> tuple[Image, Image]:
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    return noise, np.full((*size, 3), 114, np.uint8)


def _copied(outputs: Mapping[str, Array]) -> dict[str, Array]:
    return {name: array.copy() for name, array in outputs.items()}


def _refuse_nonsense(manifest: Manifest, outputs: Mapping[str, Array]) -> None:
    scores, classes, kind = outputs["scores"], outputs["classes"], manifest.decoder.kind
    if not scores.size or (scores == -1).all():
        raise ModelError(f"{manifest.name} gives no score that is a number: see that its weights are whole")
    if scores.max() > _HIGHEST or scores.min(where=scores != -1, initial=0) < 0:
        low, high = scores.min(where=scores != -1, initial=0), scores.max()
        raise ModelError(
            f"{manifest.name} gives scores from {low:.3g} to {high:.3g}, and they must be in 0..1: it is no {kind}, or "
            "was exported without the sigmoid at its end"
        )
    if not np.isfinite(outputs["boxes"]).all(1).any():
        raise ModelError(f"{manifest.name} gives no box that is finite: it is no {kind}, or its weights are damaged")
    wrong = classes[(scores > 0) & ((classes < 0) | (classes >= len(manifest.labels)))]
    if wrong.size:
        raise ModelError(
            f"{manifest.name} finds class {wrong[0]}, but has the labels of 0 to {len(manifest.labels) - 1}: give the "
            f"labels that it was trained with, or see that it is a {kind}"
        )


def _refuse_odd_masks(manifest: Manifest, outputs: Mapping[str, Array]) -> None:
    found = outputs["scores"][0] > 0
    parts = {name: outputs[name][0][found] for name in ("masks", "coefficients") if name in outputs}
    if found.any() and "prototypes" in outputs:
        parts["prototypes"] = outputs["prototypes"]
    for name, values in parts.items():
        if not np.isfinite(values).all():
            raise ModelError(f"{manifest.name} gives {name} that are not finite: its weights may be damaged")
    masks = parts.get("masks", np.zeros(0))
    if masks.min(initial=0) < 0 or masks.max(initial=0) > _HIGHEST:
        raise ModelError(
            f"{manifest.name} gives masks from {masks.min():.3g} to {masks.max():.3g}, and they must be in 0..1: "
            "export it with the sigmoid at their end"
        )


def _doubts(manifest: Manifest, outputs: Mapping[str, Array]) -> list[str]:
    """Say what is odd about boxes that pass for real ones."""
    height, width = manifest.preprocess.size
    boxes = outputs["boxes"][(outputs["scores"] > 0) & np.isfinite(outputs["boxes"]).all(1)]
    if len(boxes) < _MANY:
        return []
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / (width, height)
    doubts = []
    if np.median(np.abs(centres - 0.5).max(1)) > 1:
        doubts.append("most of its boxes lie far outside the image")
    if (np.ptp(centres, axis=0) < _NARROW).all() and np.median(boxes[:, 2:] - boxes[:, :2]) < _NARROW * width:
        doubts.append("all of its boxes lie within a few pixels, so they may be counted in other units than pixels")
    if (boxes[:, 2:] < boxes[:, :2]).mean() > 0.5:
        doubts.append("most of its boxes are inside out")
    return doubts

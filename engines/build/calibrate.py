"""What an int8 network is calibrated on: frames chosen from the user's own footage, placed as the network sees them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnxruntime as ort
from spox import Tensor, argument, build

from engines.boxes import Suppression, iou
from engines.build.heads import Place, decode
from engines.build.quantise import Bound, Loss, output_error
from engines.decoders import DetectOptions
from engines.decoders.candidates import DecodeCandidates
from engines.manifest import Manifest
from engines.preprocess import PreprocessSpec, placed
from engines.types import Array, Detections, Geometry, Image

FRAMES = 48  # more of them change no range much, and each costs a pass at every step
_MOST = 0.0125  # drift: beyond it a detector loses more than 2 points of AP over IoU 0.50 … 0.95, as bf16 may too
_UNSURE = 0.05  # what an int8 network finds is asked for with this confidence: it may be less sure than the true one


def place(manifest: Manifest, images: Iterable[Image]) -> Iterator[Image]:
    """Place images (H, W, 3) RGB of any size into the network's input size, as the manifest says."""
    told = manifest.preprocess
    spec = PreprocessSpec(told.size, told.resize, told.align, told.pad)
    for image in images:
        yield placed(image, spec)


def calibration_digest(images: Iterable[Image]) -> str:
    """Digest placed images, their order and sizes: sha256, in hex."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.shape}".encode())
        digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def detection_bound(manifest: Manifest) -> Bound:
    """Bound what int8 may cost a detector."""
    return Bound(detection_loss(manifest), _MOST)


def detection_loss(manifest: Manifest) -> Loss:
    """Make the loss of a detector's body: how far, on average, the true objects have moved and how much they faded.

    Of each object that the true outputs hold, it adds 1 - IoU with the best one of its class that was found and the
    difference of their confidences. Average precision would jump with every object that is near a threshold. Where the
    images hold no object, the outputs themselves are compared.
    """
    head = _Head(manifest)

    def loss(true: Sequence[Mapping[str, Array]], found: Sequence[Mapping[str, Array]]) -> float:
        objects = [head(each, manifest.defaults.confidence) for each in true]
        if not any(map(len, objects)):
            return output_error(true, found)
        return drift(objects, [head(each, _UNSURE) for each in found])

    return loss


def drift(true: Sequence[Detections], found: Sequence[Detections]) -> float:
    """Average over all true objects, in 0..2: 1 - IoU with the best one found, plus the difference in confidence."""
    moved = [_moved(*pair) for pair in zip(true, found, strict=True)]
    every = np.concatenate(moved) if moved else np.zeros(0)
    return float(every.mean()) if len(every) else 0.0


def _moved(true: Detections, found: Detections) -> Array:
    if not len(found):
        return 1 + true.confidence
    overlaps = iou(true.xyxy, found.xyxy) * (true.class_id[:, None] == found.class_id)
    best = overlaps.argmax(1)
    overlap = overlaps[np.arange(len(true)), best]
    confidence = np.where(overlap > 0, found.confidence[best], 0)
    moved: Array = 1 - overlap + np.abs(true.confidence - confidence)
    return moved


class _Head:
    """Make detections, in pixels of the network's input, of its raw outputs for one image."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._place = Geometry(manifest.preprocess.size, (1.0, 1.0), (0.0, 0.0))
        self._session: ort.InferenceSession | None = None

    def __call__(self, outputs: Mapping[str, Array], confidence: float) -> Detections:
        if self._session is None:  # the shapes are known only now
            self._session = self._open(outputs)
        names = ("boxes", "scores", "classes")
        candidates = dict(zip(names, self._session.run(names, dict(outputs)), strict=True))
        options = DetectOptions(confidence, Suppression(iou=self._manifest.defaults.iou))
        decoder = DecodeCandidates(len(self._manifest.labels), options)
        return decoder(candidates, [self._place])[0]

    def _open(self, outputs: Mapping[str, Array]) -> ort.InferenceSession:
        told = self._manifest
        raw = {name: argument(Tensor(array.dtype, array.shape)) for name, array in outputs.items()}
        found = decode(raw, told.decoder, Place(len(told.labels), told.preprocess.size))
        graph = build(raw, {"boxes": found.boxes, "scores": found.scores, "classes": found.classes})
        return ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])

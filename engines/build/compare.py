"""The same frames through every runtime and precision: what they give against the fp32 reference, and at what cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from engines.boxes import iou
from engines.build.apart import apart
from engines.build.base import Tell, silent
from engines.build.trial import Subject, Trial, Variant, prepare, run
from engines.errors import BuildError, EngineError
from engines.masks import realign
from engines.runtimes import available
from engines.types import Array, Detections, Image

_IN = 0.5  # probability from which a pixel belongs to a mask
_SAME = 0.5  # IoU from which two boxes are taken for the same object
# Whose fp32 counts as the truth, best first: PyTorch runs the network as its authors wrote it.
_REFERENCES = ("pytorch", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx")


@dataclass(frozen=True, slots=True)
class RawDifference:
    """How far a network's own outputs are from the reference's: over all frames, the worst output of several."""

    max: float
    mean: float
    relative: float  # norm of the difference over the norm of the reference


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far detections are from the reference's, over all frames: matched by class and overlap."""

    found: int  # in both
    missed: int
    extra: int
    worst_iou: float  # of those in both; 1 where there are none
    worst_confidence: float  # largest difference; 0 where there are none
    worst_mask_iou: float | None  # of those in both, in the reference's box; None where there are no masks
    mean_ap: float | None  # against the reference's as the truth; None where pycocotools is not installed


@dataclass(frozen=True, slots=True)
class Row:
    """A variant, and what was found out; or the sentence that says why nothing was."""

    variant: Variant
    trial: Trial | None = None
    raw: RawDifference | None = None
    agreement: Agreement | None = None
    fault: str | None = None


def compare(
    subject: Subject, variants: Sequence[Variant], images: Sequence[Image], tell: Tell = silent
) -> tuple[Variant, list[Row]]:
    """Try every variant on *images* (H, W, 3); returns which one is the reference, and a row for each.

    Each is built in one process and tried in another, one after the other, so that memory and time are its own, and
    what fails is a row. Raises BuildError when none in fp32 works: there is nothing to compare with.
    """
    with TemporaryDirectory(prefix="streamer-compare-") as name:
        folder = Path(name)
        frames = folder / "frames.npz"
        np.savez(frames, *images)
        tried = [_try(subject, variant, frames, folder / str(i), tell) for i, variant in enumerate(variants)]
        at = _reference(tried)
        truth = tried[at].trial
        assert truth is not None, "or it would be no reference"  # noqa: S101 - for the type checker
        rows = [
            _compared(row, truth, folder / str(i), folder / str(at)) if row.trial else row
            for i, row in enumerate(tried)
        ]
    return variants[at], rows


def with_reference(subject: Subject, variants: Sequence[Variant]) -> list[Variant]:
    """Put an fp32 variant first where there is none: on PyTorch for a checkpoint, else on what is installed."""
    if any(variant.precision == "fp32" for variant in variants):
        return list(variants)
    here = [name for name in _REFERENCES if name in available() and (name != "pytorch" or not subject.is_onnx)]
    return [*(Variant(name, "fp32") for name in here[:1]), *variants]


def _try(subject: Subject, variant: Variant, frames: Path, outputs: Path, tell: Tell) -> Row:
    outputs.mkdir()
    try:
        files = apart(prepare, subject, variant, tell=tell)
        return Row(variant, apart(run, subject, variant, files, frames, outputs, tell=tell))
    except EngineError as error:
        return Row(variant, fault=str(error))


def _reference(tried: Sequence[Row]) -> int:
    works = {row.variant.runtime: i for i, row in enumerate(tried) if row.trial and row.variant.precision == "fp32"}
    for runtime in _REFERENCES:
        if runtime in works:
            return works[runtime]
    reasons = dict.fromkeys(row.fault for row in tried if row.fault and row.variant.precision == "fp32")
    raise BuildError(
        f"no runtime gives an fp32 reference to compare with ({'; '.join(reasons) or 'none was asked for'}): see that "
        "one of them does"
    )


def _compared(row: Row, truth: Trial, outputs: Path, references: Path) -> Row:
    trial = row.trial
    assert trial is not None, "only what works is compared"  # noqa: S101 - for the type checker
    try:
        raw = raw_difference(_arrays(references), _arrays(outputs))
    except ValueError as error:
        return Row(row.variant, trial, fault=f"its outputs cannot be compared with the reference's: {error}")
    return Row(row.variant, trial, raw, agreement(truth.found, trial.found, trial.everything))


def _arrays(folder: Path) -> dict[str, Array]:
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}


def raw_difference(reference: dict[str, Array], got: dict[str, Array]) -> RawDifference:
    """Compare outputs of the same names and shapes, frame by frame. Raises ValueError when they are others."""
    shapes, given = ({name: array.shape for name, array in arrays.items()} for arrays in (reference, got))
    if shapes != given:
        raise ValueError(f"the reference gives {shapes}, but this gives {given}")
    differences = [_difference(reference[name], got[name]) for name in reference]
    worst = np.max([(d.max, d.mean, d.relative) for d in differences], axis=0)  # NaN where one is
    return RawDifference(*worst.tolist())


def _difference(reference: Array, got: Array) -> RawDifference:
    frames = [_frame_difference(wanted, given) for wanted, given in zip(reference, got, strict=True)]
    largest = float(np.max([frame[0] for frame in frames], initial=0.0))
    total, squared, norm = np.sum([frame[1:] for frame in frames], axis=0).tolist()
    relative = (squared / norm) ** 0.5 if norm else float(squared > 0)
    return RawDifference(largest, total / max(1, reference.size), relative)


def _frame_difference(wanted: Array, given: Array) -> tuple[float, float, float, float]:
    """Measure the largest error, the sum of all and of their squares, and the sum of the wanted squares."""
    exact = wanted.astype(np.float64)
    with np.errstate(invalid="ignore"):  # an infinite output makes it NaN, which is what the table should show
        error = np.abs(given - exact)
        return error.max(initial=0.0), error.sum(), np.square(error).sum(), np.square(exact).sum()


def agreement(
    reference: Sequence[Detections], found: Sequence[Detections], everything: Sequence[Detections]
) -> Agreement:
    """Compare what was *found* in each frame with the reference; *everything* is what average precision looks at."""
    pairs = [(a, b, *match(a, b)) for a, b in zip(reference, found, strict=True)]
    both = sum(len(rows) for _, _, rows, _, _ in pairs)
    overlaps = [overlap for *_, overlaps in pairs for overlap in overlaps]
    confidences = [abs(a.confidence[i] - b.confidence[j]) for a, b, i, j, _ in pairs]
    return Agreement(
        found=both,
        missed=sum(map(len, reference)) - both,
        extra=sum(map(len, found)) - both,
        worst_iou=float(min(overlaps, default=1.0)),
        worst_confidence=float(max((c.max(initial=0) for c in confidences), default=0.0)),
        worst_mask_iou=min((float(n) for a, b, i, j, _ in pairs for n in _mask_ious(a[i], b[j])), default=None),
        mean_ap=_mean_ap(reference, everything),
    )


def _mask_ious(a: Detections, b: Detections) -> Array:
    """Overlap each mask of *a* with the same row's of *b*, both seen through the box of *a*; (N,), or () without."""
    if a.masks is None or b.masks is None:
        return np.zeros(0)
    one, other = (masks.probs > _IN for masks in (a.masks, realign(b.masks, b.xyxy, a.xyxy)))
    union = (one | other).sum((1, 2))
    return np.where(union, (one & other).sum((1, 2)) / np.maximum(union, 1), 1.0)


def match(a: Detections, b: Detections) -> tuple[Array, Array, Array]:
    """Pair objects of a class that overlap, the closest first, each once: rows of *a*, rows of *b*, and their IoU."""
    overlap = iou(a.xyxy, b.xyxy) * (a.class_id[:, None] == b.class_id)
    pairs = list(_closest(overlap))
    i, j = (np.array([pair[k] for pair in pairs], np.intp) for k in (0, 1))
    return i, j, overlap[i, j]


def _closest(overlap: Array) -> Iterator[tuple[int, int]]:
    left = overlap.copy()
    while left.size and left.max() >= _SAME:
        i, j = np.unravel_index(left.argmax(), left.shape)
        yield int(i), int(j)
        left[i, :] = left[:, j] = 0


def _mean_ap(truth: Sequence[Detections], found: Sequence[Detections]) -> float | None:
    try:
        from engines.metrics.coco import mean_ap
    except ImportError:  # pycocotools, an extra: the table says so by leaving the column empty
        return None
    return mean_ap(truth, found).ap

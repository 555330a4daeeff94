"""Detections are the same whether frames are batched or not, whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.boxes import NmsKind, Suppression
from engines.decoders import DetectOptions
from engines.decoders.candidates import DecodeCandidates
from engines.decoders.instances import DecodeInstances
from engines.model import Model, Postprocess
from engines.preprocess import Preprocess, PreprocessSpec
from engines.regions import Region
from engines.runtimes.fake import FakeRuntime
from engines.tiles import Tiling, tiled
from engines.types import Array, Detections, Image, TensorSpec

INPUT = (32, 48)
CANDIDATES = 24
SPEC = TensorSpec("frames", np.dtype(np.uint8), (None, *INPUT, 3))
REGION = Region("left", ((0, 0), (0.7, 0), (0.7, 1), (0, 1)))


def network(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
    """Dream up what is in each image, by its own pixels and nothing else; now and then nonsense."""
    rows = [_dream(frame) for frame in feeds["frames"]]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _dream(frame: Image) -> dict[str, Array]:
    rng = np.random.default_rng(np.frombuffer(frame.tobytes(), np.uint32))
    corner = rng.uniform(-8, 40, (CANDIDATES, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(-2, 24, (CANDIDATES, 2))], 1).astype(np.float32)
    scores = np.round(rng.random(CANDIDATES), 1).astype(np.float32)
    doubtful = (scores < 0.3)[:, None] & (rng.random((CANDIDATES, 4)) < 0.05)
    boxes[doubtful] = rng.choice([np.nan, np.inf, -np.inf])
    return {
        "boxes": boxes,
        "scores": scores,
        "classes": rng.integers(0, 3, CANDIDATES).astype(np.int32),
        "masks": rng.random((CANDIDATES, 7, 7)).astype(np.float32),
        "coefficients": rng.normal(size=(CANDIDATES, 4)).astype(np.float32),
        "prototypes": rng.normal(size=(4, 8, 12)).astype(np.float32),
    }


def without(*names: str) -> FakeRuntime:
    """Give all of the above but *names*."""

    def handler(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        return {name: array for name, array in network(feeds).items() if name not in names}

    return FakeRuntime(handler, (SPEC,), max_batch=3)


def model(runtime: FakeRuntime, decode: Postprocess[Detections]) -> Model[Image, Detections]:
    return Model("dreamer", ("a", "b", "c"), Preprocess(PreprocessSpec(INPUT), runtime), runtime, decode)


def detector(kind: NmsKind) -> Model[Image, Detections]:
    options = DetectOptions(0.3, Suppression(kind), min_size=1.5, regions=(REGION,))
    return model(FakeRuntime(network, (SPEC,), max_batch=3), DecodeCandidates(3, options))


SEEDS = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=8)


def images(seeds: list[tuple[int, int, int]]) -> list[Image]:
    return [np.random.default_rng(s).integers(0, 256, (h, w, 3), np.uint8) for s, h, w in seeds]


def same(a: Detections, b: Detections) -> bool:
    columns = ("xyxy", "class_id", "confidence", "regions")
    if (a.masks is None) != (b.masks is None):
        return False
    if a.masks is not None and b.masks is not None and not np.array_equal(a.masks.probs, b.masks.probs):
        return False
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in columns)


@pytest.mark.parametrize("kind", ["hard", "soft-linear", "soft-gaussian", "adaptive", "none"])
@given(seeds=SEEDS)
def test_boxes_do_not_depend_on_the_batch(kind: NmsKind, seeds: list[tuple[int, int, int]]) -> None:
    detect, frames = detector(kind), images(seeds)
    for together, frame in zip(detect(frames), frames, strict=True):
        (alone,) = detect([frame])
        assert same(together, alone)
        assert (np.diff(together.confidence) <= 0).all()
        assert np.isfinite(together.xyxy).all()


@pytest.mark.parametrize("kind", ["masks", "prototypes"])
@given(seeds=SEEDS)
def test_masks_do_not_depend_on_the_batch(kind: str, seeds: list[tuple[int, int, int]]) -> None:
    runtime = without("masks") if kind == "prototypes" else without("coefficients", "prototypes")
    segment, frames = model(runtime, DecodeInstances(3, DetectOptions(), INPUT)), images(seeds)
    for together, frame in zip(segment(frames), frames, strict=True):
        assert together.masks is not None
        assert same(together, segment([frame])[0])


@given(seeds=SEEDS)
def test_tiles_do_not_depend_on_the_batch(seeds: list[tuple[int, int, int]]) -> None:
    detect, frames = tiled(detector("hard"), Tiling(2, 2), DetectOptions()), images(seeds)
    for together, frame in zip(detect(frames), frames, strict=True):
        assert same(together, detect([frame])[0])

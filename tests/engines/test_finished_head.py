"""The head of networks that find objects by themselves: any number of rows becomes a fixed one, and loses nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import rcnns
import spox.opset.ai.onnx.v17 as op
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rcnns import Rcnn
from spox import Tensor, argument, build

from engines.build.base import Recipe
from engines.build.fold import fold
from engines.build.heads import Place, decode
from engines.build.rebatch import for_any_batch
from engines.decoders import DetectOptions
from engines.decoders.instances import DecodeInstances
from engines.errors import BuildError
from engines.manifest import Manifest
from engines.masks import paint
from engines.outputs import TorchvisionRcnnDecoder
from engines.runtimes.untracked import ov
from engines.types import Array, Geometry

SIZE, KEPT = (96, 128), 5
Outputs = Mapping[str, Array]


def head(masks: tuple[int | None, ...] | None) -> onnx.ModelProto:
    shapes = {"boxes": (None, 4), "labels": (None,), "scores": (None,)} | ({"masks": masks} if masks else {})
    kinds = {"labels": np.int64}
    raw = {name: argument(Tensor(kinds.get(name, np.float32), shape)) for name, shape in shapes.items()}
    decoder = TorchvisionRcnnDecoder(kind="torchvision-maskrcnn", detections=KEPT)
    found = decode({name: op.identity(var) for name, var in raw.items()}, decoder, Place(4, SIZE))
    fed = {f"raw {name}": var for name, var in raw.items()}  # an output may not be called as an input is
    return build(fed, {"boxes": found.boxes, "scores": found.scores, "classes": found.classes, **found.extras})


def in_onnxruntime(model: onnx.ModelProto) -> Callable[[Outputs], Outputs]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(None, _named(feeds)), strict=True))


def in_openvino(model: onnx.ModelProto) -> Callable[[Outputs], Outputs]:
    network = ov.Core().compile_model(
        ov.Core().read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    names = [output.name for output in model.graph.output]

    def run(feeds: Outputs) -> Outputs:
        answer = network(_named(feeds))
        return {name: np.array(answer[i]) for i, name in enumerate(names)}

    return run


def _named(feeds: Outputs) -> dict[str, Array]:
    return {name if name == "frames" else f"raw {name}": array for name, array in feeds.items()}


RUNTIMES = {"onnxruntime": in_onnxruntime, "openvino": in_openvino}
ON_BOX, ON_IMAGE = (None, 1, 28, 28), (None, 1, *SIZE)


@cache
def opened(runtime: str, masks: tuple[int | None, ...] | None) -> Callable[[Outputs], Outputs]:
    return RUNTIMES[runtime](head(masks))


def objects(count: int, masks: tuple[int | None, ...] | None = ON_BOX) -> dict[str, Array]:
    rng = np.random.default_rng(count)
    corners = rng.uniform(0, 60, (count, 2))
    found: dict[str, Array] = {
        "boxes": np.concatenate([corners, corners + rng.uniform(4, 30, (count, 2))], 1).astype(np.float32),
        "labels": rng.integers(1, 4, count),
        "scores": rng.uniform(0.05, 1, count).astype(np.float32),
    }
    if masks:
        found["masks"] = rng.uniform(0, 1, (count, *filter(None, masks))).astype(np.float32)
    return found


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("masks", [None, ON_BOX, ON_IMAGE], ids=["boxes", "on box", "on image"])
@pytest.mark.parametrize("count", [0, 1, KEPT, 12])
def test_the_best_come_first_and_the_rest_is_nothing(
    runtime: str, masks: tuple[int | None, ...] | None, count: int
) -> None:
    fed = objects(count, masks)
    found = opened(runtime, masks)(fed)
    best, real = np.argsort(-fed["scores"])[:KEPT], min(count, KEPT)
    np.testing.assert_array_equal(found["scores"][0], np.pad(fed["scores"][best], (0, KEPT - real)))
    np.testing.assert_array_equal(found["classes"][0, :real], fed["labels"][best])
    np.testing.assert_array_equal(found["boxes"][0], np.pad(fed["boxes"][best], ((0, KEPT - real), (0, 0))))
    assert [found[name].dtype.name for name in ("boxes", "classes")] == ["float32", "int32"]
    if masks:
        assert found["masks"].shape == (1, KEPT, 28, 28)
        assert not found["masks"][0, real:].any()
    if masks == ON_BOX:
        np.testing.assert_array_equal(found["masks"][0, :real], fed["masks"][best, 0])


SCORES = st.sampled_from([0.0, 0.25, 0.25, 0.5, 1.0, np.nan])
EDGES = st.sampled_from([-1e30, -5.0, 0.0, 0.5, 40.0, 1e30, np.inf, -np.inf, np.nan])


@given(st.integers(0, 9), st.data())
@settings(max_examples=40, deadline=None)
def test_whatever_is_found_nothing_but_numbers_has_a_score(count: int, data: st.DataObject) -> None:
    """Coordinates that are no numbers, and boxes inside out, are read like others: memory is not."""
    scores = data.draw(arrays(np.float32, count, elements=SCORES))
    boxes = data.draw(arrays(np.float32, (count, 4), elements=EDGES))
    fed = objects(len(scores), ON_IMAGE) | {"scores": scores, "boxes": boxes}
    found = opened("onnxruntime", ON_IMAGE)(fed)
    wanted = np.pad(-np.sort(-scores), (0, KEPT))[:KEPT]
    np.testing.assert_array_equal(found["scores"][0], -np.ones(KEPT) if np.isnan(scores).any() else wanted)
    assert np.isfinite(found["masks"]).all()
    assert not found["masks"][0, found["scores"][0] <= 0].any()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_masks_of_the_image_are_sampled_where_they_were_made(runtime: str) -> None:
    """Each cell is the bilinear sample at the place that torchvision put it to."""
    fed = objects(4, ON_IMAGE)
    found = opened(runtime, ON_IMAGE)(fed)
    for row, i in enumerate(np.argsort(-fed["scores"])):
        box = fed["boxes"][i].astype(np.float64)
        middle, reach = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * 30 / 28
        first, last = (middle - reach).astype(int), (middle + reach).astype(int)
        x, y = (first[a] + (np.arange(28) + 1.5) / 30 * (last[a] - first[a] + 1) - 0.5 for a in (0, 1))
        wanted = [[bilinear(fed["masks"][i, 0], u, v) for u in x] for v in y]
        np.testing.assert_allclose(found["masks"][0, row], wanted, atol=1e-4)


def bilinear(values: Array, x: float, y: float) -> float:
    """Sample as RoIAlign does: what lies up to a pixel outside is as at the border."""
    x, y = (min(max(v, 0), limit - 1) for v, limit in ((x, values.shape[1]), (y, values.shape[0])))
    left, top = min(int(x), values.shape[1] - 2), min(int(y), values.shape[0] - 2)
    corners = values[top : top + 2, left : left + 2].astype(np.float64)
    return float(np.array([1 - (y - top), y - top]) @ corners @ np.array([1 - (x - left), x - left]))


def manifest(detections: int = KEPT, **more: object) -> Manifest:
    told: dict[str, Any] = {
        "name": "tiny",
        "task": "segment",
        "labels": rcnns.CLASSES,
        "preprocess": {"size": SIZE, "std": [255, 255, 255], **more},
        "decoder": {"kind": "torchvision-maskrcnn", "detections": detections},
        "weights": {"onnx": {"file": "tiny.onnx"}},
    }
    return Manifest.model_validate(told)


BRIGHT = {(0, 0): (0, 200), (1, 2): (1, 255), (2, 3): (2, 220)}
EXPORTS = [
    Rcnn(),
    Rcnn(batch=(1,)),
    Rcnn(size=("height", "width")),
    Rcnn(masks="box"),
    Rcnn(names=("6568", "6570", "6572", "6887")),
]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", EXPORTS, ids=str)
def test_a_whole_network_finds_what_is_there(runtime: str, kind: Rcnn) -> None:
    served = RUNTIMES[runtime](fold(for_any_batch(rcnns.make(kind), "tiny"), manifest(), Recipe()))
    found = served({"frames": rcnns.scene(BRIGHT)[None]})
    (seen,) = DecodeInstances(4, DetectOptions(), SIZE)(found, [Geometry(SIZE, (1, 1), (0, 0))])
    assert seen.class_id.tolist() == [2, 3, 1]
    np.testing.assert_allclose(seen.confidence, [1, 220 / 255, 200 / 255], atol=1e-5)
    boxes = rcnns.cells((3, 4))[[6, 11, 0]]
    np.testing.assert_allclose(seen.xyxy, np.clip(boxes, 0, [128, 96, 128, 96]), atol=1e-4)
    assert not served({"frames": np.zeros((1, *SIZE, 3), np.uint8)})["scores"].any()


def test_masks_survive_the_way_there_and_back() -> None:
    """What torchvision has pasted, painted again from its cells, is the same but for single pixels at the outline."""
    boxes = np.array([[10.2, 5.7, 90.9, 80.1], [3, 30, 120.5, 77.7], [40.5, 2.5, 76.5, 93.5]], np.float32)
    pasted = np.stack([rcnns.paste(mask, box, SIZE) for mask, box in zip(rcnns.patterns(), boxes, strict=True)])
    fed = {"boxes": boxes, "labels": np.array([1, 2, 3]), "scores": np.array([0.9, 0.8, 0.7], np.float32)}
    found = opened("onnxruntime", ON_IMAGE)(fed | {"masks": pasted[:, None]})
    (seen,) = DecodeInstances(4, DetectOptions(), SIZE)(found, [Geometry(SIZE, (1, 1), (0, 0))])
    assert seen.masks is not None
    np.testing.assert_allclose(seen.masks.probs, rcnns.patterns(), atol=0.1)
    for (top, left, part), whole in zip(paint(seen.masks, seen.xyxy, SIZE), pasted > 0.5, strict=True):
        again = np.zeros(SIZE, bool)
        again[top : top + part.shape[0], left : left + part.shape[1]] = part
        assert (again & whole).sum() / (again | whole).sum() > 0.98


def test_what_has_no_rows_of_a_fixed_number_gives_its_candidates_as_raw_outputs() -> None:
    raw = fold(for_any_batch(rcnns.make(Rcnn()), "tiny"), manifest(), Recipe(layout="raw"))
    assert {output.name for output in raw.graph.output} == {"boxes", "scores", "classes", "masks"}


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_it_stays_in_fp32_and_away_from_tensorrt(precision: Any) -> None:
    with pytest.raises(BuildError, match=r"tiny gives as many rows as there are objects.*onnxruntime and openvino"):
        fold(for_any_batch(rcnns.make(Rcnn()), "tiny"), manifest(), Recipe(precision))


def test_outputs_of_another_network() -> None:
    raw = {"a": argument(Tensor(np.float32, (None, 4))), "b": argument(Tensor(np.float32, (None,)))}
    with pytest.raises(BuildError, match=r"reads boxes.*but the network gives a \(\?, 4\) and b \(\?\)"):
        decode(raw, TorchvisionRcnnDecoder(kind="torchvision-maskrcnn"), Place(4, SIZE))
    with pytest.raises(BuildError, match=r"gives masks \(\?, 1, 50, 60\)"):
        head((None, 1, 50, 60))

"""A network that gives no numbers is told so: never does it pass for one that sees nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import networks
import numpy as np
import pytest
from spox import Tensor, argument, build

from engines.boxes import Suppression
from engines.build.heads import Place, decode
from engines.decoders import DetectOptions
from engines.decoders.candidates import DecodeCandidates
from engines.decoders.instances import DecodeInstances
from engines.errors import ModelError
from engines.load import open_detector
from engines.manifest import find
from engines.model import Model, Postprocess
from engines.motion import DecodeFlow
from engines.outputs import Decoder, YoloV5Decoder, YoloV8Decoder, YoloV10Decoder, YoloxDecoder
from engines.recognition import DecodeActions
from engines.runtimes import open_runtime
from engines.runtimes.base import RuntimeOptions
from engines.runtimes.fake import FakeRuntime
from engines.types import Array, Geometry, Image

SIZE = (64, 96)
BAD = [np.nan, np.inf, -np.inf]


def preprocess(items: Sequence[Image]) -> tuple[Mapping[str, Array], list[Geometry]]:
    return {"frames": np.stack(items)}, [Geometry(SIZE, (1.0, 1.0), (0.0, 0.0))] * len(items)


def candidates(count: int = 4) -> dict[str, Array]:
    left = np.arange(count, dtype=np.float32) * 10
    boxes = np.stack([left, left * 0, left + 8, left * 0 + 8], 1)[None]
    return {"boxes": boxes, "scores": np.full((1, count), 0.9, np.float32), "classes": np.zeros((1, count), np.int32)}


def masks() -> dict[str, Array]:
    return {"masks": np.full((1, 4, 7, 7), 0.5, np.float32)}


def prototypes() -> dict[str, Array]:
    return {"coefficients": np.ones((1, 4, 2), np.float32), "prototypes": np.ones((1, 2, 8, 12), np.float32)}


OPTIONS = DetectOptions(0.3, Suppression("none"))
FAMILIES: dict[str, tuple[Postprocess[object], Callable[[], dict[str, Array]]]] = {
    "boxes": (DecodeCandidates(3, OPTIONS), candidates),
    "masks": (DecodeInstances(3, OPTIONS, SIZE), lambda: candidates() | masks()),
    "prototypes": (DecodeInstances(3, OPTIONS, SIZE, 8), lambda: candidates() | prototypes()),
    "actions": (DecodeActions(3), lambda: {"probs": np.full((1, 3), 1 / 3, np.float32)}),
    "flow": (DecodeFlow(SIZE), lambda: {"flow": np.ones((1, 16, 24, 2), np.float32)}),
}
OUTPUTS = [(family, name) for family, (_, make) in FAMILIES.items() for name in make() if name != "classes"]


def model(family: str, outputs: dict[str, Array]) -> Model[Image, object]:
    return Model("dreamer", ("a", "b", "c"), preprocess, FakeRuntime(lambda _: outputs), FAMILIES[family][0])


IMAGES = [np.zeros((*SIZE, 3), np.uint8)]


@pytest.mark.parametrize("family", FAMILIES)
def test_numbers_pass(family: str) -> None:
    assert len(model(family, FAMILIES[family][1]())(IMAGES)) == 1


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(("family", "name"), OUTPUTS)
def test_one_value_that_is_none_is_told_with_model_runtime_and_output(family: str, name: str, bad: float) -> None:
    outputs = FAMILIES[family][1]()
    outputs[name].reshape(-1)[1] = bad
    with pytest.raises(ModelError, match=f"dreamer on fake: output .*{name}.* holds NaN or infinity: .*fp32"):
        model(family, outputs)(IMAGES)
    with pytest.raises(ModelError, match="dreamer on fake"):
        model(family, outputs).begin(IMAGES)()


@pytest.mark.parametrize("family", FAMILIES)
def test_shapes_that_are_wrong_are_told_with_model_and_runtime(family: str) -> None:
    outputs = candidates() | {"scores": np.zeros((1, 3), np.float32)}
    with pytest.raises(ModelError, match=r"dreamer on fake: .*build it anew"):
        model(family, outputs)(IMAGES)
    with pytest.raises(ModelError, match="dreamer on fake"):
        model(family, {})(IMAGES)


# --- real graphs: where the numbers get lost inside, which is where they would never be seen again ---

ANCHORS = 8 * 12 + 4 * 6 + 2 * 3
HEADS: dict[str, tuple[Decoder, tuple[int, int]]] = {
    "yolox": (YoloxDecoder(kind="yolox"), (ANCHORS, 8)),
    "yolov5": (YoloV5Decoder(kind="yolov5"), (ANCHORS, 8)),
    "yolov8": (YoloV8Decoder(kind="yolov8"), (7, ANCHORS)),
    "yolov10": (YoloV10Decoder(kind="yolov10"), (50, 6)),
}


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("kind", HEADS)
def test_a_head_whose_network_gives_nan_is_told(kind: str, runtime: str, tmp_path: Path) -> None:
    told, shape = HEADS[kind]
    raw = argument(Tensor(np.float32, ("N", *shape)))
    found = decode({"output": raw}, told, Place(3, SIZE))
    graph = build({"frames": raw}, {"boxes": found.boxes, "scores": found.scores, "classes": found.classes})
    (tmp_path / "head.onnx").write_bytes(graph.SerializeToString())
    opened = open_runtime(runtime, tmp_path / "head.onnx", RuntimeOptions(max_batch=1))
    feed = partial(_feed, np.full((1, *shape), np.nan, np.float32))
    with pytest.raises(ModelError, match=r"dreamer on .*: output 'scores' holds NaN"):
        Model("dreamer", (), feed, opened, DecodeCandidates(3, OPTIONS))(IMAGES)
    opened.close()


def _feed(array: Array, items: Sequence[Image]) -> tuple[Mapping[str, Array], list[Geometry]]:
    return {"frames": array}, preprocess(items)[1]


def test_a_whole_network_with_broken_weights_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx
    from onnx import numpy_helper

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    manifest, weights = networks.manifest(tmp_path), tmp_path / "bright.onnx"
    network = onnx.load(weights)
    (bias,) = (each for each in network.graph.initializer if each.name == "bias")
    bias.CopyFrom(numpy_helper.from_array(np.full(7, np.nan, np.float32), "bias"))
    onnx.save(network, weights)
    opened = open_detector(find(str(manifest)), weights, OPTIONS, ["openvino"], RuntimeOptions(max_batch=1))
    with pytest.raises(ModelError, match=r"bright on openvino .*: output 'scores' holds NaN"):
        opened([np.zeros((64, 64, 3), np.uint8)])
    opened.close()

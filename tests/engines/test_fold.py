"""Served graphs of all kinds of exports: bytes go in as the manifest says, what the body gives comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import bodies
import numpy as np
import onnx
import pytest
from bodies import Body
from onnx import TensorProto, helper

from engines.build.base import Order, Profile, Recipe, silent
from engines.build.fold import fold
from engines.build.graph import material
from engines.errors import BuildError
from engines.manifest import Manifest
from engines.runtimes import available, open_runtime
from engines.runtimes.base import Runtime, RuntimeOptions
from engines.types import Array

KINDS = ["yolox", "yolov5", "yolov8", "yolov10"]
RUNTIMES = ["openvino", "onnxruntime"]
RAW = Recipe(layout="raw")


def manifest(kind: str, size: tuple[int, int] = (64, 96), classes: int = 3, **preprocess: object) -> Manifest:
    told: dict[str, Any] = {
        "name": "tiny",
        "task": "detect",
        "labels": [f"class {i}" for i in range(classes)],
        "preprocess": {"size": size, **preprocess},
        "decoder": kind,
        "weights": {"onnx": {"file": "tiny.onnx"}},
    }
    return Manifest.model_validate(told)


def opened(runtime: str, model: onnx.ModelProto, folder: Path) -> Runtime:
    if runtime not in available():
        pytest.skip(f"{runtime} is not installed: pip install 'streamer[test]'")
    onnx.save(model, folder / "model.onnx")
    return open_runtime(runtime, folder / "model.onnx", RuntimeOptions("fp32", max_batch=4))


def frames(rows: int = 1, size: tuple[int, int] = (64, 96)) -> Array:
    return np.random.default_rng(3).integers(0, 256, (rows, *size, 3), np.uint8)


def served(runtime: str, body: Body, recipe: Recipe, folder: Path, rows: int = 1) -> Mapping[str, Array]:
    model = fold(bodies.make(body), manifest(body.kind, std=[255, 255, 255]), recipe)
    return opened(runtime, model, folder).infer({"frames": frames(rows)})


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("channels", ["rgb", "bgr"])
@pytest.mark.parametrize(
    ("mean", "std"), [((0, 0, 0), (1, 1, 1)), ((0, 0, 0), (255, 255, 255)), ((123.675, 116.28, 103.53), (58, 57, 56.5))]
)
def test_pixels_are_normalised_as_the_manifest_says(
    runtime: str, channels: str, mean: tuple[float, ...], std: tuple[float, ...], tmp_path: Path
) -> None:
    shape = [1, 3, 8, 12]
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("image", "seen")]
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["seen"])], "eye", tensors[:1], tensors[1:])
    body = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    told = manifest("yolov8", (8, 12), channels=channels, mean=mean, std=std)
    given = frames(size=(8, 12))
    seen = opened(runtime, fold(body, told, RAW), tmp_path).infer({"frames": given})["seen"]
    rgb = given if channels == "rgb" else given[..., ::-1]
    wanted = (rgb.astype(np.float64) - mean) / std
    np.testing.assert_allclose(seen, wanted.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-5)


SPELLINGS = [
    *(Body("yolov8", opset=opset) for opset in (11, 12, 13, 16, 17, 18, 19, 20, 21)),
    Body("yolov8", batch="batch"),
    Body("yolov8", image="x.1/input:0"),
    Body("yolov8", image="frames"),  # our own name
    Body("yolov8", weights_are_inputs=True),
    Body("yolov8", extra=("masks",)),
]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("spelling", SPELLINGS, ids=str)
def test_however_a_body_was_exported_it_gives_what_it_gives_alone(runtime: str, spelling: Body, tmp_path: Path) -> None:
    pixels = (frames() / 255).astype(np.float32).transpose(0, 3, 1, 2)
    plain = replace(spelling, opset=17, weights_are_inputs=False, image="images")
    (wanted, *_) = opened("onnxruntime", bodies.make(plain), tmp_path).infer({"images": pixels}).values()
    given = served(runtime, spelling, RAW, tmp_path)
    np.testing.assert_allclose(given["output0"], wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, "batch"])
def test_rows_of_a_batch_are_found_as_they_are_alone(runtime: str, kind: str, batch: int | str, tmp_path: Path) -> None:
    model = fold(bodies.make(Body(kind, batch=batch)), manifest(kind), Recipe())
    network = opened(runtime, model, tmp_path)
    together = {name: array.copy() for name, array in network.infer({"frames": frames(3)}).items()}
    for row, frame in enumerate(frames(3)):
        alone = network.infer({"frames": frame[None]})
        for name, array in together.items():
            np.testing.assert_allclose(array[row], alone[name][0], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", ["yolov5", "yolov8"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_networks_for_any_size_are_made_for_the_manifests(runtime: str, kind: str, tmp_path: Path) -> None:
    some = fold(bodies.make(Body(kind, batch="batch", any_size=True)), manifest(kind), Recipe())
    found = opened(runtime, some, tmp_path).infer({"frames": frames(2)})
    count = bodies.anchors((64, 96)) * (3 if kind == "yolov5" else 1)
    assert found["boxes"].shape == (2, min(300, count), 4)


def test_anchors_computed_from_the_shape_of_features_are_counted(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="exports a network: pip install 'streamer[build]'")

    class Points(torch.nn.Module):  # type: ignore[name-defined,misc]
        def forward(self, image: Any) -> Any:
            features = torch.nn.functional.avg_pool2d(image, 8)
            height, width = features.shape[2:]
            y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
            points = torch.stack((x, y, x * 0 + 1, y * 0 + 1)).flatten(1)[None] * 8
            scores = features.flatten(2).sigmoid()
            return torch.cat((points.expand(image.shape[0], -1, -1), scores), 1)

    path = tmp_path / "points.onnx"
    axes = {"images": {0: "batch", 2: "height", 3: "width"}, "output0": {0: "batch", 2: "anchors"}}
    torch.onnx.export(
        Points(), (torch.rand(1, 3, 32, 32),), path, dynamo=False, opset_version=17, dynamic_axes=axes,
        input_names=["images"], output_names=["output0"],
    )  # fmt: skip
    model = fold(onnx.load(path), manifest("yolov8"), Recipe())
    assert [axis.dim_value for axis in model.graph.output[0].type.tensor_type.shape.dim] == [0, 8 * 12, 4]
    found = opened("onnxruntime", model, tmp_path).infer({"frames": np.zeros((2, 64, 96, 3), np.uint8)})
    assert {tuple(box) for box in found["boxes"][1].tolist()} >= {(0, 0, 8, 8), (88, 56, 96, 64)}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", KINDS)
def test_halves_inside_are_floats_outside(runtime: str, kind: str, tmp_path: Path) -> None:
    halves = served(runtime, Body(kind, half=True), Recipe(), tmp_path)
    scores = halves["scores"].copy()
    whole = served(runtime, Body(kind), Recipe(), tmp_path)
    assert [array.dtype for array in halves.values()] == [np.float32, np.float32, np.int32]
    np.testing.assert_allclose(scores, whole["scores"], atol=5e-3)


def test_weights_beside_the_file_come_along(tmp_path: Path) -> None:
    body = bodies.make(Body("yolov8"))
    onnx.save(body, tmp_path / "tiny.onnx", save_as_external_data=True, location="tiny.data", size_threshold=0)
    graph = material(manifest("yolov8"), tmp_path / "tiny.onnx", tmp_path / "graphs").graph(Recipe())
    (tmp_path / "tiny.data").unlink()
    found = opened("onnxruntime", onnx.load(graph), tmp_path).infer({"frames": frames()})
    plain = fold(bodies.make(Body("yolov8")), manifest("yolov8"), Recipe())
    alone = opened("onnxruntime", plain, tmp_path).infer({"frames": frames()})
    np.testing.assert_array_equal(found["scores"], alone["scores"])


def test_functions_inside_are_taken_apart(tmp_path: Path) -> None:
    plain = bodies.make(Body("yolov8", opset=18))
    squash = helper.make_function(
        "local", "Squash", ["x"], ["y"], [helper.make_node("Sigmoid", ["x"], ["y"])], [helper.make_opsetid("", 18)]
    )
    model = bodies.make(Body("yolov8", opset=18))
    for node in model.graph.node:
        if node.op_type == "Sigmoid":
            node.op_type, node.domain = "Squash", "local"
    model.functions.append(squash)
    model.opset_import.append(helper.make_opsetid("local", 1))
    given, wanted = (
        opened("onnxruntime", fold(body, manifest("yolov8"), Recipe()), tmp_path).infer({"frames": frames()})
        for body in (model, plain)
    )
    np.testing.assert_allclose(given["scores"], wanted["scores"])


def test_a_body_is_left_as_it_was() -> None:
    body = bodies.make(Body("yolov8", weights_are_inputs=True, any_size=True))
    before = body.SerializeToString()
    fold(body, manifest("yolov8"), Recipe())
    assert body.SerializeToString() == before


@pytest.mark.parametrize(
    ("body", "told", "reason"),
    [
        (Body("yolov8", extra=("input",)), {}, r"2 inputs \(images, im_shape\)"),
        (Body("yolov8", batch=4), {}, "4 images at a time"),
        (Body("yolov8"), {"size": (96, 64)}, r"\(1, 3, 64, 96\).*\(\?, 3, 96, 64\)"),
        (Body("yolov8"), {"classes": 4}, "labels or decoder"),
        (Body("yolov5"), {}, r"decoder yolov8 .* \(1, 378, 8\)"),
    ],
    ids=["two inputs", "fixed batch", "size", "classes", "decoder"],
)
def test_bodies_that_do_not_fit(body: Body, told: dict[str, Any], reason: str) -> None:
    with pytest.raises(BuildError, match=reason):
        fold(bodies.make(body), manifest("yolov8", **told), Recipe())


def test_bytes_are_no_floats() -> None:
    body = bodies.make(Body("yolov8"))
    body.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    with pytest.raises(BuildError, match=r"'images', uint8 .* is not float images"):
        fold(body, manifest("yolov8"), Recipe())


def test_an_opset_that_cannot_be_brought_up_says_so() -> None:
    body = bodies.make(Body("yolov8", opset=11))
    body.graph.node[0].op_type = "Convolve"
    with pytest.raises(BuildError, match=r"opset 11 .*export it with opset 18"):
        fold(body, manifest("yolov8"), Recipe())


@pytest.mark.parametrize(
    "body", [*map(Body, KINDS), *(Body(kind, batch="batch", half=True) for kind in KINDS), Body("yolov8", opset=21)]
)
def test_tensorrt_rtx_builds_it_without_a_gpu(body: Body, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="pip install 'streamer[tensorrt-rtx]'")
    from engines.build.tensorrt_rtx import TensorRtRtxBuilder

    weights = tmp_path / "tiny.onnx"
    onnx.save(bodies.make(body), weights)
    bench = material(manifest(body.kind), weights, tmp_path)
    profile = Profile() if body.batch == 1 else Profile(1, 2, 4)
    for targets in (), ("sm_75", "sm_86", "sm_120"):
        order = Order(profile=profile, targets=targets)
        assert len(TensorRtRtxBuilder().build(bench, order, silent).data) > 10_000

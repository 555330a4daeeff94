"""An exported R-CNN finds what it finds in torch: with portable operators and native ones, wherever it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import rcnnnets
import torch
from onnx import numpy_helper
from scratch import scratch

from engines.build import open_builder
from engines.build.base import GraphPrecision, Material, Operators, Order, Profile, Recipe, silent
from engines.build.cache import EngineCache
from engines.build.graph import calibrated, material
from engines.build.precision import EXACT
from engines.build.same import objects_apart
from engines.decoders import DetectOptions
from engines.errors import BuildError
from engines.load import Upkeep, as_detector, open_on, order_for
from engines.networks.checkpoint import open_network
from engines.networks.served import serve
from engines.runtimes import open_runtime
from engines.runtimes.base import Precision, Runtime, RuntimeOptions
from engines.runtimes.openvino import fast
from engines.types import Array

EVERY_SM = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_120", "sm_121")
FEW = 0.1  # of the objects may be others in halves, where two are about as good


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Material]:
    torch.set_num_threads(2)
    with scratch(tmp_path_factory, "mask-rcnn") as folder:
        weights = rcnnnets.checkpoint(folder / "w.pth", rcnnnets.network())
        yield material(rcnnnets.manifest(), weights, folder / "graphs")


@pytest.fixture(scope="module")
def wanted(bench: Material) -> list[Array]:
    with torch.inference_mode():
        found = serve(open_network(bench.manifest, bench.weights), bench.manifest, torch.float32)(frames())
    return listed({name: value.numpy() for name, value in found.items()})


def frames(rows: int = 2) -> torch.Tensor:
    return rcnnnets.frames(2, seed=4)[:rows]


def listed(outputs: Mapping[str, Array]) -> list[Array]:
    return [outputs[name].copy() for name in ("boxes", "scores", "classes", "masks")]


def found(runtime: str, path: Path, precision: Precision = "fp32", rows: int = 2) -> list[Array]:
    opened = open_runtime(runtime, path, RuntimeOptions(precision, max_batch=2))
    outputs = listed(opened.infer({"frames": frames(rows).numpy()}))
    opened.close()
    return outputs


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("operators", ["portable", "native"])
def test_every_flavour_finds_what_torch_finds(
    bench: Material, wanted: Sequence[Array], operators: Operators, runtime: str
) -> None:
    path = bench.graph(Recipe(operators=operators))
    assert (wanted[1] > 0).sum() == 40
    assert objects_apart(found(runtime, path), wanted) == 0
    assert objects_apart(found(runtime, path, rows=1), [each[:1] for each in wanted]) == 0


@pytest.mark.parametrize("operators", ["portable", "native"])
def test_in_halves_onnxruntime_finds_nearly_the_same(
    bench: Material, wanted: Sequence[Array], operators: Operators
) -> None:
    got = found("onnxruntime", bench.graph(Recipe("fp16", operators=operators)), "fp16")
    assert objects_apart(got, wanted) <= FEW


@pytest.mark.parametrize("operators", ["portable", "native"])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_image_without_objects_gives_none(
    bench: Material, tmp_path: Path, operators: Operators, runtime: str
) -> None:
    path = tmp_path / "nothing.onnx"
    onnx.save(_all_background(onnx.load(bench.graph(Recipe(operators=operators)))), path)
    boxes, scores, _, masks = found(runtime, path)
    assert not scores.any()
    assert not boxes.any()
    assert masks.shape == (2, 20, 28, 28)


def _all_background(model: onnx.ModelProto) -> onnx.ModelProto:
    """Raise the score of the background in a served graph, where weights are constants."""
    (node,) = (node for node in model.graph.node if node.output[0].endswith("cls_score.bias"))
    bias = numpy_helper.to_array(node.attribute[0].t).copy()
    bias[0] = 1e3
    node.attribute[0].t.CopyFrom(numpy_helper.from_array(bias))
    return model


def test_what_tensorrt_gets_is_what_it_takes(bench: Material) -> None:
    refused = {"NonMaxSuppression", "NonZero", "RoiAlign", "Loop", "If", "Scan", "ScatterElements"}
    assert not used(bench.graph(Recipe(operators="portable"))) & refused
    assert {"RoiAlign", "NonZero"} <= used(bench.graph(Recipe(operators="native")))


def used(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


def test_halves_stop_where_pixels_are_counted(bench: Material) -> None:
    graph = onnx.load(bench.graph(Recipe("fp16"))).graph
    made = {name: node for node in graph.node for name in node.output}
    for op in ("TopK", "Softmax", "GridSample", "Exp"):
        nodes = [node for node in graph.node if node.op_type == op]
        assert nodes
        assert all(EXACT in node.name for node in nodes)
    assert not any(EXACT in node.name for node in graph.node if node.op_type in ("Conv", "Gemm"))
    assert made["boxes"].op_type != "Cast", "they were never halves"


@pytest.mark.parametrize(("precision", "targets"), [("fp16", EVERY_SM), ("bf16", ())], ids=["fp16 for all", "bf16"])
def test_tensorrt_rtx_builds_it(bench: Material, precision: GraphPrecision, targets: tuple[str, ...]) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'streamer[tensorrt-rtx]'")
    order = Order(Recipe(precision), Profile(1, 2, 2), targets=targets)
    assert open_builder("tensorrt_rtx").build(bench, order, silent).data


def test_pytorch_runs_it_exported(bench: Material, wanted: Sequence[Array], tmp_path: Path) -> None:
    path = tmp_path / "rcnn.engine"
    path.write_bytes(open_builder("pytorch").build(bench, Order(), silent).data)
    assert objects_apart(found("pytorch", path, "auto"), wanted) == 0


def test_each_runtime_is_given_the_operators_that_it_is_good_at(bench: Material) -> None:
    options = RuntimeOptions(max_batch=2)
    recipes = {name: order_for(name, bench, options).recipe for name in ("tensorrt_rtx", "openvino", "onnxruntime")}
    half: GraphPrecision = "bf16" if fast("bf16") else "fp32"
    assert recipes["tensorrt_rtx"] == Recipe("fp16")
    assert recipes["openvino"] == Recipe(half, operators="native")
    assert recipes["onnxruntime"] == Recipe(operators="native")


def test_int8_is_refused_in_one_sentence(bench: Material) -> None:
    with pytest.raises(BuildError, match="cannot be quantised as a whole: take bf16 or fp16"):
        bench.graph(Recipe("int8"))
    with pytest.raises(BuildError, match="cannot be quantised"):
        calibrated(bench, [], silent)


@pytest.fixture(scope="module")
def engine(bench: Material, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """OpenVINO's own file, as it is built and opened when nobody asks for a precision."""
    upkeep = Upkeep(cache=EngineCache(tmp_path_factory.mktemp("engines")))
    opened = open_on("openvino", bench, RuntimeOptions(goal="latency", max_batch=2), upkeep)
    yield opened
    opened.close()


def test_an_engine_of_openvino_keeps_the_types_of_its_graph(engine: Runtime, wanted: Sequence[Array]) -> None:
    """A hint would round coordinates too; what is left is what eight bits do to the layers."""
    boxes, scores, _, _ = listed(engine.infer({"frames": frames().numpy()}))
    assert f" {'bf16' if fast('bf16') else 'fp32'}," in engine.description
    assert np.abs(scores - wanted[1]).max() < 0.05
    assert (boxes[scores > 0] * 4 % 1 != 0).mean() > 0.5  # beyond 32, bfloat16 holds quarters


def test_what_is_served_becomes_detections_with_masks(bench: Material, engine: Runtime) -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 200, 3), np.uint8)
    found = as_detector(bench.manifest, engine, DetectOptions(0.2))([image, image])
    for detections in found:
        assert len(detections)
        assert detections.masks is not None
        assert len(detections.masks) == len(detections)
        assert (detections.xyxy <= (200, 90, 200, 90)).all()

"""Halves in the graph: the right tensors get them, and real runtimes take the result."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.build.precision import typed
from engines.errors import BuildError
from engines.types import Array, Float

NANO = Path(__file__).resolve().parents[2] / "../shared/models/yolox_nano.onnx"
Precision = Literal["fp16", "bf16"]
HALVES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


def network(weights: Float | None = None) -> onnx.ModelProto:
    """Make a network with what is awkward: a float-only input, a mask, a float cast, an output that is read inside."""
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.2, (4, 3, 3, 3)).astype(np.float32) if weights is None else weights
    stored: dict[str, Array] = {
        "weights": weights,
        "bias": rng.normal(size=4).astype(np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "first": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["images", "weights", "bias"], ["features"], pads=[1] * 4),
        helper.make_node("Resize", ["features", "", "scales"], ["large"], mode="nearest"),
        helper.make_node("Shape", ["features"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["channels"]),
        helper.make_node("Cast", ["channels"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["large", "count"], ["divided"]),
        helper.make_node("Constant", [], ["floor"], value=numpy_helper.from_array(np.array(-1e9, np.float32))),
        helper.make_node("Max", ["divided", "floor"], ["map"]),
        helper.make_node("Sigmoid", ["map"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["best"], axis=1),
    ]
    outputs = [
        helper.make_tensor_value_info(name, kind, ["n", None, None, None])
        for name, kind in (("map", TensorProto.FLOAT), ("scores", TensorProto.FLOAT), ("best", TensorProto.INT64))
    ]
    graph = helper.make_graph(
        nodes,
        "awkward",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 8, 8])],
        outputs,
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(model: onnx.ModelProto, feed: Float) -> list[Array]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: feed}))


def kinds(model: onnx.ModelProto) -> dict[str, int]:
    """Tell the type of every tensor."""
    graph = model.graph
    values = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output, *graph.value_info)}
    return values | {tensor.name: tensor.data_type for tensor in graph.initializer}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_what_is_computed_is_half_and_what_is_seen_is_float(precision: Precision) -> None:
    model = typed(network(), precision)
    onnx.checker.check_model(model, full_check=True)
    known = kinds(model)
    assert [known[value.name] for value in (*model.graph.input, *model.graph.output)] == [
        TensorProto.FLOAT,
        TensorProto.FLOAT,
        TensorProto.FLOAT,
        TensorProto.INT64,
    ]
    for node in model.graph.node:
        if node.op_type in {"Conv", "Div", "Max", "Sigmoid"}:
            assert {known[name] for name in (*node.input, *node.output)} == {HALVES[precision]}, node.op_type


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_an_input_that_must_be_float_stays_one(precision: Precision) -> None:
    model = typed(network(), precision)
    (resize,) = [node for node in model.graph.node if node.op_type == "Resize"]
    assert kinds(model)[resize.input[2]] == TensorProto.FLOAT
    assert kinds(model)[resize.input[0]] == HALVES[precision]


def test_halves_give_nearly_the_same() -> None:
    feed = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)
    for half, single in zip(run(typed(network(), "fp16"), feed)[:2], run(network(), feed)[:2], strict=True):
        assert half.dtype == np.float32
        np.testing.assert_allclose(half, single, atol=5e-3)


def test_the_body_itself_is_left_as_it_was() -> None:
    body = network()
    before = body.SerializeToString()
    typed(body, "fp16")
    assert body.SerializeToString() == before


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_weights_that_are_listed_as_inputs_are_not_asked_for(precision: Precision) -> None:
    """Files before IR version 4 list them there."""
    body = network()
    body.ir_version = 3
    for tensor in body.graph.initializer:
        body.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    assert [value.name for value in typed(body, precision).graph.input] == ["images"]


def test_a_mask_beyond_the_range_is_clipped_to_it() -> None:
    model = typed(network(), "fp16")
    (floor,) = [tensor for tensor in model.graph.initializer if tensor.name == "floor"]
    assert numpy_helper.to_array(floor) == np.finfo(np.float16).min


def test_weights_beyond_the_range_are_refused() -> None:
    body = network(np.full((4, 3, 3, 3), 1e6, np.float32))
    with pytest.raises(BuildError, match=r"'weights' reach 1e\+06, which fp16 cannot hold .*: take bf16"):
        typed(body, "fp16")
    typed(body, "bf16")


def test_a_loop_is_refused() -> None:
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "branch", [], [value])
    graph = helper.make_graph(
        [helper.make_node("If", ["which"], ["out"], name="either", then_branch=branch, else_branch=branch)],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
            helper.make_tensor_value_info("which", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1])],
    )
    with pytest.raises(BuildError, match=r"If 'either'.*export it without branches"):
        typed(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), "fp16")


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_tensorrt_rtx_builds_it_with_no_gpu(precision: Precision) -> None:
    assert build_rtx(typed(network(), precision), (1, 3, 8, 8)) > 0


@pytest.mark.skipif(not NANO.is_file(), reason="needs shared/models/yolox_nano.onnx beside the checkout")
class TestYoloxNano:
    def test_fp16_is_within_two_hundredths(self) -> None:
        body = onnx.load(NANO)
        feed = np.random.default_rng(0).uniform(0, 255, (1, 3, 416, 416)).astype(np.float32)
        (single,), (half,) = run(body, feed), run(typed(body, "fp16"), feed)
        assert np.linalg.norm(half - single) / np.linalg.norm(single) < 2e-2

    @pytest.mark.parametrize("precision", ["fp16", "bf16"])
    def test_tensorrt_rtx_builds_it(self, precision: Precision) -> None:
        assert build_rtx(typed(onnx.load(NANO), precision)) > 1_000_000


def build_rtx(model: onnx.ModelProto, shape: tuple[int, ...] | None = None) -> int:
    """Build an engine for any GPU since Ampere, strongly typed; returns its size in bytes."""
    trt = pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'streamer[tensorrt-rtx]'")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(model.SerializeToString()), [str(parser.get_error(i)) for i in range(parser.num_errors)]
    config = builder.create_builder_config()
    if shape:
        profile = builder.create_optimization_profile()
        profile.set_shape(network.get_input(0).name, shape, shape, shape)
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    return 0 if engine is None else int(engine.nbytes)

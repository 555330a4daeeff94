"""Networks exported for one image take any number, where that is what they can do."""

from __future__ import annotations

from pathlib import Path

import networks
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import rcnns
from onnx import NodeProto, TensorProto, helper, numpy_helper

from engines.build.rebatch import for_any_batch
from engines.build.shapes import known_shape
from engines.errors import BuildError

NANO = Path(__file__).resolve().parents[2] / "../shared/models/yolox_nano.onnx"


def body(nodes: list[NodeProto], out: list[int], shape: tuple[int, ...] = (1, 48)) -> onnx.ModelProto:
    """A network of float images (1, 3, 4, 4) whose nodes may read *shape*."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(np.array(shape, np.int64), "shape")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def run(model: onnx.ModelProto, rows: int) -> np.ndarray:
    feed = np.arange(rows * 48, dtype=np.float32).reshape(rows, 3, 4, 4)
    (output,) = ort.InferenceSession(model.SerializeToString()).run(None, {model.graph.input[0].name: feed})
    return np.asarray(output)


def test_a_one_that_is_written_into_a_reshape() -> None:
    given = body([helper.make_node("Reshape", ["images", "shape"], ["out"])], [1, 48])
    before = given.SerializeToString()
    made = for_any_batch(given, "m")
    assert known_shape(made.graph.input[0]) == (None, 3, 4, 4)
    assert known_shape(made.graph.output[0]) == (None, 48)
    assert np.array_equal(run(made, 3), np.arange(144, dtype=np.float32).reshape(3, 48))
    assert given.SerializeToString() == before


def test_a_shape_that_a_constant_node_holds_and_others_read() -> None:
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array([1, 48], np.int64)))
    nodes = [
        constant,
        helper.make_node("Reshape", ["images", "c"], ["flat"]),
        helper.make_node("ReduceProd", ["c"], ["count"], keepdims=0),
        helper.make_node("Cast", ["count"], ["factor"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["flat", "factor"], ["out"]),
    ]
    made = for_any_batch(body(nodes, [1, 48]), "m")
    assert np.array_equal(run(made, 2), 48 * np.arange(96, dtype=np.float32).reshape(2, 48))


@pytest.mark.parametrize(
    ("nodes", "out"),
    [
        ([helper.make_node("Softmax", ["images"], ["out"], axis=0)], [1, 3, 4, 4]),  # rows look at each other
        ([helper.make_node("Transpose", ["images"], ["out"], perm=[1, 0, 2, 3])], [3, 1, 4, 4]),
        ([helper.make_node("Reshape", ["images", "shape"], ["out"])], [3, 16]),
    ],
    ids=["mixed", "not first", "gone"],
)
def test_what_needs_its_one_image_is_left_as_it_is(nodes: list[NodeProto], out: list[int]) -> None:
    given = body(nodes, out, (3, 16))
    assert for_any_batch(given, "m") is given


def test_what_takes_any_number_already_is_left_as_it_is(tmp_path: Path) -> None:
    given = onnx.load(networks.bright_spots(tmp_path / "m.onnx", batch="n"))
    assert for_any_batch(given, "m") is given


@pytest.mark.parametrize("batch", [(), (1,)], ids=["no axis", "of one"])
def test_what_gives_a_row_an_object_takes_one_image_at_a_time(batch: tuple[int, ...]) -> None:
    made = for_any_batch(rcnns.make(rcnns.Rcnn(batch=batch)), "m")
    assert known_shape(made.graph.input[0]) == (1, 3, 96, 128)
    onnx.checker.check_model(made, full_check=True)


def test_an_image_without_a_batch_axis_gets_one_wherever_it_is_read() -> None:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [3, 4, 4])
    inside = [helper.make_tensor_value_info("out", TensorProto.FLOAT, [3, 4, 4])]
    branches = {
        name: helper.make_graph([helper.make_node(operator, ["image"], ["out"])], name, [], inside)
        for name, operator in (("then_branch", "Identity"), ("else_branch", "Neg"))
    }
    true = numpy_helper.from_array(np.array(True), "true")
    output = helper.make_tensor_value_info("image, or not", TensorProto.FLOAT, [3, 4, 4])
    nodes = [helper.make_node("If", ["true"], ["image, or not"], **branches)]
    given = helper.make_model(
        helper.make_graph(nodes, "g", [image], [output], [true]),
        opset_imports=[helper.make_opsetid("", 11)],
        ir_version=8,
    )
    made = for_any_batch(given, "m")
    onnx.checker.check_model(made, full_check=True)
    assert known_shape(made.graph.input[0]) == (1, 3, 4, 4)
    assert np.array_equal(run(made, 1), np.arange(48, dtype=np.float32).reshape(3, 4, 4))


def test_outputs_that_are_empty_prove_nothing() -> None:
    """Of two images with nothing in them, both give no rows, together as alone."""
    limit, first = (numpy_helper.from_array(values) for values in (np.array(1e9, np.float32), np.array([0])))
    nodes = [
        helper.make_node("Constant", [], ["limit"], value=limit),
        helper.make_node("Constant", [], ["first"], value=first),
        helper.make_node("Greater", ["images", "limit"], ["bright"]),
        helper.make_node("NonZero", ["bright"], ["where"]),
        helper.make_node("Transpose", ["where"], ["rows"], perm=[1, 0]),
        helper.make_node("Cast", ["rows"], ["found"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["found", "first"], ["out"]),
    ]
    given = body(nodes, [1, 0, 4])
    assert for_any_batch(given, "m") is given


def test_what_takes_no_image_is_refused() -> None:
    given = body([helper.make_node("Identity", ["images"], ["out"])], [1, 3, 4, 4])
    given.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(BuildError, match="m: its input 'images'"):
        for_any_batch(given, "m")


def test_the_public_yolox_nano() -> None:
    if not NANO.exists():
        pytest.skip("needs ../shared/models/yolox_nano.onnx beside the checkout")
    made = for_any_batch(onnx.load(NANO), "yolox-nano")
    assert known_shape(made.graph.input[0]) == (None, 3, 416, 416)

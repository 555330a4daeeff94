"""Weights stored as halves: half the bytes, and the very graph that halves give when it is opened."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import spox.opset.ai.onnx.v17 as op
from onnx import TensorProto, numpy_helper
from spox import Tensor, argument, build

from engines.build.stored import completed, halved, read_stored, widened
from engines.errors import BuildError
from engines.types import Array, Float

RANDOM = np.random.default_rng(0)
KERNEL = RANDOM.normal(0, 0.1, (8, 3, 3, 3)).astype(np.float32)
MATRIX = RANDOM.normal(0, 0.1, (8, 5)).astype(np.float32)


def network(kernel: Float = KERNEL) -> onnx.ModelProto:
    """Convolve, take the mean, and multiply by a matrix; weights are initialisers, as exporters write them."""
    image, weight, matrix = (argument(Tensor(np.float32, shape)) for shape in (("N", 3, 8, 8), KERNEL.shape, (8, 5)))
    seen = op.conv(image, weight, op.const(np.arange(8, dtype=np.float32)))
    flat = op.reduce_mean(seen, axes=[2, 3], keepdims=0)
    model = build({"image": image, "kernel": weight, "matrix": matrix}, {"out": op.matmul(flat, matrix)})
    for name, values in (("kernel", kernel), ("matrix", MATRIX)):
        model.graph.initializer.append(numpy_helper.from_array(values, name))
        model.graph.input.remove(next(each for each in model.graph.input if each.name == name))
    return model


def run(model: onnx.ModelProto) -> Float:
    image = np.linspace(-1, 1, 2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {"image": image})
    found: Float = out
    return found


def test_kernels_and_matrices_are_halves_and_biases_are_not() -> None:
    given = network()
    stored = halved(given)
    onnx.checker.check_model(stored, full_check=True)
    assert {each.name: each.data_type for each in stored.graph.initializer} == {
        "kernel_half": TensorProto.FLOAT16,
        "matrix_half": TensorProto.FLOAT16,
    }
    assert stored.ByteSize() < given.ByteSize()
    assert [each.data_type for each in given.graph.initializer] == [TensorProto.FLOAT] * 2


def test_what_is_stored_computes_as_its_halves_would() -> None:
    rounded = network(KERNEL.astype(np.float16).astype(np.float32))
    rounded.graph.initializer[1].CopyFrom(
        numpy_helper.from_array(MATRIX.astype(np.float16).astype(np.float32), "matrix")
    )
    stored = halved(network())
    assert np.array_equal(run(stored), run(rounded))
    opened = widened(stored)
    onnx.checker.check_model(opened, full_check=True)
    assert np.array_equal(run(opened), run(rounded))


def test_what_is_opened_has_floats_alone() -> None:
    opened = widened(halved(network()))
    assert {each.name: each.data_type for each in opened.graph.initializer} == dict.fromkeys(
        ("kernel", "matrix"), TensorProto.FLOAT
    )
    assert [node.op_type for node in opened.graph.node].count("Cast") == 0
    assert [node.op_type for node in opened.graph.node] == [node.op_type for node in network().graph.node]


def test_a_graph_without_halves_stays_as_it_is() -> None:
    assert widened(network()) == network()


def test_a_half_that_something_else_reads_stays() -> None:
    stored = halved(network())
    stored.graph.output.append(onnx.helper.make_tensor_value_info("kernel_half", TensorProto.FLOAT16, KERNEL.shape))
    assert "kernel_half" in {each.name for each in widened(stored).graph.initializer}


def test_weights_that_are_too_large_are_refused() -> None:
    with pytest.raises(BuildError, match="kernel is too large"):
        halved(network(KERNEL * np.float32(1e7)))


def test_what_only_a_training_needs_lies_in_the_same_file_and_in_no_graph() -> None:
    """Of what is in the graph by its name, with or without what stands before it, the graph's own is kept."""
    state: dict[str, Array] = {
        "kernel": KERNEL,
        "norm.weight": np.ones(8, np.float16),
        "norm.running_var": np.full(8, 2, np.float16),
    }
    whole = completed(halved(network()), state, "inner.")
    onnx.checker.check_model(whole, full_check=True)
    graph, beside = read_stored(whole)
    assert (set(graph), set(beside)) == ({"kernel", "matrix"}, {"norm.weight", "norm.running_var"})
    assert np.array_equal(graph["kernel"], KERNEL.astype(np.float16))
    assert np.array_equal(beside["norm.running_var"], state["norm.running_var"])
    assert widened(whole) == widened(halved(network()))


def test_somebody_elses_tensors_may_have_such_names() -> None:
    """A node reads it, so it is a part of the graph: at the top, or in a branch."""
    model = network()
    for node in model.graph.node:
        node.input[:] = ["checkpoint.kernel" if name == "kernel" else name for name in node.input]
    model.graph.initializer[0].name = "checkpoint.kernel"
    assert np.array_equal(run(widened(model)), run(network()))
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("Neg", ["checkpoint.side"], ["y"])],
        "side",
        [],
        [onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, (1,))],
    )
    branch = onnx.helper.make_node("If", ["yes"], ["z"], then_branch=inner, else_branch=inner)
    model.graph.node.append(branch)
    model.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "checkpoint.side"))
    assert "checkpoint.side" in {each.name for each in widened(model).graph.initializer}


def test_names_within_what_is_around_a_network_are_its_own() -> None:
    model = network()
    for node in model.graph.node:
        node.input[:] = ["inner.kernel" if name == "kernel" else name for name in node.input]
    model.graph.initializer[0].name = "inner.kernel"
    whole = completed(model, {"kernel": KERNEL, "bias": np.ones(8, np.float32)}, "inner.")
    assert {each.name for each in whole.graph.initializer} == {"inner.kernel", "matrix", "checkpoint.bias"}

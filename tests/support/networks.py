"""Small real networks for tests, in ONNX, with manifests: no weights need to be fetched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)
LABELS = ("bright", "dark")


def bright_spots(path: Path, size: int = 64, batch: int | str = 1) -> Path:
    """Write a network with YOLOX's output: a cell is "bright" with the mean of its blue channel as objectness.

    Its box is the cell. Blue, because it comes first in BGR: swapped channels give another answer.
    """
    nodes, weights, rows = [], [], []
    kernel = np.zeros((7, 3, 1, 1), np.float32)
    kernel[4, 0] = 1 / 255  # objectness
    bias = np.array([0.5, 0.5, 0, 0, 0, 1, 0], np.float32)  # box in the middle, as wide as the stride; class 0
    weights += [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(bias, "bias")]
    weights.append(numpy_helper.from_array(np.array([0, 7, -1], np.int64), "shape"))
    for stride in STRIDES:
        s = str(stride)
        nodes += [
            helper.make_node("AveragePool", ["images"], ["pool" + s], kernel_shape=[stride] * 2, strides=[stride] * 2),
            helper.make_node("Conv", ["pool" + s, "kernel", "bias"], ["map" + s]),
            helper.make_node("Reshape", ["map" + s, "shape"], ["flat" + s]),
            helper.make_node("Transpose", ["flat" + s], ["rows" + s], perm=[0, 2, 1]),
        ]
        rows.append("rows" + s)
    nodes.append(helper.make_node("Concat", rows, ["output"], axis=1))
    anchors = sum((size // stride) ** 2 for stride in STRIDES)
    graph = helper.make_graph(
        nodes,
        "bright_spots",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, size, size])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, anchors, 7])],
        weights,
    )
    save(graph, path)
    return path


def save(graph: onnx.GraphProto, path: Path) -> Path:
    """Check a graph and write it as a model that every runtime here reads."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def manifest(folder: Path, size: int = 64, decoder: str = "yolox") -> Path:
    """Write `bright.onnx` and a manifest beside it."""
    bright_spots(folder / "bright.onnx", size)
    path = folder / "bright.yaml"
    path.write_text(
        "name: bright\ntask: detect\n"
        f"labels: [{', '.join(LABELS)}]\n"
        f"preprocess: {{size: [{size}, {size}], align: top-left, channels: bgr}}\n"
        f"decoder: {decoder}\n"
        "weights: {onnx: {file: bright.onnx}}\n"
    )
    return path

"""Small real networks for motion and actions, in ONNX, with manifests: what they see is plain to reckon.

`flow`: how much redder and greener the later image is, in levels, as pixels to the right and down, in cells of 4 x 4.
`brightness`: dark, grey or bright, by the mean of all pixels of a clip. `motion`: left, right, up or down, by the mean
flow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from networks import save
from onnx import NodeProto, TensorProto, helper, numpy_helper

from engines.types import Array

Shapes = Mapping[str, Sequence[int | str]]

CELL = 4
BRIGHTNESS = ("dark", "grey", "bright")
MOTION = ("going left", "going right", "going up", "going down")


def flow_manifest(folder: Path, size: tuple[int, int] = (64, 96), align: str = "top-left") -> Path:
    """Write `levels.onnx` and a manifest beside it."""
    kernel = np.zeros((2, 6, CELL, CELL), np.float32)
    for channel in (0, 1):
        kernel[channel, channel], kernel[channel, 3 + channel] = -1 / CELL**2, 1 / CELL**2
    node = helper.make_node("Conv", ["pairs", "kernel"], ["flow"], strides=[CELL, CELL])
    shapes: Shapes = {"pairs": ["n", 6, *size], "flow": ["n", 2, size[0] // CELL, size[1] // CELL]}
    save(_graph([node], shapes, {"kernel": kernel}), folder / "levels.onnx")
    return _write(
        folder / "levels.yaml",
        "task: flow",
        f"preprocess: {{size: [{size[0]}, {size[1]}], align: {align}}}",
        "decoder: {kind: flow, scale: 1}",
        "weights: {onnx: {file: levels.onnx}}",
    )


def brightness_manifest(folder: Path, length: int = 4, fps: float = 10, size: tuple[int, int] = (16, 24)) -> Path:
    """Write `brightness.onnx` and a manifest beside it."""
    centres = np.array([40, 128, 215], np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["clips"], ["mean"], axes=[1, 2, 3, 4], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "last"], ["column"]),
        helper.make_node("Sub", ["column", "centres"], ["off"]),
        helper.make_node("Abs", ["off"], ["distance"]),
        helper.make_node("Mul", ["distance", "minus"], ["logits"]),
    ]
    weights = {"centres": centres, "last": np.array([1]), "minus": np.array(-0.1, np.float32)}
    shapes: Shapes = {"clips": ["n", 3, length, *size], "logits": ["n", len(centres)]}
    save(_graph(nodes, shapes, weights), folder / "brightness.onnx")
    return _actions(folder / "brightness.yaml", BRIGHTNESS, size, f"{{length: {length}, fps: {fps}}}")


def motion_manifest(folder: Path, labels: Sequence[str] = MOTION, length: int = 3) -> Path:
    """Write `motion.onnx` and a manifest beside it, of the first of its classes. Logits are 100 times the flow fed."""
    size, fps = (32, 48), 10
    to_logits = 100 * np.array([[-1, 1, 0, 0], [0, 0, -1, 1]], np.float32)[:, : len(labels)]
    nodes = [
        helper.make_node("ReduceMean", ["clips"], ["mean"], axes=[2, 3, 4], keepdims=0),
        helper.make_node("MatMul", ["mean", "to_logits"], ["logits"]),
    ]
    shapes: Shapes = {"clips": ["n", 2, length, *size], "logits": ["n", len(labels)]}
    save(_graph(nodes, shapes, {"to_logits": to_logits}), folder / "motion.onnx")
    return _actions(folder / "motion.yaml", labels, size, f"{{length: {length}, fps: {fps}, input: flow}}")


def _actions(path: Path, labels: Sequence[str], size: tuple[int, int], clip: str) -> Path:
    return _write(
        path,
        "task: recognise",
        f"labels: [{', '.join(labels)}]",
        f"preprocess: {{size: [{size[0]}, {size[1]}]}}",
        "decoder: actions",
        f"clip: {clip}",
        f"weights: {{onnx: {{file: {path.stem}.onnx}}}}",
    )


def _write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join([f"name: {path.stem}", *lines]) + "\n")
    return path


def _graph(nodes: Sequence[NodeProto], shapes: Shapes, weights: Mapping[str, Array]) -> onnx.GraphProto:
    (given, *found) = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    arrays = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    return helper.make_graph(nodes, "body", [given], found, arrays)

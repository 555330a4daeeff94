"""Small detectors with the inputs and outputs of the public YOLO exports, made of ONNX nodes; weights are random.

Their layouts are those of exports for W x H images with A = WH (1/8² + 1/16² + 1/32²) cells: `yolox` (N, A, 5 + C) in
cells, `yolov5` (N, 3A, 5 + C), `yolov8` (N, 4 + C, A) and `yolov10` (N, 300, 6) in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from engines.types import Array

STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class Body:
    """What an export may differ in."""

    kind: str
    classes: int = 3
    size: tuple[int, int] = (64, 96)
    batch: int | str = 1
    opset: int = 17
    half: bool = False
    any_size: bool = False  # height and width are dynamic, and so is the number of boxes
    logits: bool = False  # no sigmoid at the end
    image: str = "images"
    weights_are_inputs: bool = False  # as in files of old
    extra: Sequence[str] = ()  # inputs or outputs that do not belong there: "input", "masks"
    metadata: Mapping[str, str] = field(default_factory=dict)


def anchors(size: tuple[int, int]) -> int:
    return sum((size[0] // s) * (size[1] // s) for s in STRIDES)


def make(body: Body) -> onnx.ModelProto:
    graph = _Graph(body)
    columns = graph.columns()
    {"yolox": graph.yolox, "yolov5": graph.yolov5, "yolov8": graph.yolov8, "yolov10": graph.yolov10}[body.kind](columns)
    if "masks" in body.extra:
        graph.add("Conv", [body.image, graph.constant(graph.random(32, 3, 4, 4))], "output1", strides=[4, 4])
    return graph.model()


class _Graph:
    def __init__(self, body: Body) -> None:
        self.body = body
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self.dtype = np.dtype(np.float16 if body.half else np.float32)
        self._rng = np.random.default_rng(7)

    def random(self, *shape: int) -> Array:
        return self._rng.normal(0, 0.02, shape)

    def constant(self, values: Array | Sequence[int]) -> str:
        array = np.asarray(values)
        array = array.astype(np.int64 if array.dtype.kind == "i" else self.dtype)
        self.weights.append(numpy_helper.from_array(array, f"w{len(self.weights)}"))
        return f"w{len(self.weights) - 1}"

    def add(self, operator: str, inputs: Sequence[str], name: str = "", **settings: Any) -> str:
        name = name or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **settings))
        return name

    def columns(self) -> str:
        """Run a convolution a stride: (N, columns, A), of values around zero."""
        body = self.body
        width = 4 + body.classes + (body.kind in ("yolox", "yolov5")) + 32 * ("masks" in body.extra)
        levels = []
        for _ in range(3 if body.kind == "yolov5" else 1):
            for s in STRIDES:
                kernel = self.constant(self.random(width, 3, s, s))
                features = self.add("Conv", [body.image, kernel], strides=[s, s])
                levels.append(self.add("Reshape", [features, self.constant([0, width, -1])]))
        return self.add("Concat", levels, axis=2)

    def cut(self, name: str, start: int, stop: int) -> str:
        return self.add("Slice", [name, *map(self.constant, ([start], [stop], [1]))])

    def scores(self, columns: str) -> str:
        rest = self.cut(columns, 4, 1000)
        return rest if self.body.logits else self.add("Sigmoid", [rest])

    def boxes(self, columns: str) -> str:
        """Lay cells over the image, one around each point: (N, 4, A), centre and size in pixels."""
        moved = self.add("Mul", [self.cut(columns, 0, 4), self.constant(np.full(1, 2.0))])
        if self.body.any_size:
            return moved
        height, width = self.body.size
        points = [(x + s / 2, y + s / 2, 2 * s, 2 * s)
                  for s in STRIDES for y in range(0, height, s) for x in range(0, width, s)]  # fmt: skip
        many = np.tile(np.array(points, np.float32).T[None], (1, 1, 3 if self.body.kind == "yolov5" else 1))
        return self.add("Add", [moved, self.constant(many)])

    def yolox(self, columns: str) -> None:
        parts = [self.cut(columns, 0, 4), self.scores(columns)]
        self.add("Transpose", [self.add("Concat", parts, axis=1)], "output", perm=[0, 2, 1])

    def yolov5(self, columns: str) -> None:
        parts = [self.boxes(columns), self.scores(columns)]
        self.add("Transpose", [self.add("Concat", parts, axis=1)], "output0", perm=[0, 2, 1])

    def yolov8(self, columns: str) -> None:
        self.add("Concat", [self.boxes(columns), self.scores(columns)], "output0", axis=1)

    def yolov10(self, columns: str) -> None:
        """Take the best 300 of all, as networks do that need no suppression."""
        boxes, all_scores = self.boxes(columns), self.scores(columns)
        best = self.add("ReduceMax", [all_scores], axes=[1], keepdims=1)
        self.nodes.append(helper.make_node("TopK", [best, self.constant([self.kept])], ["scores", "rows"], axis=2))
        spread = self.add("Expand", ["rows", self.constant([1, 4, 1])])
        taken = self.add("GatherElements", [boxes, spread], axis=2)
        half = self.add("Mul", [self.cut(taken, 2, 4), self.constant(np.full(1, 0.5))])
        corners = [self.add(operator, [self.cut(taken, 0, 2), half]) for operator in ("Sub", "Add")]
        nothing = self.add("Mul", ["scores", self.constant(np.zeros(1))])
        rows = self.add("Concat", [*corners, "scores", nothing], axis=1)
        self.add("Transpose", [rows], "output0", perm=[0, 2, 1])

    @property
    def kept(self) -> int:
        return min(300, anchors(self.body.size))

    def outputs(self) -> dict[str, list[int | str]]:
        body, count = self.body, anchors(self.body.size)
        boxes: int | str = "anchors" if body.any_size else 3 * count if body.kind == "yolov5" else count
        width = 4 + body.classes + 32 * ("masks" in body.extra)
        shapes: dict[str, dict[str, list[int | str]]] = {
            "yolox": {"output": [body.batch, boxes, width + 1]},
            "yolov5": {"output0": [body.batch, boxes, width + 1]},
            "yolov8": {"output0": [body.batch, width, boxes]},
            "yolov10": {"output0": [body.batch, self.kept, 6]},
        }
        masks = {"output1": [body.batch, 32, body.size[0] // 4, body.size[1] // 4]} if "masks" in body.extra else {}
        return shapes[body.kind] | masks

    def model(self) -> onnx.ModelProto:
        body = self.body
        kind = TensorProto.FLOAT16 if body.half else TensorProto.FLOAT
        size = ["height", "width"] if body.any_size else body.size
        inputs = [helper.make_tensor_value_info(body.image, kind, [body.batch, 3, *size])]
        if "input" in body.extra:
            inputs.append(helper.make_tensor_value_info("im_shape", TensorProto.FLOAT, [body.batch, 2]))
        if body.weights_are_inputs:
            inputs += [helper.make_tensor_value_info(w.name, w.data_type, w.dims) for w in self.weights]
        outputs = [helper.make_tensor_value_info(name, kind, shape) for name, shape in self.outputs().items()]
        graph = helper.make_graph(self.nodes, "body", inputs, outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", body.opset)], ir_version=8)
        helper.set_model_props(model, dict(body.metadata))
        return model

"""Half precision in the graph itself, which is what a strongly typed builder goes by: TensorRT's and TensorRT-RTX's.

Our own code rather than ONNX Runtime's converter: that one knows no bfloat16, and keeps lists of operators by name
where ONNX's schemas already say which inputs and outputs may be halves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter
from onnx.inliner import inline_local_functions

from engines.build.shapes import list_only_fed
from engines.errors import BuildError
from engines.types import Array

EXACT = "exact/"  # begins the names of nodes that stay float32: they count pixels, and a half holds none beyond 512

_HALVES = {"fp16": (TensorProto.FLOAT16, np.float16), "bf16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16)}
_OLDEST = {"fp16": 11, "bf16": 22}  # opsets: convolutions and pools may be bfloat16 since 22
_IR_VERSION = 10  # the file format that came with opset 22
_LARGEST = float(np.finfo(np.float16).max)
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})  # whose weights cannot be clipped unnoticed
_STANDARD = frozenset({"", "ai.onnx"})
_TYPES = {"fp16": "tensor(float16)", "bf16": "tensor(bfloat16)"}  # in a schema


def typed(body: onnx.ModelProto, precision: Literal["fp16", "bf16"]) -> onnx.ModelProto:
    """Retype a float32 body; its own inputs and outputs stay float32, with casts between.

    Constants beyond fp16's 65504 are clipped to it, as a mask of -1e9 may be. Raises BuildError when weights are that
    large, when the network has branches or loops, or when its types do not add up.
    """
    _refuse_subgraphs(body)
    model = _inferred(_raised(inline_local_functions(body) if body.functions else body, _OLDEST[precision]))
    list_only_fed(model)
    _Retyping(model, precision).run()
    return _inferred(model)


def _raised(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    version = _opset(model)
    if version >= opset:
        return model
    try:
        raised = version_converter.convert_version(model, opset)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0].strip(" .")
        raise BuildError(
            f"the network's opset {version} cannot be raised to {opset}, which these types need ({reason}): export it "
            "anew, or take another precision"
        ) from error
    raised.ir_version = max(raised.ir_version, _IR_VERSION)
    return raised


def _opset(model: onnx.ModelProto) -> int:
    return next(int(entry.version) for entry in model.opset_import if entry.domain in _STANDARD)


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a model with the type and shape of every tensor written down."""
    try:
        onnx.checker.check_model(model)
        return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).partition("\n")[0].strip(" .")
        raise BuildError(f"the network's types do not add up ({reason}): export it again, or take fp32") from error


def _refuse_subgraphs(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise BuildError(
                f"the network has a graph inside its {node.op_type} {node.name!r}, whose types cannot be changed: "
                "export it without branches and loops, or take fp32"
            )


class _Retyping:
    """A graph under way: every float tensor has a name as a half, and one as a float, and exists as what is read.

    Of what the caller sees, inputs and outputs, the float has the name that there was; of all else the half.
    """

    def __init__(self, model: onnx.ModelProto, precision: Literal["fp16", "bf16"]) -> None:
        self._graph = model.graph
        self._opset = _opset(model)
        self._kind, self._dtype = _HALVES[precision]
        self._type = _TYPES[precision]
        self._floats = _float_tensors(model.graph)
        self._seen = {value.name for value in (*model.graph.input, *model.graph.output)}
        self._there: set[str] = {value.name for value in model.graph.input}
        self._nodes: list[onnx.NodeProto] = []
        self._stored = [tensor for tensor in model.graph.initializer if tensor.name not in self._floats]
        self._constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.name in self._floats}

    def run(self) -> None:
        for node in [node for node in self._graph.node if not self._hoist(node)]:
            self._retype(node)
        for output in self._graph.output:
            if output.name in self._floats:
                self._float(output.name)
        del self._graph.node[:], self._graph.initializer[:], self._graph.value_info[:]
        self._graph.node.extend(self._nodes)
        self._graph.initializer.extend(self._stored)

    def _hoist(self, node: onnx.NodeProto) -> bool:
        """Take a node that is but a float constant to the other constants."""
        if node.op_type != "Constant" or node.output[0] not in self._floats:
            return False
        value = helper.get_attribute_value(node.attribute[0])
        array = numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.array(value, np.float32)
        self._constants[node.output[0]] = array
        return True

    def _retype(self, node: onnx.NodeProto) -> None:
        inputs, outputs = self._allowed(node)
        halves = [name for i, name in enumerate(node.output) if name in self._floats and _at(outputs, i)]
        self._check_weights(node)
        for i, name in enumerate(node.input):
            if name in self._floats:
                node.input[i] = self._half(name) if _at(inputs, i) else self._float(name)
        for i, name in enumerate(node.output):
            if name in self._floats:
                node.output[i] = self._half_name(name) if name in halves else self._float_name(name)
                self._there.add(node.output[i])
        if halves:
            self._retype_attributes(node)
        self._nodes.append(node)

    def _allowed(self, node: onnx.NodeProto) -> tuple[list[bool], list[bool]]:
        """Tell which inputs and outputs of an operator may be halves; none where it is exact, or not a standard one."""
        if node.domain not in _STANDARD or node.name.startswith(EXACT):
            return [False], [False]
        schema = onnx.defs.get_schema(node.op_type, self._opset)
        inputs, outputs = ([self._type in slot.types for slot in slots] for slots in (schema.inputs, schema.outputs))
        return inputs, outputs

    def _retype_attributes(self, node: onnx.NodeProto) -> None:
        if node.op_type == "ConstantOfShape" and not node.attribute:  # zeros, and floats where nothing is said
            node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1, np.float32))))
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT:
                attribute.i = self._kind
            elif attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(self._narrowed(attribute.t.name, numpy_helper.to_array(attribute.t)))

    def _half(self, name: str) -> str:
        half = self._half_name(name)
        if half not in self._there:
            self._there.add(half)
            if name in self._constants:
                self._stored.append(self._narrowed(half, self._constants[name]))
            else:
                self._nodes.append(helper.make_node("Cast", [self._float_name(name)], [half], name=half, to=self._kind))
        return half

    def _float(self, name: str) -> str:
        kept = self._float_name(name)
        if kept not in self._there:
            self._there.add(kept)
            if name in self._constants:
                self._stored.append(numpy_helper.from_array(self._constants[name], kept))
            else:
                cast = helper.make_node("Cast", [self._half_name(name)], [kept], name=kept, to=TensorProto.FLOAT)
                self._nodes.append(cast)
        return kept

    def _half_name(self, name: str) -> str:
        return f"{name}/half" if name in self._seen else name

    def _float_name(self, name: str) -> str:
        return name if name in self._seen else f"{name}/float"

    def _narrowed(self, name: str, array: Array) -> TensorProto:
        if self._kind == TensorProto.FLOAT16:
            array = np.where(np.isfinite(array), np.clip(array, -_LARGEST, _LARGEST), array)
        return helper.make_tensor(name, self._kind, array.shape, array.astype(self._dtype).tobytes(), raw=True)

    def _check_weights(self, node: onnx.NodeProto) -> None:
        if self._kind != TensorProto.FLOAT16 or node.op_type not in _PRODUCTS:
            return
        for name in node.input:
            largest = np.abs(self._constants.get(name, np.zeros(1))).max(initial=0)
            if largest > _LARGEST:
                raise BuildError(
                    f"weights {name!r} reach {largest:.3g}, which fp16 cannot hold ({_LARGEST:.0f} at most): take bf16"
                )


def _float_tensors(graph: onnx.GraphProto) -> set[str]:
    values = (*graph.input, *graph.output, *graph.value_info)
    named = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return named | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}


def _at(allowed: Sequence[bool], index: int) -> bool:
    """Read what a schema says of an input or output; the last one stands for all behind it."""
    return allowed[min(index, len(allowed) - 1)]

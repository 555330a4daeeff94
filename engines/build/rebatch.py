"""Networks that were exported for one image, made to take any number.

Most public ONNX files are for a batch of one, only because reshapes have the 1 written into them. Whether that was all
is not argued but tried: two images must give together what each gives alone. What gives a row an object is not even
tried: two images without any would give nothing, together as alone.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engines.build.shapes import batched, image_input, known_shape, static
from engines.runtimes.untracked import ov
from engines.types import Array

_SAME_AS_INPUT = 0  # in the shape that a Reshape asks for
_TOLERANCE = 1e-4  # relative, of float32 outputs


def for_any_batch(body: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Copy a body for one image as one for any number; where that cannot be, it stays one for one image.

    A body whose image has no batch axis gets one, of a single row. Raises BuildError when it does not take an image.
    """
    body = batched(body, name)
    image = image_input(body, name)
    if known_shape(image)[0] != 1 or not _is_counted(body, image):
        return body
    freed = _freed(body, image.name)
    return freed if _rows_are_apart(body, freed, image) else body


def _is_counted(body: onnx.ModelProto, image: onnx.ValueInfoProto) -> bool:
    """Tell whether every output is one row of a size that is known before."""
    shapes = [known_shape(value) for value in static(body, image, known_shape(image)).graph.output]
    return all(shape[:1] == (1,) and None not in shape for shape in shapes)


def _freed(body: onnx.ModelProto, image: str) -> onnx.ModelProto:
    freed = onnx.ModelProto()
    freed.CopyFrom(body)
    graph = freed.graph
    del graph.value_info[:]  # they speak of the batch that is no more
    for value in (*(value for value in graph.input if value.name == image), *graph.output):
        if len(value.type.tensor_type.shape.dim):
            value.type.tensor_type.shape.dim[0].dim_param = "N"
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    constants |= {node.output[0]: found for node in graph.node if (found := _constant(node)) is not None}
    for number, node in enumerate(graph.node):
        if node.op_type == "Reshape" and _is_of_one(node, constants.get(node.input[1])):
            shape = constants[node.input[1]].copy()
            shape[0] = _SAME_AS_INPUT
            node.input[1] = f"reshape {number} of any batch"  # a new one: others may read the old
            graph.initializer.append(numpy_helper.from_array(shape, node.input[1]))
    return freed


def _constant(node: onnx.NodeProto) -> Array | None:
    if node.op_type != "Constant":
        return None
    told = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if "value" in told:
        return numpy_helper.to_array(told["value"])
    return np.array(told["value_ints"], np.int64) if "value_ints" in told else None


def _is_of_one(node: onnx.NodeProto, shape: Array | None) -> bool:
    literal = any(attribute.name == "allowzero" and attribute.i for attribute in node.attribute)
    return shape is not None and shape.ndim == 1 and len(shape) > 1 and shape[0] == 1 and not literal


def _rows_are_apart(body: onnx.ModelProto, freed: onnx.ModelProto, image: onnx.ValueInfoProto) -> bool:
    """Try whether two images give together what each gives alone."""
    shape = known_shape(image)[1:]
    if None in shape:
        return False
    images = np.random.default_rng(0).random((2, *map(int, filter(None, shape)))).astype(_type(image)) * 255
    try:
        together = _run(freed, images)
        alone = [_run(body, images[row : row + 1]) for row in range(2)]
    except RuntimeError:  # OpenVINO cannot: then it stays as its author left it
        return False
    return all(_same(both, np.concatenate(parts)) for both, *parts in zip(together, *alone, strict=True))


def _same(both: Array, alone: Array) -> bool:
    if both.shape != alone.shape or not alone.size or not np.isfinite(alone).all():
        return False
    return np.allclose(both, alone, rtol=_TOLERANCE, atol=_TOLERANCE * float(np.abs(alone).max(initial=0)))


def _type(image: onnx.ValueInfoProto) -> np.dtype[np.generic]:
    return np.dtype(helper.tensor_dtype_to_np_dtype(image.type.tensor_type.elem_type))


def _run(model: onnx.ModelProto, images: Array) -> list[Array]:
    core = ov.Core()
    network = core.read_model(model=model.SerializeToString())
    network.reshape(list(images.shape))
    compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answer = compiled(images)
    return [np.array(answer[i]) for i in range(len(compiled.outputs))]

"""What a network takes and gives; and networks for images of any size, made for one.

ONNX's own inference does not follow anchors that a graph computes from the shapes of its features; OpenVINO's does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import helper

from engines.errors import BuildError
from engines.feeds import Feed
from engines.runtimes.checks import shown
from engines.runtimes.untracked import ov

Shape: TypeAlias = tuple[int | None, ...]

_UNLISTED = 4  # the IR version that lets weights be no inputs


def known_shape(value: onnx.ValueInfoProto) -> Shape:
    """Read a tensor's shape; None for an axis that is dynamic, and () where nothing is said."""
    return tuple(axis.dim_value or None for axis in value.type.tensor_type.shape.dim)


FLOATS: dict[int, type[np.floating[Any]]] = {onnx.TensorProto.FLOAT: np.float32, onnx.TensorProto.FLOAT16: np.float16}


def only_input(body: onnx.ModelProto, name: object) -> onnx.ValueInfoProto:
    """Find the one input of a network, whatever it is. Raises BuildError where there are others."""
    stored = {tensor.name for tensor in body.graph.initializer}  # old files list these among the inputs
    given: list[onnx.ValueInfoProto] = [value for value in body.graph.input if value.name not in stored]
    if len(given) != 1:
        names = ", ".join(value.name for value in given) or "none"
        raise BuildError(
            f"{name}: the network has {len(given)} inputs ({names}), but one image feeds just one: export it with the "
            "image as its only input"
        )
    return given[0]


def image_input(body: onnx.ModelProto, name: object) -> onnx.ValueInfoProto:
    """Find the one input of a network, float (1 or N, 3, H, W). Raises BuildError for all others."""
    image = only_input(body, name)
    shape = known_shape(image)
    if len(shape) != 4 or shape[1] not in (None, 3) or image.type.tensor_type.elem_type not in FLOATS:
        raise BuildError(
            f"{name}: its input {described(image)} is not float images (?, 3, height, width): export it with such ones"
        )
    if shape[0] not in (None, 1):
        raise BuildError(
            f"{name}: the network takes {shape[0]} images at a time, never fewer: export it for one, or for any number"
        )
    return image


def network_input(body: onnx.ModelProto, name: object, feed: Feed) -> onnx.ValueInfoProto:
    """Find the one input of a network, which takes what *feed* is made into. Raises BuildError for all others."""
    found = image_input(body, name) if feed.form == "image" else only_input(body, name)
    shape, wanted = known_shape(found), (None, *feed.network)
    fits = len(shape) == len(wanted) and all(n in (None, w) for n, w in zip(shape[1:], wanted[1:], strict=True))
    if not fits or shape[0] not in (None, 1) or found.type.tensor_type.elem_type not in FLOATS:
        raise BuildError(
            f"{name}: its input is {described(found)}, but the manifest says {shown(wanted)}: correct 'preprocess', or "
            "take the weights that it was written for"
        )
    return found


def batched(body: onnx.ModelProto, name: object) -> onnx.ModelProto:
    """Give the image of a network without a batch axis, (3, H, W), one of a single row; all others stay what they are.

    Outputs stay as they are, and so without the axis. Raises BuildError where an image is not the only input.
    """
    shape = known_shape(only_input(body, name))
    if len(shape) != 3 or shape[0] != 3:
        return body
    axed = onnx.ModelProto()
    axed.CopyFrom(body)
    image = only_input(axed, name)
    alone, first = f"{image.name} without a batch", f"{image.name}: its first row"
    _rename(axed.graph, image.name, alone)
    axed.graph.initializer.append(helper.make_tensor(first, onnx.TensorProto.INT64, [], [0]))
    axed.graph.node.insert(0, helper.make_node("Gather", [image.name, first], [alone]))  # the same in every opset
    _write(image, (1, *shape))
    return axed


def _rename(graph: onnx.GraphProto, name: str, new: str) -> None:
    """Let the nodes of a graph, and of those inside it, read another tensor."""
    for node in graph.node:
        for place, given in enumerate(node.input):
            if given == name:
                node.input[place] = new
        for attribute in node.attribute:
            for inside in (attribute.g, *attribute.graphs):
                _rename(inside, name, new)


def list_only_fed(model: onnx.ModelProto) -> None:
    """Take weights off the list of inputs, where files before IR version 4 have them, in place.

    There they could be fed, and would have to be as soon as a weight of another type or name stands in for them.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    for value in [value for value in model.graph.input if value.name in stored]:
        model.graph.input.remove(value)
    model.ir_version = max(model.ir_version, _UNLISTED)


def described(value: onnx.ValueInfoProto) -> str:
    """Write a tensor as people do: ``images, float (1, 3, 640, 640)``; where its rank is not known, without shape."""
    kind = str(onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)).lower()
    shape = shown(known_shape(value)) if value.type.tensor_type.HasField("shape") else "of unknown shape"
    return f"{value.name!r}, {kind} {shape}"


def static(body: onnx.ModelProto, image: onnx.ValueInfoProto, shape: Shape) -> onnx.ModelProto:
    """Copy a network with *image*, its one input, of this *shape*, and outputs of the shapes that follow from it.

    Axes that do not follow, such as that of what suppression leaves over, stay dynamic, and so do those that OpenVINO
    knows nothing about.
    """
    fixed = onnx.ModelProto()
    fixed.CopyFrom(body)
    if None in known_shape(image)[1:]:
        del fixed.graph.value_info[:]  # they speak of the sizes that are no more
        for value in fixed.graph.output:
            value.type.tensor_type.ClearField("shape")
    del fixed.graph.input[:]
    fixed.graph.input.add().CopyFrom(image)
    _write(fixed.graph.input[0], shape)
    if any(not (told := known_shape(value)) or None in told[1:] for value in fixed.graph.output):
        for value, found in zip(fixed.graph.output, _followed(fixed) or _said(body), strict=True):
            if found:
                _write(value, found)
    return fixed


def _followed(model: onnx.ModelProto) -> list[Shape] | None:
    """Ask OpenVINO for the shapes of the outputs; None where it does not know the network."""
    try:
        outputs = ov.Core().read_model(model=model.SerializeToString()).outputs
    except RuntimeError:  # an operator that it lacks: other runtimes may have it
        return None
    return [_axes(output.partial_shape) for output in outputs]


def _said(body: onnx.ModelProto) -> list[Shape]:
    return [known_shape(value) for value in body.graph.output]


def _axes(shape: ov.PartialShape) -> Shape:
    if shape.rank.is_dynamic:
        return ()
    return tuple(axis.get_length() if axis.is_static else None for axis in shape)


def _write(value: onnx.ValueInfoProto, shape: Sequence[int | None]) -> None:
    """Put a shape into the file; dynamic axes get no name."""
    value.type.tensor_type.ClearField("shape")
    for axis in shape:
        dim = value.type.tensor_type.shape.dim.add()
        if axis is not None:
            dim.dim_value = axis

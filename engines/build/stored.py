"""Weights stored as halves, computed with as floats: half the bytes in a file, and the same graph when it is opened.

What a graph has no use for, but a training would miss, can lie in the same file: normalisations that were folded into
the convolutions before them. So one file is both the graph and the checkpoint, and no kernel is stored twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.errors import BuildError
from engines.types import Array

_REST = "checkpoint."  # begins the name of what no node reads
_HALF = "_half"  # ends the name of what is stored
_AXES = 2  # of kernels and matrices: biases have one, and cost nothing


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store kernels and matrices as float16, each with a cast in front of what reads it.

    Raises BuildError where one is too large.
    """
    stored = onnx.ModelProto()
    stored.CopyFrom(model)
    casts = []
    for tensor in stored.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < _AXES:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor)
        if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            raise BuildError(f"{name} is too large to be stored as float16: train with a lower rate, or keep floats")
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name + _HALF))
        casts.append(helper.make_node("Cast", [name + _HALF], [name], name=f"{name}_whole", to=TensorProto.FLOAT))
    nodes = [*casts, *stored.graph.node]
    del stored.graph.node[:]
    stored.graph.node.extend(nodes)
    return stored


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """Do what casts of stored weights would do, in place, and leave out what only a checkpoint has.

    What follows takes weights for what they are.
    """
    graph = model.graph
    for each in _rest(graph):
        graph.initializer.remove(each)
    stored = {each.name: each for each in graph.initializer if each.data_type == TensorProto.FLOAT16}
    done = [node for node in graph.node if _widens(node) and node.input[0] in stored]
    for node in done:
        values = numpy_helper.to_array(stored[node.input[0]]).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        graph.node.remove(node)
    read = {name for node in graph.node for name in node.input} | {each.name for each in graph.output}
    for name in {node.input[0] for node in done} - read:
        graph.initializer.remove(stored[name])
    return model


def completed(model: onnx.ModelProto, state: Mapping[str, Array], inner: str) -> onnx.ModelProto:
    """Store beside a graph the tensors of a state dict that are not in it by their names, or by *inner* and these."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    graph, _ = read_stored(model)
    stored = {name.removeprefix(inner) for name in graph}
    rest = [numpy_helper.from_array(values, _REST + name) for name, values in state.items() if name not in stored]
    whole.graph.initializer.extend(rest)
    return whole


def read_stored(model: onnx.ModelProto) -> tuple[dict[str, Array], dict[str, Array]]:
    """Give the tensors of a file that `halved` and `completed` made, by the names that they had before.

    The first are those of the graph, the others those beside it.
    """
    rest = {each.name for each in _rest(model.graph)}
    graph: dict[str, Array] = {}
    beside: dict[str, Array] = {}
    for each in model.graph.initializer:
        if each.name in rest:
            beside[each.name.removeprefix(_REST)] = numpy_helper.to_array(each)
        else:
            half = each.data_type == TensorProto.FLOAT16
            graph[each.name.removesuffix(_HALF) if half else each.name] = numpy_helper.to_array(each)
    return graph, beside


def _rest(graph: onnx.GraphProto) -> list[TensorProto]:
    """List what `completed` has stored. Somebody else's tensors may have such names, but those are read by nodes."""
    named = [each for each in graph.initializer if each.name.startswith(_REST)]
    read = set(_read(graph)) if named else set()
    return [each for each in named if each.name not in read]


def _read(graph: onnx.GraphProto) -> Iterator[str]:
    """List all names that nodes read, and those within them."""
    for node in graph.node:
        yield from node.input
        for each in node.attribute:
            for inner in (each.g, *each.graphs):
                yield from _read(inner)
    yield from (each.name for each in graph.output)


def _widens(node: onnx.NodeProto) -> bool:
    return node.op_type == "Cast" and any(each.name == "to" and each.i == TensorProto.FLOAT for each in node.attribute)

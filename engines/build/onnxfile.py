"""What a stranger's ONNX file says about itself.

Exports of Ultralytics carry `names`, `imgsz`, `task` and the like in their metadata: str() of a Python value each.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from engines.build.graph import read_onnx
from engines.build.shapes import batched, described, image_input, known_shape, only_input, static
from engines.errors import BuildError, ModelError
from engines.geometry import Size
from engines.runtimes.checks import check_file
from engines.types import Array

_QUANTISED = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger"}
_LONGEST = 1_000_000  # characters of metadata that are read
_MEANS = (
    (0.485, 0.456, 0.406),
    (0.48235, 0.45882, 0.40784),
)  # of R, G and B: ImageNet's, and VGG's own


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """A network, looked at for images of one size."""

    path: Path
    image: onnx.ValueInfoProto  # (1 or N, 3, H, W), as it is served
    size: Size
    size_from: str  # in words
    outputs: tuple[onnx.ValueInfoProto, ...]
    metadata: Mapping[str, str]
    quantised: bool
    normalises: bool  # it takes a well-known mean off by itself

    @property
    def any_batch(self) -> bool:
        return known_shape(self.image)[0] is None

    def given(self) -> str:
        """Write down all of its outputs."""
        return " and ".join(described(value) for value in self.outputs) or "nothing"


def look(path: Path, size: Size | None) -> OnnxFile:
    """Look at a file; *size* (height, width) is what a network for images of any size is to be used for.

    Raises ModelError when it is no ONNX file, BuildError when no image can be fed to it.
    """
    given = _read(path)
    model = batched(given, path)
    image = image_input(model, path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    told, why = _size(path, only_input(given, path), metadata, size)
    fixed = static(model, image, (known_shape(image)[0], 3, *told))
    quantised = any(node.op_type in _QUANTISED for node in model.graph.node)
    normalises = any(_is_mean(values) for values in _small_constants(model.graph))
    return OnnxFile(path, image, told, why, tuple(fixed.graph.output), metadata, quantised, normalises)


def class_names(file: OnnxFile) -> tuple[str, ...] | None:
    """Read the classes: a list, or a dict of 0 to n - 1; None where neither is there."""
    told = _value(file.metadata, "names")
    if isinstance(told, dict) and set(told) == set(range(len(told))):
        told = [told[i] for i in range(len(told))]
    if not isinstance(told, list | tuple) or not told:
        return None
    names = tuple(" ".join(str(name).split()) for name in told)
    return names if all(names) else None


def _read(path: Path) -> onnx.ModelProto:
    check_file(path)
    if path.suffix != ".onnx":
        raise ModelError(f"{path} is not called .onnx: export your network to ONNX, and give that file")
    return read_onnx(path)


def _size(path: Path, image: onnx.ValueInfoProto, metadata: Mapping[str, str], size: Size | None) -> tuple[Size, str]:
    height, width = known_shape(image)[-2:]
    if height and width:
        if size not in (None, (height, width)):
            raise BuildError(
                f"{path}: its input {described(image)} is for {height}x{width} alone: leave the size out, or export it "
                f"for {size[0]}x{size[1]}"
            )
        return (height, width), f"input {described(image)}"
    told = size or _image_size(metadata)
    if told is None:
        raise BuildError(
            f"{path}: its input {described(image)} takes images of any size: say which with --size, such as 640x640"
        )
    return told, f"input {described(image)} takes any; {'this was asked for' if size else 'its metadata names this'}"


def _image_size(metadata: Mapping[str, str]) -> Size | None:
    told = _value(metadata, "imgsz")
    if isinstance(told, list | tuple) and len(told) == 2 and all(isinstance(n, int) and n > 0 for n in told):
        return told[0], told[1]
    return None


def _value(metadata: Mapping[str, str], key: str) -> object:
    """Read a Python literal; None where there is none. Nothing is evaluated but numbers, text and what holds them."""
    text = metadata.get(key, "")
    if len(text) > _LONGEST:
        return None
    try:
        value: object = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # whoever wrote it meant something else
        return None
    return value


def _small_constants(graph: onnx.GraphProto) -> Iterator[Array]:
    """List the constants of up to three numbers, those of the graphs inside as well."""
    tensors = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.HasField("t"):
                tensors.append(attribute.t)
            for inside in (attribute.g, *attribute.graphs):
                yield from _small_constants(inside)
    for tensor in tensors:
        if 1 <= np.prod(tensor.dims, dtype=int) <= 3:
            yield numpy_helper.to_array(tensor)


def _is_mean(values: Array) -> bool:
    """Tell one of the means, or the first of its three numbers alone."""
    if values.dtype.kind != "f":
        return False
    return any(np.allclose(values.ravel(), mean[: values.size], rtol=0, atol=1e-4) for mean in _MEANS)

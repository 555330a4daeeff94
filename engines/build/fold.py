"""A network with everything around it that is arithmetic: bytes in, candidates out.

The served graph has one input, `frames` uint8 (N, H, W, 3) RGB, and gives what its manifest's head makes of the
network's outputs; or, where the recipe says raw, these outputs themselves. What is around the network is float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import spox.opset.ai.onnx.v17 as op
from onnx.inliner import inline_local_functions
from onnx.version_converter import convert_version
from spox import Tensor, Var, argument, build, inline

from engines.build.base import Recipe
from engines.build.heads import Place, decode
from engines.build.shapes import FLOATS, described, image_input, known_shape, static
from engines.errors import BuildError
from engines.manifest import Manifest
from engines.runtimes.checks import shown
from engines.types import PixelInput

FRAMES = "frames"
_BATCH = "N"
_OPSET = 18  # of what is around the network; one that is newer is met halfway, one that is older is brought here
_IR_VERSION = 10  # newer than this, and TensorRT 10.3 or ONNX Runtime 1.20 would not read it


def fold(body: onnx.ModelProto, manifest: Manifest, recipe: Recipe) -> onnx.ModelProto:
    """Wrap a *body* (float NCHW in, raw outputs) into its served graph. Raises BuildError where they do not fit."""
    size, told = manifest.preprocess.size, manifest.preprocess
    image = image_input(body, manifest.name)
    _check_size(image, manifest)
    batch = known_shape(image)[0]
    frames = argument(Tensor(np.uint8, (batch or _BATCH, *size, 3)))
    pixels = _normalised(frames, PixelInput(told.channels, told.mean, told.std))
    feed = op.cast(pixels, to=FLOATS[image.type.tensor_type.elem_type])
    raw = inline(_modern(static(body, image, (batch, 3, *size)), manifest))(**{image.name: feed})
    return _finish(build({FRAMES: frames}, _outputs(raw, manifest, recipe)), manifest, recipe)


def _outputs(raw: Mapping[str, Var], manifest: Manifest, recipe: Recipe) -> dict[str, Var]:
    if recipe.layout == "raw":
        return {name: op.cast(output, to=np.float32) for name, output in raw.items()}
    found = decode(raw, manifest.decoder, Place(len(manifest.labels), manifest.preprocess.size))
    return {"boxes": found.boxes, "scores": found.scores, "classes": found.classes, **found.extras}


def _normalised(frames: Var, pixels: PixelInput) -> Var:
    """Make float NCHW in the network's order of channels; what would change nothing is left out."""
    # The cast comes first: TensorRT does nothing else with bytes.
    planes = op.transpose(op.cast(frames, to=np.float32), perm=[0, 3, 1, 2])
    if pixels.channels == "bgr":
        last = np.iinfo(np.int64).min
        # A slice backwards costs nothing that could be measured; a gather does.
        planes = op.slice(planes, _ints(-1), _ints(last), _ints(1), _ints(-1))
    if any(pixels.mean):
        planes = op.sub(planes, _channels(pixels.mean))
    return op.div(planes, _channels(pixels.std)) if set(pixels.std) != {1.0} else planes


def _check_size(image: onnx.ValueInfoProto, manifest: Manifest) -> None:
    size = manifest.preprocess.size
    if any(given not in (None, wanted) for given, wanted in zip(known_shape(image)[2:], size, strict=True)):
        raise BuildError(
            f"{manifest.name}: its input is {described(image)}, but the manifest says {shown((None, 3, *size))}: "
            "correct 'preprocess', or take the weights that it was written for"
        )


def _modern(body: onnx.ModelProto, manifest: Manifest) -> onnx.ModelProto:
    """Bring an old network to the opset of what is put around it, and take functions apart. Raises BuildError."""
    opset = max((entry.version for entry in body.opset_import if entry.domain in ("", "ai.onnx")), default=_OPSET)
    try:
        plain = inline_local_functions(body) if body.functions else body
        return plain if opset >= _OPSET else convert_version(plain, _OPSET)
    except Exception as error:  # what ONNX's own tools raise has no base of its own
        reason = str(error).partition("\n")[0].strip(" .")
        raise BuildError(
            f"{manifest.name}: the network is of opset {opset} and cannot be brought to {_OPSET} ({reason}): export it "
            f"with opset {_OPSET}"
        ) from error


def _finish(graph: onnx.ModelProto, manifest: Manifest, recipe: Recipe) -> onnx.ModelProto:
    graph.ir_version = min(graph.ir_version, _IR_VERSION)
    if not known_shape(graph.graph.input[0])[0]:
        for output in graph.graph.output:  # as many rows as came in: a runtime that is told need not look
            _name_batch(output.type.tensor_type.shape.dim)
    facts = {"streamer.model": manifest.name, "streamer.precision": recipe.precision, "streamer.layout": recipe.layout}
    onnx.helper.set_model_props(graph, facts)
    try:
        onnx.checker.check_model(graph, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).partition("\n")[0].strip(" .")
        raise BuildError(f"{manifest.name}: its served graph is not valid ONNX ({reason}): export it again") from error
    return graph


def _name_batch(axes: Sequence[onnx.TensorShapeProto.Dimension]) -> None:
    if axes and not axes[0].dim_value:
        axes[0].dim_param = _BATCH


def _ints(*values: int) -> Var:
    return op.const(np.array(values, np.int64))


def _channels(values: tuple[float, float, float]) -> Var:
    return op.const(np.array(values, np.float32).reshape(1, 3, 1, 1))

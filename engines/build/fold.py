"""A network with everything around it that is arithmetic: bytes in, candidates out.

The served graph has one input, `frames` uint8 (N, H, W, 3) RGB or another of `engines.feeds`, and gives what its
manifest's head makes of the network's outputs; or, where the recipe says raw, these outputs themselves, if their number
of rows is fixed. What is around the network is float32.
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
from engines.build.feeding import arranged
from engines.build.heads import Place, decode
from engines.build.heads.motion import decode_motion
from engines.build.shapes import FLOATS, known_shape, network_input, static
from engines.errors import BuildError
from engines.feeds import feed_of
from engines.manifest import Manifest
from engines.outputs import UNCOUNTED, OwnDecoder

_BATCH = "N"
_OPSET = 18  # of what is around the network; one that is newer is met halfway, one that is older is brought here
_IR_VERSION = 10  # newer than this, and TensorRT 10.3 or ONNX Runtime 1.20 would not read it


def fold(body: onnx.ModelProto, manifest: Manifest, recipe: Recipe) -> onnx.ModelProto:
    """Wrap a *body* (floats in, raw outputs) into its served graph. Raises BuildError where they do not fit."""
    feed = feed_of(manifest)
    given = network_input(body, manifest.name, feed)
    _check_precision(manifest, recipe)
    batch = known_shape(given)[0]
    fed = argument(Tensor(feed.dtype, (batch or _BATCH, *feed.shape)))
    values = op.cast(arranged(fed, feed), to=FLOATS[given.type.tensor_type.elem_type])
    raw = inline(_modern(static(body, given, (batch, *feed.network)), manifest))(**{given.name: values})
    return _finish(build({feed.name: fed}, _outputs(raw, manifest, recipe)), manifest, recipe)


def _outputs(raw: Mapping[str, Var], manifest: Manifest, recipe: Recipe) -> dict[str, Var]:
    own = isinstance(manifest.decoder, OwnDecoder)
    if own and manifest.task != "detect":
        raise BuildError(f"{manifest.name}: a package's decoder finds boxes and nothing else: its task is detect")
    if own or (recipe.layout == "raw" and manifest.decoder.kind not in UNCOUNTED):
        return {name: op.cast(output, to=np.float32) for name, output in raw.items()}
    if manifest.task in ("flow", "recognise"):
        return decode_motion(raw, manifest)
    found = decode(raw, manifest.decoder, Place(len(manifest.labels), manifest.preprocess.size))
    return {"boxes": found.boxes, "scores": found.scores, "classes": found.classes, **found.extras}


def _check_precision(manifest: Manifest, recipe: Recipe) -> None:
    if manifest.decoder.kind in UNCOUNTED and recipe.precision != "fp32":
        raise BuildError(
            f"{manifest.name} gives as many rows as there are objects, so it stays fp32 and runs in onnxruntime and "
            f"openvino alone, but {recipe.precision} is asked for, perhaps by TensorRT: take one of these, with "
            "precision auto or fp32"
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

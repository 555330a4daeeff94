"""A checkpoint to the body of its network, in ONNX: float NCHW in, the network's raw outputs out."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from engines.build.base import Operators, Tell, silent
from engines.build.precision import EXACT
from engines.build.same import objects_apart
from engines.errors import BuildError
from engines.feeds import feed_of
from engines.manifest import Manifest
from engines.networks import find_family, served_form
from engines.networks.blocks import fold_norms
from engines.networks.checkpoint import open_network
from engines.networks.exact import Exact, Inexact
from engines.networks.served import Feeding, example, in_tuple
from engines.runtimes.pytorch import quiet
from engines.types import Array, Float

IMAGES = "images"
_SCOPES = "pkg.torch.onnx.name_scopes"
_OPSET = 18  # the oldest that the exporter writes itself; every runtime here reads it
_TOLERANCE = 1e-3  # relative, of the whole output
_APART = 0.05  # share of objects, of which some are found by a rounding more or less
_FATAL = 4  # log severity of ONNX Runtime: what is worth saying is raised as well


def export_body(
    manifest: Manifest, checkpoint: Path, tell: Tell = silent, operators: Operators = "portable"
) -> onnx.ModelProto:
    """Export a manifest's network with the weights in *checkpoint*, for batches of any size and images of its own.

    What is returned is valid ONNX and gives what torch gives, which was tried; nodes whose names start with `EXACT` are
    to stay float32. Raises ManifestError and WeightsError where the checkpoint is not that of the network, and
    BuildError where it cannot be exported.
    """
    if manifest.architecture is None:
        raise BuildError(
            f"{manifest.name} is just a graph, so {checkpoint.name} cannot be read into it: give an .onnx file, "
            "or name its 'architecture' in the manifest"
        )
    tell(f"reading {checkpoint.name} into {manifest.architecture} {manifest.variant or ''}".rstrip())
    family = find_family(manifest.architecture)
    network = open_network(manifest, checkpoint)
    probe = _probe(manifest)
    with torch.inference_mode():
        wanted = in_tuple(served_form(network, manifest)(probe))
    if not all(output.isfinite().all() for output in wanted):
        raise BuildError(f"{manifest.name}: {checkpoint} holds weights that give no finite numbers: take others")
    tell(f"exporting {manifest.name} to ONNX")
    served = served_form(fold_norms(network), manifest, operators).eval()
    model = _export(manifest.name, served, probe, family.outputs)
    tell(f"comparing {manifest.name} in ONNX Runtime with torch")
    found = _run(manifest.name, model, probe)
    compare, most = (_difference, _TOLERANCE) if family.served is None else (objects_apart, _APART)
    error = compare(found, [output.numpy() for output in wanted])
    if not error <= most:  # nor is NaN an answer
        raise BuildError(
            f"{manifest.name}: the exported graph differs from torch by {error:.1e} (at most {most:.0e} is "
            "allowed): report it, for it is ours to mend"
        )
    return model


def _probe(manifest: Manifest) -> Tensor:
    """Make two inputs of noise, as the network sees them."""
    values: Tensor = Feeding(feed_of(manifest))(example(manifest))
    return values


def _export(name: str, network: nn.Module, probe: Tensor, outputs: Sequence[str]) -> onnx.ModelProto:
    try:
        with quiet():
            program = torch.onnx.export(
                network,
                (probe,),
                dynamo=True,
                input_names=[IMAGES],
                output_names=list(outputs),
                dynamic_shapes=({0: torch.export.Dim("N")},),
                opset_version=_OPSET,
                verbose=False,
            )
        assert program is not None, "as no file was named"  # noqa: S101 - for the type checker
        model = _stripped(_marked(program.model_proto, network))
        onnx.checker.check_model(model, full_check=True)
    except (torch.onnx.OnnxExporterError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise BuildError(f"{name} cannot be exported to ONNX ({reason}): report it, for it is ours to mend") from error
    return model


def _stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop where in which source file each node was made: the same weights must give the same bytes on any machine."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model


def _marked(model: onnx.ModelProto, network: nn.Module) -> onnx.ModelProto:
    """Name what `Exact` modules do, which the exporter tells by their places in the network."""
    marks = {name: module for name, module in network.named_modules() if isinstance(module, Exact | Inexact)}
    for node in model.graph.node:
        told = {entry.key: entry.value for entry in node.metadata_props}
        places = [name for name in ast.literal_eval(told.get(_SCOPES, "[]")) if name in marks]
        if places and isinstance(marks[places[-1]], Exact):  # the innermost
            node.name = EXACT + node.name
    return model


def _run(name: str, model: onnx.ModelProto, probe: Tensor) -> list[Float]:
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    # The graph as it is: what a runtime makes of it is that runtime's own affair.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found: list[Float] = session.run(None, {IMAGES: probe.numpy()})
    except Exception as error:  # ONNX Runtime's exceptions have no base of their own
        raise BuildError(
            f"{name}: ONNX Runtime cannot run the exported graph ({error}): export it elsewhere"
        ) from error
    return found


def _difference(found: Sequence[Float], wanted: Sequence[Float]) -> float:
    """Measure the largest relative error of a whole output, as the parity tests do."""
    return max(_relative(got, want.astype(np.float64)) for got, want in zip(found, wanted, strict=True))


def _relative(got: Float, want: Array) -> float:
    if got.shape != want.shape:
        return float("inf")
    return float(np.linalg.norm(got - want)) / max(float(np.linalg.norm(want)), 1e-12)

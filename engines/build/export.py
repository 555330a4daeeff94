"""A checkpoint to the body of its network, in ONNX: float NCHW in, the network's raw outputs out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from engines.build.base import Tell, silent
from engines.errors import BuildError
from engines.manifest import Manifest
from engines.networks import find_family
from engines.networks.blocks import fold_norms
from engines.networks.checkpoint import open_network
from engines.networks.served import in_tuple
from engines.runtimes.pytorch import quiet
from engines.types import Float

IMAGES = "images"
_OPSET = 18  # the oldest that the exporter writes itself; every runtime here reads it
_TOLERANCE = 1e-3  # relative, of the whole output
_FATAL = 4  # log severity of ONNX Runtime: what is worth saying is raised as well


def export_body(manifest: Manifest, checkpoint: Path, tell: Tell = silent) -> onnx.ModelProto:
    """Export a manifest's network with the weights in *checkpoint*, for batches of any size and images of its own.

    What is returned is valid ONNX and gives what torch gives, which was tried. Raises ManifestError and WeightsError
    where the checkpoint is not that of the network, and BuildError where it cannot be exported.
    """
    if manifest.architecture is None:
        raise BuildError(
            f"{manifest.name} is just a graph, so {checkpoint.name} cannot be read into it: give an .onnx file, "
            "or name its 'architecture' in the manifest"
        )
    tell(f"reading {checkpoint.name} into {manifest.architecture} {manifest.variant or ''}".rstrip())
    family = find_family(manifest.architecture)
    network = open_network(manifest, checkpoint)
    probe = _probe(manifest.preprocess.size)
    with torch.inference_mode():
        wanted = in_tuple(network(probe))
    if not all(output.isfinite().all() for output in wanted):
        raise BuildError(f"{manifest.name}: {checkpoint} holds weights that give no finite numbers: take others")
    tell(f"exporting {manifest.name} to ONNX")
    model = _export(manifest.name, fold_norms(network), probe, family.outputs)
    tell(f"comparing {manifest.name} in ONNX Runtime with torch")
    found = _run(manifest.name, model, probe)
    error = max(_difference(*pair) for pair in zip(found, wanted, strict=True))
    if not error <= _TOLERANCE:  # nor is NaN an answer
        raise BuildError(
            f"{manifest.name}: the exported graph differs from torch by {error:.1e} (at most {_TOLERANCE:.0e} is "
            "allowed): report it, for it is ours to mend"
        )
    return model


def _probe(size: tuple[int, int]) -> Tensor:
    """Make two images of noise in 0..255: two, for an export with one makes the batch a constant."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, *size, generator=generator) * 255


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
        model = _stripped(program.model_proto)
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


def _difference(got: Float, wanted: Tensor) -> float:
    """Measure the relative error of the whole output, as the parity tests do."""
    if got.shape != tuple(wanted.shape):
        return float("inf")
    want = wanted.numpy().astype(np.float64)
    return float(np.linalg.norm(got - want)) / max(float(np.linalg.norm(want)), 1e-12)

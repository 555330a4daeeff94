"""Engines for PyTorch: the served network as an exported program, which runs without its Python code, on any device."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from engines import zoo
from engines.build.base import Built, Identity, Material, Order, Recipe, Tell
from engines.errors import BuildError, RuntimeUnavailable
from engines.manifest import Manifest, Weights
from engines.networks.blocks import fold_norms
from engines.networks.checkpoint import is_checkpoint, open_network
from engines.networks.served import Served, example, serve
from engines.runtimes import pt2
from engines.runtimes.pytorch import quiet

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_GIVE_CHECKPOINT = "name its 'architecture' and a checkpoint in the manifest's 'weights', or take another runtime"


class PyTorchBuilder:
    """Make .pt2 files of checkpoints: PyTorch cannot read ONNX."""

    def identity(self, order: Order) -> Identity:
        """Tell the version of torch; the device plays no part, for nothing is chosen for it before opening."""
        if order.targets:
            raise RuntimeUnavailable("an engine for pytorch runs on any device: leave out the targets")
        return Identity(torch.__version__, "any")

    def build(self, material: Material, order: Order, tell: Tell) -> Built:
        """Export the network for batches of any size. Raises BuildError, WeightsError and ManifestError."""
        manifest, recipe = material.manifest, order.recipe
        if recipe.precision not in _DTYPES:
            known = ", ".join(_DTYPES)
            raise BuildError(
                f"{manifest.name}: pytorch has no {recipe.precision} here, only {known}: take one of these, or another "
                "runtime"
            )
        network = open_network(manifest, _checkpoint(material, tell))
        served = serve(fold_norms(network), manifest, _DTYPES[recipe.precision], recipe.layout)
        tell(f"exporting {manifest.name} in {recipe.precision} for PyTorch {torch.__version__}")
        return Built(_export(served, manifest, recipe), {"batch": "any"})

    def fault(self, engine: Path) -> str | None:
        """Say why a file is no engine of PyTorch's that we would open; None where it is one."""
        return pt2.fault(engine)


def _checkpoint(material: Material, tell: Tell) -> Path:
    """Find the weights that torch can read; where the material is ONNX, those that the manifest names besides."""
    manifest = material.manifest
    if manifest.architecture is None:
        raise BuildError(f"{manifest.name} is just a graph, and pytorch needs a network it knows: {_GIVE_CHECKPOINT}")
    named = manifest.weights.checkpoint
    if material.weights.suffix != ".onnx" or is_checkpoint(manifest, material.weights):
        return material.weights
    if named is None:
        raise BuildError(f"{manifest.name} has only ONNX weights, and a graph is no checkpoint: {_GIVE_CHECKPOINT}")
    tell(f"looking for {named.file}, as {material.weights.name} is no checkpoint")
    return zoo.locate(manifest.model_copy(update={"weights": Weights(checkpoint=named)}))


def _export(served: Served, manifest: Manifest, recipe: Recipe) -> bytes:
    facts = {"model": manifest.name, "precision": recipe.precision, "layout": recipe.layout}
    return export_program(served, example(manifest), facts)


def export_program(network: nn.Module, example: torch.Tensor, facts: Mapping[str, str]) -> bytes:
    """Make a .pt2 of a network that takes a tensor and gives named ones, for any number of rows.

    *example* has two rows or more: one would become a constant.
    """
    file = io.BytesIO()
    with quiet(), torch.no_grad():
        program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("N")},))
        program.example_inputs = None  # they would be pickled
        torch.export.save(program, file, extra_files={pt2.FACTS: json.dumps(dict(facts))})
    return file.getvalue()

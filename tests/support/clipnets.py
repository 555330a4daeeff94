"""Networks of clips and pairs with random weights, and what an export makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from engines.build.base import Built, Material, Order, Profile, Recipe, silent
from engines.build.precision import typed
from engines.networks.blocks import fold_norms
from engines.runtimes import open_runtime
from engines.runtimes.base import Runtime, RuntimeOptions
from engines.runtimes.pytorch import quiet

ROWS = 2


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give a network weights that keep what goes through it in bounds, and normalisation that does something."""
    generator = torch.Generator().manual_seed(seed)
    for key, value in network.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        if key.endswith("running_var") or (key.endswith("weight") and value.ndim == 1):
            value.uniform_(0.6, 1.2, generator=generator)
        else:
            fan = value[0].numel() if value.ndim > 1 else 640
            value.normal_(0, (1.6 / fan) ** 0.5, generator=generator)
    return network.eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Exported:
    """A network as ONNX, and what torch makes of its *inputs*, which have two rows."""

    path: Path
    inputs: dict[str, Tensor]
    wanted: dict[str, Tensor]

    def error(self, runtime: str) -> float:
        """Run it elsewhere, row by row and together; give the worst relative difference of an output."""
        opened = open_runtime(runtime, self.path, RuntimeOptions("fp32", max_batch=ROWS))
        batches = [slice(0, 1), slice(1, 2), slice(0, ROWS)]
        try:
            return max(self._error(opened, rows) for rows in batches)
        finally:
            opened.close()

    def _error(self, opened: Runtime, rows: slice) -> float:
        got = opened.infer({name: value[rows].numpy() for name, value in self.inputs.items()})
        assert got.keys() == self.wanted.keys()
        return max(_difference(got[name], want[rows].numpy()) for name, want in self.wanted.items())

    def build_rtx(self, *targets: str) -> Built:
        """Build it for TensorRT-RTX in fp16, for batches of one to four."""
        from engines.build.tensorrt_rtx import TensorRtRtxBuilder

        half = self.path.with_suffix(".half.onnx")
        onnx.save(typed(onnx.load(self.path), "fp16"), half)

        class Named:
            name = self.path.stem

        bench = Material(cast("Any", Named), half, lambda _recipe: "digest", lambda _recipe: half)
        order = Order(Recipe("fp16"), Profile(1, 2, 4), targets=targets)
        return TensorRtRtxBuilder().build(bench, order, silent)


def export(network: nn.Module, inputs: dict[str, Tensor], outputs: Sequence[str], path: Path) -> Exported:
    """Export a network for batches of any size, its normalisation folded."""
    with torch.inference_mode():
        made = network(*inputs.values())
    wanted = dict(zip(outputs, made if isinstance(made, tuple) else (made,), strict=True))
    with quiet():
        program = torch.onnx.export(
            fold_norms(network),
            tuple(inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=tuple({0: torch.export.Dim("N")} for _ in inputs),
            opset_version=18,
            verbose=False,
        )
    assert program is not None
    onnx.checker.check_model(program.model_proto, full_check=True)
    onnx.save(program.model_proto, path)
    return Exported(path, inputs, wanted)


def _difference(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any]) -> float:
    assert got.shape == want.shape
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))

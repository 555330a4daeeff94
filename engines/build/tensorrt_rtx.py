"""Engines for TensorRT-RTX, built ahead of time: no GPU is needed, and the engine may be for another machine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import tensorrt_rtx as trt

from engines.build.base import PORTABLE, Built, Identity, Material, Order, Tell
from engines.build.trt_common import build_engine
from engines.errors import BuildError, RuntimeUnavailable
from engines.runtimes.cuda import find_gpu
from engines.runtimes.trt_log import logger

_NEVER = frozenset({"NONE", "CURRENT"})
_FAULTS = {"MALFORMED_ENGINE": "is damaged, or no engine for TensorRT-RTX", "VERSION_MISMATCH": "is of another version"}


class TensorRtRtxBuilder:
    """Build for the compute capabilities that are ordered, or for the GPU here, or for all from Ampere on."""

    def identity(self, order: Order) -> Identity:
        """Raises BuildError for targets that there are not, RuntimeUnavailable where the GPU here is none of them."""
        return Identity(trt.__version__, _device(order))

    def build(self, material: Material, order: Order, tell: Tell) -> Built:
        """Raises BuildError."""
        device = _device(order)
        graph = material.graph(order.recipe)
        tell(f"building {material.manifest.name} for {device}")
        return build_engine(trt, graph, order, lambda config: _aim(config, order), tell)

    def fault(self, engine: Path) -> str | None:
        """Look at the header: what it is, and of which version. What comes after it only a checksum can tell."""
        runtime: trt.Runtime = trt.Runtime(logger(trt))
        with engine.open("rb") as file:
            header = file.read(runtime.engine_header_size)
        _, diagnostics = runtime.get_engine_validity(header)
        # What else it finds is about the GPU here, or that there is none.
        for name, fault in _FAULTS.items():
            if diagnostics & int(getattr(trt.EngineInvalidityDiagnostics, name)):
                return fault
        return None


def compute_capabilities(targets: Iterable[str]) -> list[str]:
    """Read "sm_86", "8.6" or "86" as TensorRT-RTX's names, in order and once each. Raises BuildError."""
    taken = [n for n in trt.ComputeCapability.__members__ if n not in _NEVER]
    wanted = {target: "SM" + target.lower().removeprefix("sm").strip("_ ").replace(".", "") for target in targets}
    for target, name in wanted.items():
        if name not in taken:
            raise BuildError(
                f"tensorrt_rtx {trt.__version__} builds nothing for {target!r}: it takes "
                f"{', '.join(_shown(n) for n in taken)}, or no target at all, for every GPU from Ampere on"
            )
    return sorted(set(wanted.values()), key=taken.index)


def _device(order: Order) -> str:
    if order.targets:
        return "+".join(_shown(name) for name in compute_capabilities(order.targets))
    gpu = find_gpu()
    if gpu is None:
        return PORTABLE
    capability = gpu.rpartition(" ")[2]
    try:
        compute_capabilities([capability])
    except BuildError as error:
        raise RuntimeUnavailable(
            f"tensorrt_rtx does not run on this {gpu}: take the tensorrt runtime, or name a target to build for"
        ) from error
    return gpu


def _aim(config: trt.IBuilderConfig, order: Order) -> None:
    """Set what is built for; unset means every GPU from Ampere on, to be finished where it runs."""
    names = compute_capabilities(order.targets) or (["CURRENT"] if find_gpu() else [])
    config.num_compute_capabilities = len(names)
    for i, name in enumerate(names):
        config.set_compute_capability(getattr(trt.ComputeCapability, name), i)


def _shown(name: str) -> str:
    return name.replace("SM", "sm_")

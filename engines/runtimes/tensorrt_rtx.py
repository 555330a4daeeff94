"""TensorRT-RTX 1.5 and later, on RTX GPUs: runs the engines that `engines.build.tensorrt_rtx` makes.

An engine is finished where it runs: kernels are compiled for the GPU when a context first meets a shape. They are kept
in a file beside the engine, so that the next start is quick. CUDA graphs are the library's own affair, as only it knows
when the kernels of a shape are ready.

Written without a GPU. Checked instead: its names against the bindings of 1.5 and 1.7; all below it, see there.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import tensorrt_rtx as trt

from engines.runtimes.base import RuntimeOptions
from engines.runtimes.checks import check_file
from engines.runtimes.keep import keep, kept
from engines.runtimes.trt_core import TrtRuntime
from engines.runtimes.trt_engine import describe, made, open_gpu, read_engine

log = logging.getLogger(__name__)


def open_tensorrt_rtx(path: Path, options: RuntimeOptions) -> TrtRuntime:
    """Open an engine; it is of the precision that it was built for. Raises RuntimeUnavailable and ModelError."""
    check_file(path)
    device = open_gpu("tensorrt_rtx", options)
    engine: trt.ICudaEngine = read_engine(trt, path, device)
    config: trt.IRuntimeConfig = engine.create_runtime_config()
    config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    kernels = Kernels(config, path.with_suffix(".kernels"))
    new_context = partial(made, trt, path, device, partial(engine.create_execution_context, config))
    network = replace(describe(trt, path, engine, new_context), at_close=kernels.save)
    runtime = TrtRuntime(network, device, options.max_batch, f"tensorrt_rtx {trt.__version__}")
    kernels.save()  # a process that is killed leaves them too
    return runtime


class Kernels:
    """Kernels that were compiled for this GPU, and the file that keeps them for the next start."""

    def __init__(self, config: trt.IRuntimeConfig, path: Path) -> None:
        self._path = path
        self._cache: trt.IRuntimeCache = config.create_runtime_cache()
        known = kept(path)
        if known and not self._cache.deserialize(known):
            log.info("%s is of another GPU, driver or version: its kernels are compiled anew", path)
        config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Write what has been compiled by now."""
        keep(self._path, memoryview(self._cache.serialize()), "the next start compiles its kernels again")

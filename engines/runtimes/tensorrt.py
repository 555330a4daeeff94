"""TensorRT 10.3 to 11.4, on NVIDIA GPUs: runs the engines that `engines.build.tensorrt` makes.

Written without a GPU. Checked instead: its names against the bindings of those versions; all below it, see there.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import tensorrt as trt

from engines.runtimes.base import RuntimeOptions
from engines.runtimes.checks import check_file
from engines.runtimes.trt_core import TrtRuntime
from engines.runtimes.trt_engine import describe, made, open_gpu, read_engine

if TYPE_CHECKING:
    import tensorrt_rtx  # for names only


def open_tensorrt(path: Path, options: RuntimeOptions) -> TrtRuntime:
    """Open an engine; it is of the precision that it was built for. Raises RuntimeUnavailable and ModelError."""
    check_file(path)
    device = open_gpu("tensorrt", options)
    engine: tensorrt_rtx.ICudaEngine = read_engine(trt, path, device)
    scratch: int = engine.device_memory_size_v2
    bare = partial(made, trt, path, device, partial(_bare_context, engine))

    def new_context(address: int) -> tensorrt_rtx.IExecutionContext:
        context: tensorrt_rtx.IExecutionContext = bare()
        context.set_device_memory(address, scratch)
        return context

    # A captured context must be left alone, so each batch size has its own; those of a lane never run at once.
    network = replace(
        describe(trt, path, engine, bare), scratch=scratch, captures_itself=False, new_context=new_context
    )
    return TrtRuntime(network, device, options.max_batch, f"tensorrt {trt.__version__}")


def _bare_context(engine: tensorrt_rtx.ICudaEngine) -> tensorrt_rtx.IExecutionContext:
    return engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)

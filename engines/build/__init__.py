"""Offline work: checkpoint -> torch -> ONNX -> engine. One file a step, and one a builder, imported only when named."""

from __future__ import annotations

from importlib import import_module

from engines.build.base import Builder
from engines.errors import RuntimeUnavailable
from engines.runtimes import BACKENDS

# ONNX Runtime has none: what it opens is the served graph itself.
BUILDERS = {
    "tensorrt": "engines.build.tensorrt:TensorRtBuilder",
    "tensorrt_rtx": "engines.build.tensorrt_rtx:TensorRtRtxBuilder",
    "openvino": "engines.build.openvino:OpenVinoBuilder",
    "pytorch": "engines.build.pytorch:PyTorchBuilder",
}


def open_builder(runtime: str) -> Builder:
    """Open the builder of a runtime. Raises RuntimeUnavailable when what it needs is not installed."""
    module, _, name = BUILDERS[runtime].partition(":")
    try:
        builder: Builder = getattr(import_module(module), name)()
    except ImportError as error:
        raise RuntimeUnavailable(
            f"engines for {runtime} cannot be built here ({error}): {BACKENDS[runtime].install}"
        ) from error
    return builder

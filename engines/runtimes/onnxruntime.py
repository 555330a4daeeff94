"""ONNX Runtime, on CUDA where its provider is installed, else on the CPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort

from engines.errors import ModelError, RuntimeUnavailable
from engines.runtimes.base import RuntimeOptions
from engines.types import Array, TensorSpec

_DTYPES = {"float": "float32", "double": "float64"}
_QUIET = 3  # errors only: they are raised as well


class OnnxRuntime:
    """Run an ONNX network: a batch at once where its batch axis is dynamic, else row by row."""

    def __init__(self, path: Path, options: RuntimeOptions) -> None:
        """Raise ModelError when the file is no network, RuntimeUnavailable for a precision that is not in it."""
        if options.precision not in ("auto", "fp32", "int8"):
            raise RuntimeUnavailable(
                f"onnxruntime runs a network as it is, not in {options.precision}; use auto, or another runtime"
            )
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = options.threads or len(os.sched_getaffinity(0))
        settings.log_severity_level = _QUIET
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [name for name in wanted if name in ort.get_available_providers()]
        try:
            self._session = ort.InferenceSession(str(path), settings, providers=providers)
        except Exception as error:
            raise ModelError(f"{path} cannot be opened as a network by ONNX Runtime: {_short(error)}") from error
        self._path, self.max_batch = path, options.max_batch
        self.inputs = tuple(_spec(node) for node in self._session.get_inputs())
        self.outputs = tuple(_spec(node) for node in self._session.get_outputs())
        self._row_by_row = any(isinstance(n.shape[0], int) for n in self._session.get_inputs() if n.shape)
        self._open = True
        provider = self._session.get_providers()[0].removesuffix("ExecutionProvider")
        self.description = f"ONNX Runtime {ort.__version__} {provider}"

    def infer(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        rows = self._check(feeds)
        try:
            if not self._row_by_row:
                return dict(zip([s.name for s in self.outputs], self._session.run(None, dict(feeds)), strict=True))
            each = [self._session.run(None, {k: v[i : i + 1] for k, v in feeds.items()}) for i in range(rows)]
        except Exception as error:
            raise ModelError(f"{self._path} failed in ONNX Runtime: {_short(error)}") from error
        names = [spec.name for spec in self.outputs]
        return {name: np.concatenate(parts) for name, parts in zip(names, zip(*each, strict=True), strict=True)}

    def close(self) -> None:
        """Refuse further calls; the session goes with the object. May be called again."""
        self._open = False

    def _check(self, feeds: Mapping[str, Array]) -> int:
        if not self._open:
            raise ModelError(f"{self._path}: is closed; open it again")
        for spec in self.inputs:
            if spec.name not in feeds:
                raise ModelError(f"{self._path}: input {spec.name!r} is missing among {sorted(feeds)}")
        return len(feeds[self.inputs[0].name])


def _spec(node: ort.NodeArg) -> TensorSpec:
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(n if isinstance(n, int) else None for n in node.shape)
    return TensorSpec(node.name, np.dtype(_DTYPES.get(kind, kind)), (None, *shape[1:]))


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__

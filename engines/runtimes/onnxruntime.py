"""ONNX Runtime, on CPUs, or on a GPU where its CUDA package is installed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort

from engines.errors import ModelError, RuntimeUnavailable
from engines.runtimes.base import RuntimeOptions
from engines.runtimes.checks import REOPEN, RERUN, check_batch, check_feeds, check_file, ragged, shown, translated
from engines.runtimes.cores import cores
from engines.types import Array, TensorSpec

_PROVIDERS = {"CUDAExecutionProvider": "CUDA", "CPUExecutionProvider": "CPU"}  # best first
_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
_FATAL = 4  # log severity: what is worth saying is raised as well


def open_onnxruntime(path: Path, options: RuntimeOptions) -> OnnxRuntime:
    """Open an ONNX file; pixels are left to `Preprocess`. Raises RuntimeUnavailable and ModelError."""
    check_file(path)
    if options.precision not in ("auto", "fp32"):
        raise RuntimeUnavailable(
            f"onnxruntime computes in the precision of the file, so it cannot turn {path} into {options.precision}: "
            "take precision auto, or the openvino runtime"
        )
    threads = options.threads or cores()
    with translated(f"onnxruntime cannot open {path}", REOPEN, _reason):
        session = ort.InferenceSession(str(path), _session_options(threads), providers=_providers())
        return OnnxRuntime(path, session, threads, options.max_batch)


class OnnxRuntime:
    """A network that takes a whole batch where its batch axis is dynamic, else one row after the other."""

    def __init__(self, path: Path, session: ort.InferenceSession, threads: int, max_batch: int) -> None:
        self._path = path
        self._session: ort.InferenceSession | None = session
        given = [_spec(path, node) for node in session.get_inputs()]
        for spec in given:
            check_batch(path, spec)
        self._whole = all(spec.shape[0] is None for spec in given)
        self.inputs = tuple(_of_any_batch(spec) for spec in given)
        self.outputs = tuple(_of_any_batch(_spec(path, node)) for node in session.get_outputs())
        self.max_batch = max_batch
        device = _PROVIDERS.get(session.get_providers()[0], session.get_providers()[0])
        self.description = f"onnxruntime {ort.__version__} {device}, {threads} thread{'s' if threads > 1 else ''}"
        self._stored: dict[str, Array] = {}  # for networks that take one row

    def infer(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        """Run 1 to `max_batch` rows; the outputs are valid until the next call. Raises ModelError."""
        if self._session is None:
            raise ModelError(f"{self._path} is closed: open it again")
        rows = check_feeds(self._path, self.inputs, feeds, self.max_batch)
        with translated(f"onnxruntime cannot run {self._path}", RERUN, _reason):
            if self._whole:
                return self._checked(self._run(self._session, feeds), rows)
            for row in range(rows):
                one = self._run(self._session, {name: feed[row : row + 1] for name, feed in feeds.items()})
                self._store(row, self._checked(one, 1))
        return {name: output[:rows] for name, output in self._stored.items()}

    def close(self) -> None:
        self._session = None

    def _run(self, session: ort.InferenceSession, feeds: Mapping[str, Array]) -> dict[str, Array]:
        names = [spec.name for spec in self.outputs]
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))

    def _checked(self, outputs: dict[str, Array], rows: int) -> dict[str, Array]:
        for name, output in outputs.items():
            if output.shape[:1] != (rows,):
                raise ModelError(
                    f"{self._path}: output {name!r} came as {shown(output.shape)} for {rows} rows, so its first axis "
                    "is not the batch: export it with one"
                )
        return outputs

    def _store(self, row: int, outputs: Mapping[str, Array]) -> None:
        """Keep one row of every output in memory that is used again, unless sizes change."""
        for name, output in outputs.items():
            stored = self._stored.get(name)
            if stored is None or stored.shape[1:] != output.shape[1:]:
                if row > 0:
                    raise ragged(self._path, name, (None,) * output.ndim)
                stored = self._stored[name] = np.empty((self.max_batch, *output.shape[1:]), output.dtype)
            stored[row] = output[0]


def _session_options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _FATAL
    # Waiting threads would burn the cores that decoding and other networks could use.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _providers() -> list[str]:
    found = ort.get_available_providers()
    return [name for name in _PROVIDERS if name in found]


def _spec(path: Path, node: ort.NodeArg) -> TensorSpec:
    if node.type not in _DTYPES:
        raise ModelError(f"{path}: {node.name!r} is a {node.type}, which cannot be fed or read: export it with tensors")
    return TensorSpec(node.name, np.dtype(_DTYPES[node.type]), tuple(_axis(n) for n in node.shape))


def _axis(size: int | str | None) -> int | None:
    return size if isinstance(size, int) else None  # dynamic axes have names, or nothing


def _of_any_batch(spec: TensorSpec) -> TensorSpec:
    return replace(spec, shape=(None, *spec.shape[1:]))


def _reason(error: Exception) -> str:
    """Find what ONNX Runtime wants to say, after its code, the path, and where in its sources it says so."""
    text = " ".join(str(error).split()).rpartition("failed:")[2]
    return re.sub(r"^\S+\.(?:cc|h):\d+ .*?\) ", "", text).strip(" .") or type(error).__name__

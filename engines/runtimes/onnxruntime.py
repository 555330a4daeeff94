"""ONNX Runtime, on CPUs, or on a GPU where its CUDA package is installed.

The CUDA provider could not be run where this was written: there is no code of ours for it but the choice of it. What is
bound to host memory, ONNX Runtime moves itself, inputs when they are bound and outputs when they are done. That its
CUDA package without CUDA's libraries ends in one warning and the CPU was seen with onnxruntime-gpu 1.31.
"""

from __future__ import annotations

import ctypes
import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import onnxruntime as ort

from engines.errors import ModelError, RuntimeUnavailable
from engines.runtimes.base import RuntimeOptions
from engines.runtimes.checks import REOPEN, RERUN, check_batch, check_feeds, check_file, ragged, shown, translated
from engines.runtimes.cores import cores
from engines.types import Array, TensorSpec

log = logging.getLogger(__name__)

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_EXACT = (_CUDA, {"use_tf32": "0"})  # it would round what fp32 promises to keep; who wants speed takes fp16
_SHOWN = {_CUDA: "CUDA", _CPU: "CPU"}
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
_FATAL = 4  # log severity: what is worth saying is raised, or warned of, as well

ort.set_default_logger_severity(_FATAL)
ort.disable_telemetry_events()


def open_onnxruntime(path: Path, options: RuntimeOptions) -> OnnxRuntime:
    """Open an ONNX file. Raises RuntimeUnavailable and ModelError."""
    check_file(path)
    threads = options.threads or cores()
    with translated(f"onnxruntime cannot open {path}", REOPEN, _reason):
        session = _open(path, _session_options(threads))
        runtime = OnnxRuntime(path, session, threads, options.max_batch)
    if options.precision not in ("auto", runtime.precision or _precision_of_weights(path)):
        raise RuntimeUnavailable(
            f"onnxruntime computes in the precision of the file, so it cannot turn {path} into {options.precision}: "
            "take precision auto, or the openvino runtime"
        )
    return runtime


class OnnxRuntime:
    """A network that takes a whole batch where its batch axis is dynamic, else one row after the other.

    Inputs are read where the caller has them. Outputs of a known size are written into memory that is used again.
    """

    def __init__(self, path: Path, session: ort.InferenceSession, threads: int, max_batch: int) -> None:
        self._path = path
        self._session: ort.InferenceSession | None = session
        inputs = [_spec(path, node) for node in session.get_inputs()]
        for spec in inputs:
            check_batch(path, spec)
        self._whole = all(spec.shape[0] is None for spec in inputs)
        self.inputs = tuple(_of_any_batch(spec) for spec in inputs)
        self.outputs = tuple(_of_any_batch(_spec(path, node)) for node in session.get_outputs())
        self.max_batch = max_batch
        self.precision = session.get_modelmeta().custom_metadata_map.get("streamer.precision")
        self.description = _describe(session, self.precision, threads)
        fixed = _fixed_outputs(session, self._whole)
        self._stored = {s.name: np.empty((max_batch, *fixed[s.name]), s.dtype) for s in self.outputs if s.name in fixed}
        self._fixed = fixed.keys()
        self._parts: dict[tuple[int, int], _Part] = {}

    def infer(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        """Run 1 to `max_batch` rows; the outputs are valid until the next call. Raises ModelError."""
        if self._session is None:
            raise ModelError(f"{self._path} is closed: open it again")
        rows = check_feeds(self._path, self.inputs, feeds, self.max_batch)
        whole = {name: np.ascontiguousarray(feed) for name, feed in feeds.items()}
        with translated(f"onnxruntime cannot run {self._path}", RERUN, _reason):
            if self._whole:
                loose = self._run(self._session, whole, 0, rows)
            else:
                loose = {}
                for row in range(rows):
                    self._store(row, self._run(self._session, whole, row, row + 1))
        return {s.name: loose[s.name] if s.name in loose else self._stored[s.name][:rows] for s in self.outputs}

    def close(self) -> None:
        self._session = None
        self._parts.clear()

    def _run(self, session: ort.InferenceSession, feeds: Mapping[str, Array], start: int, end: int) -> dict[str, Array]:
        """Run the rows from *start* to *end*; returns the outputs that come in memory of their own."""
        part = self._parts.get((start, end))
        if part is None:
            fixed = {name: self._stored[name][start:end] for name in self._fixed}
            part = self._parts[start, end] = _Part(session, [spec.name for spec in self.outputs], fixed)
        return self._checked(part.run({name: feed[start:end] for name, feed in feeds.items()}), end - start)

    def _checked(self, outputs: dict[str, Array], rows: int) -> dict[str, Array]:
        for name, output in outputs.items():
            if output.shape[:1] != (rows,):
                raise ModelError(
                    f"{self._path}: output {name!r} came as {shown(output.shape)} for {rows} rows, so its first axis "
                    "is not the batch: export it with one"
                )
        return outputs

    def _store(self, row: int, outputs: Mapping[str, Array]) -> None:
        """Keep one row of every loose output in memory that is used again, unless sizes change."""
        for name, output in outputs.items():
            stored = self._stored.get(name)
            if stored is None or stored.shape[1:] != output.shape[1:]:
                if row > 0:
                    raise ragged(self._path, name, (None,) * output.ndim)
                stored = self._stored[name] = np.empty((self.max_batch, *output.shape[1:]), output.dtype)
            stored[row] = output[0]


class _Part:
    """Some rows of a batch, bound once to the memory that their outputs go to: all but those of unknown size."""

    def __init__(self, session: ort.InferenceSession, names: Sequence[str], fixed: Mapping[str, Array]) -> None:
        self._session, self._binding = session, session.io_binding()
        self._loose = {name: place for place, name in enumerate(names) if name not in fixed}
        for name in names:  # in their order, which is that of what comes out
            if name in fixed:
                array = fixed[name]
                self._binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
            else:
                self._binding.bind_output(name)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run on the caller's memory; returns what is not bound to memory of ours."""
        for name, feed in feeds.items():
            self._binding.bind_cpu_input(name, feed)
        for name in self._loose:
            self._binding.bind_output(name)  # anew, or it would be bound to what the run before has given
        self._session.run_with_iobinding(self._binding)
        if not self._loose:
            return {}
        found = self._binding.get_outputs()
        return {name: found[place].numpy() for name, place in self._loose.items()}


def _open(path: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    """Open on the GPU where there is one that works; where its package is installed for nothing, say so."""
    if _CUDA not in ort.get_available_providers():
        return ort.InferenceSession(str(path), options, providers=[_CPU])
    with redirect_stdout(StringIO()):  # prints what it cannot find
        getattr(ort, "preload_dlls", lambda: None)()  # CUDA's libraries as pip installs them; since 1.21
    try:
        session = ort.InferenceSession(str(path), options, providers=[_EXACT, _CPU], enable_fallback=0)
        reason = None if session.get_providers()[0] == _CUDA else _missing_library()
    except Exception as error:  # noqa: BLE001 - its errors have no base of their own
        session = ort.InferenceSession(str(path), options, providers=[_CPU])
        reason = _reason(error)
    if reason:
        log.warning(
            "onnxruntime cannot use CUDA (%s), so it goes on with the CPU: install what is missing with "
            "pip install 'onnxruntime-gpu[cuda,cudnn]', or install onnxruntime in its place",
            reason,
        )
    return session


def _missing_library() -> str:
    """Ask the dynamic linker what ONNX Runtime only logs."""
    provider = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    try:
        ctypes.CDLL(str(provider))
    except OSError as error:
        return str(error)
    return "it found no GPU that it can run on"


def _session_options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _FATAL
    # Waiting threads would burn the cores that decoding and other networks could use.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _describe(session: ort.InferenceSession, precision: str | None, threads: int) -> str:
    device = _SHOWN.get(session.get_providers()[0], session.get_providers()[0])
    words = " ".join(filter(None, (device, precision)))
    return f"onnxruntime {ort.__version__} {words}, {threads} thread{'s' if threads > 1 else ''}"


def _precision_of_weights(path: Path) -> str:
    """Look what a file that does not say its precision is made of. Raises ModelError."""
    import onnx  # only here: no file of ours needs it

    graph = onnx.load(path, load_external_data=False).graph
    if any(node.op_type == "DequantizeLinear" for node in graph.node):
        return "int8"
    types = {tensor.data_type for tensor in graph.initializer}
    halves = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
    return next((name for name, half in halves.items() if half in types), "fp32")


def _spec(path: Path, node: ort.NodeArg) -> TensorSpec:
    if node.type not in _DTYPES:
        raise ModelError(f"{path}: {node.name!r} is a {node.type}, which cannot be fed or read: export it with tensors")
    return TensorSpec(node.name, np.dtype(_DTYPES[node.type]), tuple(_axis(n) for n in node.shape))


def _axis(size: int | str | None) -> int | None:
    return size if isinstance(size, int) else None  # dynamic axes have names, or nothing


def _fixed_outputs(session: ort.InferenceSession, whole: bool) -> dict[str, tuple[int, ...]]:
    """Find the outputs of known size, as many rows as the inputs': name -> shape of a row."""
    batch = {node.shape[0] for node in session.get_inputs()} if whole else {1}
    outputs = [node for node in session.get_outputs() if node.shape and node.shape[0] in batch]
    return {node.name: tuple(node.shape[1:]) for node in outputs if None not in map(_axis, node.shape[1:])}


def _of_any_batch(spec: TensorSpec) -> TensorSpec:
    return replace(spec, shape=(None, *spec.shape[1:]))


def _reason(error: Exception) -> str:
    """Find what ONNX Runtime wants to say, after its code, the path, and where in its sources it says so."""
    text = " ".join(str(error).split()).rpartition("failed:")[2]
    return re.sub(r"^\S+\.(?:cc|h):\d+ .*?\) ", "", text).strip(" .") or type(error).__name__

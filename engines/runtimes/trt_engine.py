"""From an engine file to a `Network`, for both TensorRTs: their modules have the same names, and are an argument.

Written without a GPU, which deserialising needs. Checked instead: tests/engines/test_trt_names.py holds every name used
here against the bindings of each version that is claimed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import ModelError, RuntimeUnavailable
from engines.runtimes.base import RuntimeOptions
from engines.runtimes.checks import check_file, ragged, shown
from engines.runtimes.cuda import CudaDevice
from engines.runtimes.device import Device, DeviceError
from engines.runtimes.trt_core import REBUILD, Network, failure
from engines.runtimes.trt_log import last_error, listening, logger
from engines.types import TensorSpec

if TYPE_CHECKING:
    import tensorrt_rtx  # for names only: those of the full TensorRT are the same

_DTYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
}


def open_gpu(name: str, options: RuntimeOptions) -> CudaDevice:
    """Open the GPU. Raises RuntimeUnavailable where there is none."""
    try:
        device = CudaDevice(options.goal)
        device.memory()  # makes the GPU's context, without which RTX takes the kernels it has kept for another GPU's
    except DeviceError as error:
        raise RuntimeUnavailable(
            f"{name} finds no GPU here ({error}): install an NVIDIA driver, or take another runtime"
        ) from error
    return device


def read_engine(trt: Any, path: Path, device: Device) -> tensorrt_rtx.ICudaEngine:
    """Deserialise an engine. Raises ModelError when it is damaged, of another version, or for another GPU."""
    check_file(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}): correct its permissions, or {REBUILD}") from error
    with listening(trt) as errors:
        runtime: tensorrt_rtx.Runtime = trt.Runtime(logger(trt))
        engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        why = errors[0] if errors else "it does not say why"
        raise ModelError(
            f"{path} is no engine for {trt.__name__} {trt.__version__} on {device.name} ({why}): {REBUILD}"
        )
    return engine


def describe(
    trt: Any, path: Path, engine: tensorrt_rtx.ICudaEngine, contexts: Callable[[], tensorrt_rtx.IExecutionContext]
) -> Network:
    """Say what an engine takes and gives, and let its library do the rest. Raises ModelError."""
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    outputs = [name for name in names if name not in inputs]
    shapes = {name: tuple(engine.get_tensor_shape(name)) for name in inputs}
    for name, shape in shapes.items():
        if -1 in shape[1:]:
            raise ModelError(f"{path}: input {name!r} {_shown(shape)} is of any size: build it for one size")
    least, most = _rows(engine, shapes)
    shapes |= _output_shapes(path, contexts(), {name: (most, *shapes[name][1:]) for name in inputs}, outputs)
    specs = {name: TensorSpec(name, _dtype(path, engine, name), (None, *shapes[name][1:])) for name in names}
    return Network(
        name=str(path),
        inputs=tuple(specs[name] for name in inputs),
        outputs=tuple(specs[name] for name in outputs),
        least=least,
        most=most,
        scratch=0,
        captures_itself=True,
        new_context=lambda _scratch: contexts(),
        complaint=partial(last_error, trt),
    )


def made(trt: Any, path: Path, device: Device, make: Callable[[], Any]) -> Any:
    """Make an execution context, for which there may be no room. Raises ModelError."""
    with listening(trt) as errors:
        context = make()
    if context is None:
        raise failure(path, device, errors[0] if errors else "it makes no execution context")
    return context


def _rows(engine: tensorrt_rtx.ICudaEngine, shapes: dict[str, tuple[int, ...]]) -> tuple[int, int]:
    """How many rows a batch may have: what all inputs agree on."""
    ranges = []
    for name, shape in shapes.items():
        if shape[0] == -1:
            least, _, most = engine.get_tensor_profile_shape(name, 0)
            ranges.append((least[0], most[0]))
        else:
            ranges.append((shape[0], shape[0]))
    return max(least for least, _ in ranges), min(most for _, most in ranges)


def _output_shapes(
    path: Path, context: tensorrt_rtx.IExecutionContext, given: dict[str, tuple[int, ...]], outputs: list[str]
) -> dict[str, tuple[int, ...]]:
    """Ask a context, as the engine itself leaves open whatever follows from the batch."""
    rows = next(iter(given.values()))[0]
    for name, shape in given.items():
        context.set_input_shape(name, shape)
    shapes = {name: tuple(context.get_tensor_shape(name)) for name in outputs}
    for name, shape in shapes.items():
        if -1 in shape:
            raise ragged(path, name, [None if n == -1 else n for n in shape])
        if shape[:1] != (rows,):
            raise ModelError(
                f"{path}: output {name!r} is {shown(shape)} for {rows} rows, so its first axis is not the batch: "
                "export it with one"
            )
    return shapes


def _dtype(path: Path, engine: tensorrt_rtx.ICudaEngine, name: str) -> np.dtype[Any]:
    dtype = engine.get_tensor_dtype(name).name
    if dtype not in _DTYPES:
        raise ModelError(f"{path}: {name!r} is {dtype}, which cannot be fed or read: cast it to FLOAT in the graph")
    return np.dtype(_DTYPES[dtype])


def _shown(shape: tuple[int, ...]) -> str:
    return shown([None if n == -1 else n for n in shape])

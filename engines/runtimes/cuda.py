"""The first GPU that CUDA_VISIBLE_DEVICES shows, through the CUDA runtime API of `cuda.bindings`.

That rather than `cuda.core`, because it makes the GPU's primary context current in every thread by itself, as TensorRT
expects it, and because its names are the same from 12.8 to 13.5.

Written without a GPU: no call of this file has succeeded yet. Checked instead: its names and signatures against
`cuda.bindings` 12.8 and 13.5, what it does without a driver, and all that uses it on `fake_device`. tests/gpu runs it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from cuda.bindings import runtime as cudart

from engines.runtimes.base import Goal
from engines.runtimes.device import Buffer, DeviceError, Graph, Memory, OutOfMemory, Stream
from engines.types import Array


def find_gpu() -> str | None:
    """Name the GPU with its compute capability: "NVIDIA H200 sm_90"; None where there is none that works."""
    try:
        return CudaDevice().name
    except DeviceError:
        return None  # whoever needs one opens it, and hears why it cannot


class CudaDevice:
    """The first GPU. *goal* tells whether waiting spins (latency) or leaves the core to others (throughput)."""

    def __init__(self, goal: Goal = "throughput") -> None:
        if not _call(cudart.cudaGetDeviceCount):
            raise DeviceError("no GPU is visible")
        properties = _call(cudart.cudaGetDeviceProperties, 0)
        self.name = f"{properties.name.decode(errors='replace')} sm_{properties.major}{properties.minor}"
        self._event_flags = cudart.cudaEventDisableTiming
        if goal == "throughput":
            self._event_flags |= cudart.cudaEventBlockingSync

    def allocate(self, nbytes: int) -> Buffer:
        return _CudaBuffer(nbytes)

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Allocate page-locked host memory, which is freed when its last view is gone."""
        return np.asarray(_Pinned(shape, np.dtype(dtype)))

    def stream(self) -> Stream:
        return _CudaStream(self._event_flags)

    def memory(self) -> Memory:
        return Memory(*_call(cudart.cudaMemGetInfo))


class _CudaBuffer:
    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.address = int(_call(cudart.cudaMalloc, max(nbytes, 1)))
        self._free = _finally(self, cudart.cudaFree, self.address)

    def free(self) -> None:
        self._free()


class _Pinned:
    """What numpy makes an array of; every view of the array keeps it alive."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        nbytes = max(int(np.prod(shape)) * dtype.itemsize, 1)
        address = int(_call(cudart.cudaHostAlloc, nbytes, cudart.cudaHostAllocDefault))
        self.__array_interface__ = {"version": 3, "shape": shape, "typestr": dtype.str, "data": (address, False)}
        _finally(self, cudart.cudaFreeHost, address)


class _CudaStream:
    """A stream that does not wait for the default one, and the event that tells how far it is."""

    def __init__(self, event_flags: int) -> None:
        self._stream = _call(cudart.cudaStreamCreateWithFlags, cudart.cudaStreamNonBlocking)
        self._event = _call(cudart.cudaEventCreateWithFlags, event_flags)
        self.handle = int(self._stream)

    def upload(self, source: Array, target: Buffer) -> None:
        kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        _call(cudart.cudaMemcpyAsync, target.address, source.ctypes.data, source.nbytes, kind, self._stream)

    def download(self, source: Buffer, target: Array) -> None:
        kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        _call(cudart.cudaMemcpyAsync, target.ctypes.data, source.address, target.nbytes, kind, self._stream)

    def capture(self, work: Callable[[], None]) -> Graph:
        """Keep what *work* enqueues. What other threads do to the GPU meanwhile is their own affair."""
        _call(
            cudart.cudaStreamBeginCapture, self._stream, cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        )
        try:
            work()
        except BaseException:
            _discard(cudart.cudaStreamEndCapture(self._stream))  # or the stream would stay in capture
            raise
        graph = _call(cudart.cudaStreamEndCapture, self._stream)
        try:
            return _CudaGraph(_call(cudart.cudaGraphInstantiate, graph, 0), self._stream)
        finally:
            _call(cudart.cudaGraphDestroy, graph)

    def wait(self) -> None:
        _call(cudart.cudaEventRecord, self._event, self._stream)
        _call(cudart.cudaEventSynchronize, self._event)

    def close(self) -> None:
        _call(cudart.cudaEventDestroy, self._event)
        _call(cudart.cudaStreamDestroy, self._stream)


class _CudaGraph:
    def __init__(self, executable: Any, stream: Any) -> None:
        self._executable, self._stream = executable, stream

    def launch(self) -> None:
        _call(cudart.cudaGraphLaunch, self._executable, self._stream)

    def free(self) -> None:
        _call(cudart.cudaGraphExecDestroy, self._executable)


def _finally(owner: object, free: Callable[[int], Any], address: int) -> Callable[[], object]:
    """Free what is at *address* when its owner is gone, or before, once; not at exit, when CUDA may be gone too."""
    finalizer = weakref.finalize(owner, free, address)
    finalizer.atexit = False
    return finalizer


def _discard(ended: tuple[Any, ...]) -> None:
    """Destroy what an abandoned capture left; an invalidated one leaves nothing."""
    error, graph = ended
    if error == cudart.cudaError_t.cudaSuccess:
        cudart.cudaGraphDestroy(graph)
    else:
        cudart.cudaGetLastError()  # forget it: the error that ended the capture is the one to tell


def _call(function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
    """Call a function of the CUDA runtime; return what it gives besides its status. Raises DeviceError."""
    try:
        error, *values = function(*arguments)
    except RuntimeError as missing:  # how 12.x says that there is no libcuda.so
        raise DeviceError(f"no NVIDIA driver is installed: {missing}") from missing
    if error != cudart.cudaError_t.cudaSuccess:
        cudart.cudaGetLastError()  # or a later call of somebody else would find it
        _, text = cudart.cudaGetErrorString(error)
        kind = OutOfMemory if error == cudart.cudaError_t.cudaErrorMemoryAllocation else DeviceError
        raise kind(f"{error.name}: {text.decode(errors='replace')}")
    return values[0] if len(values) == 1 else tuple(values)

"""A GPU in host memory, with the manners of a real one that hide behind good luck.

Work happens *late*, at the last moment at which it may, or *early*, at the first. Memory comes with garbage, an address
that was freed is gone, and what a capture must not contain it refuses. A program that is right on both is right on a
GPU, as far as its own order of things goes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Literal

import numpy as np
import numpy.typing as npt

from engines.runtimes.device import Buffer, DeviceError, Graph, Memory, OutOfMemory
from engines.types import Array, TensorSpec

Work = Callable[[], None]
_GARBAGE = 0xCD


class FakeDevice:
    """Memory of *room* bytes, streams that work late or early, and a journal of what they did."""

    name = "fake sm_00"

    def __init__(self, works: Literal["late", "early"] = "late", room: int = 1 << 30) -> None:
        self.works, self.room = works, room
        self.journal: list[str] = []  # in order: "upload", "run 3", "download", "launch"
        self.streams: dict[int, FakeStream] = {}
        self.graphs: list[FakeGraph] = []  # those that are not freed
        self.capturing: FakeStream | None = None
        self._memory: dict[int, npt.NDArray[np.uint8]] = {}
        self._numbers = itertools.count(1)

    def allocate(self, nbytes: int) -> Buffer:
        self.check_not_capturing()
        if nbytes > self.memory().free:
            raise OutOfMemory("out of memory")
        buffer = FakeBuffer(self, next(self._numbers) << 32, nbytes)
        self._memory[buffer.address] = np.full(nbytes, _GARBAGE, np.uint8)
        return buffer

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        self.check_not_capturing()
        array = np.empty(shape, dtype)
        array.view(np.uint8).fill(_GARBAGE)
        return array

    def stream(self) -> FakeStream:
        stream = FakeStream(self, next(self._numbers))
        self.streams[stream.handle] = stream
        return stream

    def memory(self) -> Memory:
        return Memory(self.room - sum(len(bytes_) for bytes_ in self._memory.values()), self.room)

    def at(self, address: int, nbytes: int) -> npt.NDArray[np.uint8]:
        """Show the memory that starts at *address*. Raises DeviceError when it is not there."""
        memory = self._memory.get(address)
        if memory is None or len(memory) < nbytes:
            raise DeviceError(f"an illegal memory access: {nbytes} bytes at {address:#x}")
        return memory[:nbytes]

    def free(self, address: int) -> None:
        self.at(address, 0)
        del self._memory[address]

    def check_not_capturing(self) -> None:
        if self.capturing is not None:
            raise DeviceError("operation not permitted when stream is capturing")


@dataclass(slots=True)
class FakeBuffer:
    device: FakeDevice
    address: int
    nbytes: int

    def free(self) -> None:
        self.device.free(self.address)


class FakeStream:
    """A queue, emptied by `wait`, or at once on a device that works early."""

    def __init__(self, device: FakeDevice, handle: int) -> None:
        self.handle = handle
        self._device = device
        self._queue: list[Work] = []
        self._captured: list[Work] | None = None

    @property
    def is_capturing(self) -> bool:
        return self._captured is not None

    def upload(self, source: Array, target: Buffer) -> None:
        if not source.flags.c_contiguous:
            raise DeviceError("a copy needs memory in one piece")
        self.enqueue("upload", lambda: self._write(target.address, source))

    def download(self, source: Buffer, target: Array) -> None:
        if not target.flags.c_contiguous:
            raise DeviceError("a copy needs memory in one piece")
        self.enqueue("download", lambda: self._read(source.address, target))

    def enqueue(self, entry: str, work: Work) -> None:
        """Do *work* in its turn, and write it down then."""
        if self.handle not in self._device.streams:
            raise DeviceError("invalid resource handle: the stream is closed")

        def written() -> None:
            self._device.journal.append(entry)
            work()

        if self._captured is not None:
            self._captured.append(written)
            return
        self._queue.append(written)
        if self._device.works == "early":
            self._work()

    def capture(self, work: Work) -> Graph:
        self._device.check_not_capturing()
        self._captured, self._device.capturing = [], self
        try:
            work()
            graph = FakeGraph(self._device, self, self._captured)
            self._device.graphs.append(graph)
            return graph
        finally:
            self._captured = self._device.capturing = None

    def wait(self) -> None:
        self._device.check_not_capturing()
        self._work()

    def close(self) -> None:
        self._device.check_not_capturing()
        del self._device.streams[self.handle]

    def _work(self) -> None:
        while self._queue:
            self._queue.pop(0)()

    def _write(self, address: int, source: Array) -> None:
        self._device.at(address, source.nbytes)[:] = source.reshape(-1).view(np.uint8)

    def _read(self, address: int, target: Array) -> None:
        target.reshape(-1).view(np.uint8)[:] = self._device.at(address, target.nbytes)


@dataclass(slots=True, eq=False)
class FakeGraph:
    device: FakeDevice
    stream: FakeStream
    work: list[Work]

    def launch(self) -> None:
        if self not in self.device.graphs:
            raise DeviceError("invalid resource handle: the graph is freed")
        for work in self.work:
            self.stream.enqueue("launch", work)

    def free(self) -> None:
        self.device.graphs.remove(self)


@dataclass(slots=True)
class FakeContext:
    """What TensorRT's execution contexts do: *handler* is the network, on the addresses that were set when it was run.

    As with the real ones, shapes that are new need a run, and a wait, before a capture; and a graph is good for nothing
    once its context has been given other shapes.
    """

    device: FakeDevice
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    handler: Callable[[Mapping[str, Array]], Mapping[str, Array]]
    scratch: int = 0  # address
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    addresses: dict[str, int] = field(default_factory=dict)
    settled: dict[str, tuple[int, ...]] = field(default_factory=dict)  # shapes of the last run that has ended

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        spec = next(spec for spec in self.inputs if spec.name == name)
        if len(shape) != len(spec.shape) or any(w not in (None, n) for w, n in zip(spec.shape, shape, strict=True)):
            return False
        self.shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        stream = self.device.streams.get(stream_handle)
        names = {spec.name for spec in (*self.inputs, *self.outputs)}
        if stream is None or self.addresses.keys() != names or self.shapes.keys() != {s.name for s in self.inputs}:
            return False
        if stream.is_capturing and self.settled != self.shapes:
            raise DeviceError("operation would make the legacy stream depend on a capturing blocking stream")
        rows = next(iter(self.shapes.values()))[0]
        run = partial(self._run, rows, dict(self.shapes), dict(self.addresses))
        stream.enqueue(f"run {rows}", partial(self._replay, run, dict(self.shapes)) if stream.is_capturing else run)
        return True

    def _replay(self, run: Work, shapes: Mapping[str, tuple[int, ...]]) -> None:
        if shapes != self.shapes:
            raise DeviceError("the context of this graph was given other shapes since")
        run()

    def _run(self, rows: int, shapes: Mapping[str, tuple[int, ...]], addresses: Mapping[str, int]) -> None:
        if self.scratch:
            self.device.at(self.scratch, 0)
        feeds = {s.name: self._view(addresses[s.name], shapes[s.name], s.dtype).copy() for s in self.inputs}
        results = self.handler(feeds)
        for spec in self.outputs:
            result = np.ascontiguousarray(results[spec.name], spec.dtype)
            self._view(addresses[spec.name], (rows, *result.shape[1:]), spec.dtype)[...] = result
        self.settled = dict(shapes)

    def _view(self, address: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
        return self.device.at(address, prod(shape) * dtype.itemsize).view(dtype).reshape(shape)

"""How both TensorRTs run a network: in lanes of pinned memory, device memory and a stream, with a CUDA graph a size.

A batch goes in, through the network and out again on the stream of its lane, so that what one lane copies overlaps
with what another computes. A batch size is enqueued step by step when it comes for the first time, as contexts that
have not run cannot be captured, then captured whole, copies and all, and from then on launched.

Written without a GPU. Checked instead: tests/contracts/test_trt_core.py runs all of it on `fake_device`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

import numpy as np

from engines.errors import ModelError
from engines.runtimes.base import LANES
from engines.runtimes.checks import check_feeds
from engines.runtimes.device import Buffer, Device, DeviceError, Graph, OutOfMemory
from engines.types import Array, TensorSpec

REBUILD = "build it again with: streamer models build NAME"
_NO_ROOM = ("out of memory", "outofmemory", "memory allocation", "requested amount of memory")


class Context(Protocol):
    """What a lane asks of an execution context: the names are TensorRT's own, so its contexts are ones."""

    def set_input_shape(self, name: str, shape: tuple[int, ...], /) -> bool: ...
    def set_tensor_address(self, name: str, address: int, /) -> bool: ...
    def execute_async_v3(self, stream_handle: int, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class Network:
    """A deserialised engine, as lanes need it; the first axis of each tensor is its batch."""

    name: str  # for people: its file
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    least: int  # rows of the smallest batch that it takes; smaller ones are padded
    most: int  # rows of the largest; larger ones go through it in parts
    scratch: int  # bytes that the contexts of one lane share while they run; 0 where they have their own
    captures_itself: bool  # whether its library makes CUDA graphs, and one context does for every batch size
    new_context: Callable[[int], Context]  # given the address of the scratch memory
    complaint: Callable[[], str]  # what its library said last, for when it just returns False
    at_close: Callable[[], None] = lambda: None


class TrtRuntime:
    """A network on a GPU. `infer` has a lane of its own, `start` three, made when they are first needed."""

    lanes = LANES

    def __init__(self, network: Network, device: Device, max_batch: int, title: str) -> None:
        self.inputs, self.outputs = network.inputs, network.outputs
        self.max_batch = max_batch
        self._network: Network | None = network
        self._device, self._title = device, title
        self._turns: deque[Lane] = deque()
        self._own: Lane | None = None
        self._warm_up()

    @property
    def description(self) -> str:
        return f"{self._title} {self._device.name}, {self._own.mode if self._own else 'closed'}"

    def infer(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        """Run 1 to `max_batch` rows; the outputs are valid until the next call. Raises ModelError."""
        return self._start(feeds, self._own_lane)()

    def start(self, feeds: Mapping[str, Array]) -> Callable[[], Mapping[str, Array]]:
        """Begin with 1 to `max_batch` rows; the function that it returns waits for them. Both raise ModelError."""
        return self._start(feeds, self._next_lane)

    def close(self) -> None:
        """Wait for what is under way, and free the memory; outputs that were handed out stay as they are."""
        network, self._network = self._network, None
        if network is None:
            return
        with translated(network, self._device), ExitStack() as ending:  # all of it, whatever becomes of a part
            ending.callback(network.at_close)
            for lane in (self._own, *self._turns):
                if lane is not None:
                    ending.callback(lane.close)
        self._own = None  # the engine goes with the last lane
        self._turns.clear()

    def _start(
        self, feeds: Mapping[str, Array], lane_of: Callable[[Network], Lane]
    ) -> Callable[[], Mapping[str, Array]]:
        network = self._network
        if network is None:
            raise ModelError(f"{self._title} is closed: open it again")
        rows = check_feeds(network.name, self.inputs, feeds, self.max_batch)
        with translated(network, self._device):
            lane = lane_of(network)
            lane.start(feeds, rows)

        def finish() -> Mapping[str, Array]:
            with translated(network, self._device):
                return lane.finish(rows)

        return finish

    def _own_lane(self, network: Network) -> Lane:
        if self._own is None:
            self._own = Lane(network, self._device, self.max_batch)
        return self._own

    def _next_lane(self, network: Network) -> Lane:
        while len(self._turns) < self.lanes:
            self._turns.append(Lane(network, self._device, self.max_batch))
        self._turns.rotate(-1)
        return self._turns[-1]

    def _warm_up(self) -> None:
        """Run twice before anything waits for it: kernels are loaded, the graph is made, and faults come now."""
        zeros = {s.name: np.zeros((self.max_batch, *_row(s)), s.dtype) for s in self.inputs}
        try:
            for _ in range(2):
                self.infer(zeros)
        except BaseException:
            self.close()
            raise


class Lane:
    """Memory on both sides for one batch, and the stream on which it goes through the network."""

    def __init__(self, network: Network, device: Device, max_batch: int) -> None:
        self._network = network
        self._lock = Lock()  # one thread may finish while another closes
        self.most = min(network.most, max(max_batch, network.least))  # rows that run at a time
        capacity = -(-max_batch // self.most) * self.most
        with ExitStack() as undo:
            self.stream = device.stream()
            undo.callback(self.stream.close)
            specs = (*network.inputs, *network.outputs)
            self.host = {s.name: device.pinned((capacity, *_row(s)), s.dtype) for s in specs}
            self.buffers: dict[str, Buffer] = {}
            for spec in specs:
                self.buffers[spec.name] = device.allocate(self.host[spec.name][: self.most].nbytes)
                undo.callback(self.buffers[spec.name].free)
            self._scratch = device.allocate(network.scratch)
            undo.callback(self._scratch.free)
            self._shared = self._new_context() if network.captures_itself else None
            self._ending: ExitStack | None = undo.pop_all()
        self._sizes: dict[int, _Size] = {}

    @property
    def mode(self) -> str:
        """Say how batches are run, in the words of `description`."""
        if self._network.captures_itself:
            return "CUDA graphs of its own"
        refusals = [size.refusal for size in self._sizes.values() if size.refusal]
        return f"no CUDA graphs ({refusals[0]})" if refusals else "CUDA graphs"

    def start(self, feeds: Mapping[str, Array], rows: int) -> None:
        with self._lock:
            self.stream.wait()  # whoever gave up on a batch has not waited for it
            for name, feed in feeds.items():
                np.copyto(self.host[name][:rows], feed)
            self._size(rows).start()

    def finish(self, rows: int) -> dict[str, Array]:
        with self._lock:
            if self._ending is not None:
                self.stream.wait()
        return {spec.name: self.host[spec.name][:rows] for spec in self._network.outputs}

    def close(self) -> None:
        with self._lock:
            ending, self._ending = self._ending, None
            if ending is None:
                return
            with ending:  # memory is freed whatever becomes of the last batch
                try:
                    self.stream.wait()
                finally:
                    self._shared = None  # contexts go before the memory that they use
                    while self._sizes:
                        self._sizes.popitem()[1].close()

    def _size(self, rows: int) -> _Size:
        if rows not in self._sizes:
            self._sizes[rows] = _Size(self._network, self, self._shared or self._new_context(), rows)
        return self._sizes[rows]

    def _new_context(self) -> Context:
        context = self._network.new_context(self._scratch.address)
        for name, buffer in self.buffers.items():
            _insist(context.set_tensor_address(name, buffer.address), self._network)
        return context


class _Size:
    """One batch size on one lane: step by step at first, then as a graph."""

    def __init__(self, network: Network, lane: Lane, context: Context, rows: int) -> None:
        self._network, self._lane, self._context = network, lane, context
        self._rows, self._run_rows = rows, min(max(rows, network.least), lane.most)
        self._ran = False
        self._graph: Graph | None = None
        self.refusal = ""  # why there is no graph
        if not network.captures_itself:
            self._set_shapes()  # once: a context that has been captured must be left alone

    def start(self) -> None:
        if self._network.captures_itself:
            self._set_shapes()
        elif self._ran and self._graph is None and not self.refusal:
            self._capture()
        if self._graph is not None:
            self._graph.launch()
        else:
            self._enqueue()
        self._ran = True

    def close(self) -> None:
        if self._graph is not None:
            self._graph.free()

    def _capture(self) -> None:
        try:
            self._graph = self._lane.stream.capture(self._enqueue)
        except OutOfMemory:
            raise
        except (DeviceError, _Refused) as error:
            self.refusal = str(error)  # slower, not wrong: `description` says so

    def _set_shapes(self) -> None:
        for spec in self._network.inputs:
            _insist(self._context.set_input_shape(spec.name, (self._run_rows, *_row(spec))), self._network)

    def _enqueue(self) -> None:
        lane, network = self._lane, self._network
        for start in range(0, self._rows, self._run_rows):
            end = start + self._run_rows
            for spec in network.inputs:
                lane.stream.upload(lane.host[spec.name][start:end], lane.buffers[spec.name])
            _insist(self._context.execute_async_v3(lane.stream.handle), network)
            for spec in network.outputs:
                lane.stream.download(lane.buffers[spec.name], lane.host[spec.name][start : min(end, self._rows)])


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """TensorRT returned False, and said why in its log."""


def _insist(done: bool, network: Network) -> None:
    if not done:
        raise _Refused(network.complaint() or "it does not say why")


def _row(spec: TensorSpec) -> tuple[int, ...]:
    """The shape of one row; engines with other dynamic axes are not opened."""
    return tuple(n or 0 for n in spec.shape[1:])


@contextmanager
def translated(network: Network, device: Device) -> Iterator[None]:
    """Make what device and library say a ModelError."""
    try:
        yield
    except (DeviceError, _Refused) as error:
        raise failure(network.name, device, error) from error


def failure(name: object, device: Device, error: object) -> ModelError:
    """Tell apart what a user can do something about: a GPU that is full, and all the rest."""
    if isinstance(error, OutOfMemory) or any(words in str(error).lower() for words in _NO_ROOM):
        return ModelError(
            f"{name}: {device.name} has no room left for it{_room(device)}: lower 'limits: {{batch: …}}', or close "
            "other programs that use the GPU"
        )
    return ModelError(f"{name}: {device.name} cannot run it ({error}): start again, and if that is no help, {REBUILD}")


def _room(device: Device) -> str:
    try:
        return f" ({device.memory()})"
    except DeviceError:
        return ""  # a device that has failed does not answer this either

"""A GPU, as far as a runtime needs one: memory, streams, and graphs of what a stream was given to do.

`cuda.py` is the real one, `fake_device.py` one in host memory that shows where a program relies on luck.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy.typing as npt

from engines.types import Array


class DeviceError(Exception):
    """A device fails or refuses; the message is its own. Never leaves `engines.runtimes`."""


class OutOfMemory(DeviceError):  # noqa: N818 - named for what it is
    """A device has no room left."""


@dataclass(frozen=True, slots=True)
class Memory:
    """How full a device is, in bytes."""

    free: int
    total: int

    def __str__(self) -> str:
        return f"{self.free / 2**20:.0f} of {self.total / 2**20:.0f} MiB free"


class Buffer(Protocol):
    """A piece of device memory, aligned to 256 bytes or more."""

    @property
    def address(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def free(self) -> None: ...


class Graph(Protocol):
    """What a stream was given to do, ready to be done again."""

    def launch(self) -> None: ...  # on the stream that it was captured from
    def free(self) -> None: ...


class Stream(Protocol):
    """A queue of work for a device; each of its methods but `wait` returns before the work is done."""

    @property
    def handle(self) -> int: ...
    def upload(self, source: Array, target: Buffer) -> None: ...  # *source* is pinned, and in one piece
    def download(self, source: Buffer, target: Array) -> None: ...  # so is *target*
    def capture(self, work: Callable[[], None]) -> Graph: ...  # keeps what *work* enqueues, and does none of it
    def wait(self) -> None: ...  # until all that was enqueued is done
    def close(self) -> None: ...


class Device(Protocol):
    """One GPU. Everything raises DeviceError; any thread may call."""

    @property
    def name(self) -> str: ...  # with its compute capability: "NVIDIA H200 sm_90"
    def allocate(self, nbytes: int) -> Buffer: ...
    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array: ...  # lives as long as its last view
    def stream(self) -> Stream: ...
    def memory(self) -> Memory: ...

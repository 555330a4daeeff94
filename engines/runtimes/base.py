"""The one interface that every inference backend implements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from engines.types import Array, TensorSpec

Precision = Literal["auto", "fp32", "fp16", "bf16", "int8"]
Goal = Literal["latency", "throughput"]


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """How to open a network; a backend takes what it understands and refuses what it cannot honour."""

    precision: Precision = "auto"  # auto: what the hardware likes best
    goal: Goal = "throughput"
    max_batch: int = 8
    threads: int | None = None  # None: all cores of this process
    torch_compile: bool = False  # PyTorch: let torch.compile fuse operators; the first batch then takes minutes


class Runtime(Protocol):
    """A loaded network on a device. Not thread-safe: one caller at a time.

    Arrays returned by `infer` stay valid only until the next call. Feeds hold 1 to `max_batch` rows.
    """

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def max_batch(self) -> int: ...
    @property
    def description(self) -> str: ...  # "openvino 2026.4 CPU bf16, 2 streams": for people

    def infer(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]: ...  # raises ModelError
    def close(self) -> None: ...


@runtime_checkable
class Overlapping(Runtime, Protocol):
    """A runtime that takes the next batch while it works on the one before, so that the device is never idle.

    `start` returns at once with a function that waits for the outputs. Every start is finished, in order. Feeds belong
    to the runtime until then, outputs to the caller until `lanes` starts later. `infer` is both in one.
    """

    @property
    def lanes(self) -> int: ...  # batches that may be under way at a time

    def start(self, feeds: Mapping[str, Array]) -> Callable[[], Mapping[str, Array]]: ...  # both raise ModelError


LANES = 3  # one batch is being read by whoever finishes, one waits for that, and one is begun meanwhile

Opener: TypeAlias = Callable[[Path, RuntimeOptions], Runtime]  # raises RuntimeUnavailable, ModelError

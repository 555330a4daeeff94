"""What an engine is made from and made for, and the one interface that every builder implements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from engines.manifest import Manifest
from engines.runtimes.base import Goal, Precision

GraphPrecision = Literal["fp32", "fp16", "bf16", "int8"]
Layout = Literal["candidates", "raw"]
Operators = Literal["portable", "native"]

Tell: TypeAlias = Callable[[str], None]  # hears one sentence a step: "exporting yolox-s", "building for sm_86"


def silent(_sentence: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a served graph is made of a network: its types, and what it gives.

    *candidates*: what is left to decode is NMS (`boxes`, `scores`, `classes`); *raw*: the network's own outputs.
    *operators*: *portable* ones are what every runtime has, TensorRT's lists being short; *native* ones, RoiAlign and
    tensors as long as there are objects, are faster where they run. Most networks are the same in both.
    *calibration* tells which frames an int8 graph was calibrated on (a digest); None for all others.
    """

    precision: GraphPrecision = "fp32"
    layout: Layout = "candidates"
    calibration: str | None = None
    operators: Operators = "portable"


@dataclass(frozen=True, slots=True)
class Profile:
    """How many rows a batch may have: an engine is tuned for *best*, and takes *least* to *most*."""

    least: int = 1
    best: int = 1
    most: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.best <= self.most:
            raise ValueError(f"batch {self} must not shrink, and starts at 1 or more: such as 1..8, or 1..4..8")

    @classmethod
    def parse(cls, text: str) -> Profile:
        """Read ``8``, ``1..16`` (tuned for 16) or ``1..4..16``. Raises ValueError with what was wrong."""
        parts = text.split("..")
        if len(parts) > 3 or not all(part.isdecimal() for part in parts):
            raise ValueError(f"{text!r} is no batch: write 8, 1..8, or 1..4..8")
        numbers = [int(part) for part in parts]
        return cls(numbers[0], numbers[min(1, len(numbers) - 1)], numbers[-1])

    def __str__(self) -> str:
        return "..".join(str(n) for n in dict.fromkeys((self.least, self.best, self.most)))


@dataclass(frozen=True, slots=True)
class Material:
    """A model with its weights, and the graphs that can be made of it (cached files; making one may take a while)."""

    manifest: Manifest
    weights: Path  # .onnx, or a checkpoint
    digest: Callable[[Recipe], str]  # sha256 over weights, manifest and recipe: known without making the graph
    graph: Callable[[Recipe], Path]  # the served ONNX file; raises BuildError


@dataclass(frozen=True, slots=True)
class Order:
    """What an engine is built for."""

    recipe: Recipe = field(default_factory=Recipe)
    profile: Profile = field(default_factory=Profile)
    precision: Precision = "auto"  # what OpenVINO computes an fp32 graph in; for the others it is in the recipe
    goal: Goal = "throughput"
    threads: int | None = None  # CPU runtimes; None: all cores of this process
    targets: tuple[str, ...] = ()  # compute capabilities of other machines, "sm_86"; empty: the device here


PORTABLE = "portable"  # the device of an engine that is finished where it runs, on any


@dataclass(frozen=True, slots=True)
class Identity:
    """What an engine is bound to besides its order: another version or device cannot be trusted to run it."""

    version: str  # of the runtime: "11.4.0.106"
    device: str  # name and compute capability, or CPU model: "NVIDIA H200 sm_90", "AMD EPYC 9354"


@dataclass(frozen=True, slots=True)
class Built:
    """An engine's bytes, and what is worth knowing about it (JSON: layers, measured streams, …)."""

    data: bytes
    facts: Mapping[str, object] = field(default_factory=dict)


class Builder(Protocol):
    """Make engines for one runtime; a module of `engines.build` each, opened by name from `BUILDERS`."""

    def identity(self, order: Order) -> Identity: ...  # raises RuntimeUnavailable where it cannot build or run here
    def build(self, material: Material, order: Order, tell: Tell) -> Built: ...  # raises BuildError
    def fault(self, engine: Path) -> str | None: ...  # why a file cannot be this runtime's engine, found out cheaply

"""What is known about an engine, in words, in a JSON file beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from engines.build.base import Identity, Material, Order
from engines.runtimes.cores import cores

TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX", "openvino": "OpenVINO", "pytorch": "PyTorch"}

_TUNED_TO_CORES = frozenset({"openvino"})
_SHOWN = 16  # hex digits of a key in a file's name


@dataclass(frozen=True, slots=True)
class Label:
    """What an engine is made of and for: engines of equal labels can stand in for each other."""

    model: str
    runtime: str
    order: Order
    identity: Identity
    graph: str  # digest of the served graph

    @property
    def key(self) -> str:
        return hashlib.sha256(_LABELS.dump_json(self)).hexdigest()[:_SHOWN]

    def same_order(self, other: Label) -> bool:
        """Tell whether both were asked for in the same words: then they differ only in what time has changed."""
        return (self.model, self.runtime, self.order) == (other.model, other.runtime, other.order)

    def misfit(self, wanted: Label) -> str | None:
        """Say what makes this engine another than the *wanted* one of the same order."""
        title, mine, theirs = TITLES.get(self.runtime, self.runtime), self.identity, wanted.identity
        if mine.version != theirs.version:
            return f"it is for {title} {mine.version}, not {theirs.version}"
        if mine.device != theirs.device:
            return f"it is for {mine.device}, not {theirs.device}"
        return "it is of other weights, or of an older manifest" if self.graph != wanted.graph else None


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A label, and how the engine came to be."""

    label: Label
    weights: str  # where they were
    created: datetime  # UTC
    seconds: float  # that the build took
    size: int  # bytes of the engine
    sha256: str
    facts: Mapping[str, object]  # the builder's own
    schema: int = 1


_LABELS = TypeAdapter(Label)
_SIDECARS = TypeAdapter(Sidecar)


def label(material: Material, runtime: str, order: Order, identity: Identity) -> Label:
    """Write the label of the engine that an order asks for; what makes no difference to this runtime is left out."""
    if runtime in _TUNED_TO_CORES:
        order = replace(order, threads=order.threads or cores())
    else:
        order = replace(order, threads=None, goal="throughput", precision="auto")
    return Label(material.manifest.name, runtime, order, identity, material.digest(order.recipe))


def sidecar_of(engine: Path) -> Path:
    return engine.with_suffix(".json")


def read(engine: Path) -> Sidecar | None:
    """Read what lies beside an engine; None where there is nothing that we have written."""
    try:
        found = _SIDECARS.validate_json(sidecar_of(engine).read_bytes())
    except (OSError, ValidationError):  # to whoever asks, what cannot be read is not there
        return None
    return found if found.schema == 1 else None


def dump(sidecar: Sidecar) -> bytes:
    return _SIDECARS.dump_json(sidecar, indent=2) + b"\n"

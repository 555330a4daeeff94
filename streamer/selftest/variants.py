"""In which runtimes and precisions this machine can compute."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engines.errors import EngineError
from engines.load import GRAPHS, working
from engines.runtimes import require
from engines.runtimes.base import Precision, RuntimeOptions
from streamer.errors import InputError

# What is tried where nobody names one: what this machine likes best, and what loses nothing. PyTorch is the reference
# of whoever trains, and on a CPU ten times as slow as what serves: it is tried when it is named.
_USUAL: Mapping[str, Sequence[Precision]] = {
    "tensorrt": ("auto", "fp32"),
    "tensorrt_rtx": ("auto", "fp32"),
    "openvino": ("auto", "fp32"),
    "onnxruntime": ("fp32",),
    "pytorch": ("fp32",),
}
_NAMED_ONLY = frozenset({"pytorch"})
_TYPE = re.compile(r"\b(fp32|fp16|bf16|int8)\b")


@dataclass(frozen=True, slots=True)
class Variant:
    """A runtime, in a precision."""

    runtime: str
    precision: Precision

    def __str__(self) -> str:
        return f"{self.runtime} {self.precision}"

    def shown(self, description: str) -> str:
        """Say which precision a runtime's description tells of, where the choice was its own."""
        found = _TYPE.search(description)
        return found[1] if found and self.precision == "auto" else self.precision


REFERENCE = Variant("onnxruntime", "fp32")  # what the figures that are expected were recorded in


def variants(runtimes: Sequence[str] = (), precisions: Sequence[Precision] = ()) -> list[Variant]:
    """List what this machine has, or what is asked for of it. Raises InputError where that is nothing."""
    for name in runtimes:
        _require(name)
    here = runtimes or [name for name in working(RuntimeOptions()) if name not in _NAMED_ONLY]
    found = [Variant(name, each) for name in here for each in precisions or _USUAL[name] if _has(name, each)]
    if not found:
        asked = " or ".join(precisions) or "any precision"
        raise InputError(f"{' or '.join(here) or 'no runtime here'} cannot compute in {asked}: ask for less")
    return [each for each in found if not _repeats(each, found)]


def _require(name: str) -> None:
    try:
        require(name, RuntimeOptions())
    except EngineError as error:
        raise InputError(f"--runtime: {error}") from error


def _has(runtime: str, precision: Precision) -> bool:
    if precision not in GRAPHS[runtime]:
        return False
    return runtime != "openvino" or precision in ("auto", "fp32", "int8") or _fast(precision)


def _repeats(variant: Variant, others: Sequence[Variant]) -> bool:
    """Tell whether fp32 is what the machine itself would choose, and does."""
    if variant != Variant("openvino", "fp32") or Variant("openvino", "auto") not in others:
        return False
    return not (_fast("bf16") or _fast("fp16"))


def _fast(precision: Precision) -> bool:
    from engines.runtimes.openvino import fast  # as heavy as the runtime itself

    return fast(precision)

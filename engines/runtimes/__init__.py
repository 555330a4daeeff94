"""Backends, one file each, imported only when named."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engines.errors import RuntimeUnavailable
from engines.runtimes.base import Opener, Runtime, RuntimeOptions


@dataclass(frozen=True, slots=True)
class Backend:
    """Where a backend is, and what it needs."""

    opener: str  # module:function
    package: str  # what must be importable
    install: str  # the line that makes it so
    device: str | None = None  # module:function(name, options) that raises RuntimeUnavailable where its device is not


_GPU = "engines.runtimes.trt_engine:open_gpu"

# Best first, where nobody prefers another.
BACKENDS = {
    "tensorrt": Backend(
        "engines.runtimes.tensorrt:open_tensorrt", "tensorrt", "pip install 'streamer[tensorrt]'", _GPU
    ),
    "tensorrt_rtx": Backend(
        "engines.runtimes.tensorrt_rtx:open_tensorrt_rtx", "tensorrt_rtx", "pip install 'streamer[tensorrt-rtx]'", _GPU
    ),
    "openvino": Backend("engines.runtimes.openvino:open_openvino", "openvino", "pip install openvino"),
    "onnxruntime": Backend(
        "engines.runtimes.onnxruntime:open_onnxruntime", "onnxruntime", "pip install 'streamer[onnxruntime]'"
    ),
    "pytorch": Backend("engines.runtimes.pytorch:open_pytorch", "torch", "pip install 'streamer[build]'"),
}


def available() -> list[str]:
    """List the backends whose packages are installed, the best first. Nothing is imported."""
    return [name for name, backend in BACKENDS.items() if find_spec(backend.package)]


def usable(prefer: Sequence[str] = ()) -> list[str]:
    """List those of the *prefer*red backends that are installed, in this order; all that are where none is preferred.

    Raises RuntimeUnavailable when none of them is, or one is not known.
    """
    wanted = list(prefer or BACKENDS)
    lines = [find_backend(name).install for name in wanted]
    installed = available()
    found = [name for name in wanted if name in installed]
    if not found:
        raise RuntimeUnavailable(f"no runtime of {_listed(wanted)} is installed: {' or '.join(lines)}")
    return found


def require(name: str, options: RuntimeOptions) -> None:
    """Raise RuntimeUnavailable where a backend is not installed or has no device: before anything is built for it."""
    backend = _installed(name)
    if backend.device is not None:
        _function(name, backend.device)(name, options)


def open_runtime(name: str, path: Path, options: RuntimeOptions) -> Runtime:
    """Open the network at *path* on a backend.

    Raises RuntimeUnavailable when the backend is not known, not installed, or cannot do what *options* ask, and
    ModelError when the file is no network that it can run.
    """
    opener: Opener = _function(name, _installed(name).opener)
    return opener(path, options)


def _installed(name: str) -> Backend:
    backend = find_backend(name)
    if not find_spec(backend.package):
        raise RuntimeUnavailable(f"runtime {name} is not installed: {backend.install}")
    return backend


def _function(name: str, where: str) -> Callable[..., Any]:
    module, _, function = where.partition(":")
    try:
        found: Callable[..., Any] = getattr(import_module(module), function)
    except ImportError as error:
        again = BACKENDS[name].install
        raise RuntimeUnavailable(
            f"runtime {name} is installed but cannot be loaded ({error}): install it again with {again}"
        ) from error
    return found


def find_backend(name: str) -> Backend:
    """Find a backend, installed or not. Raises RuntimeUnavailable for a name that is none."""
    if name in BACKENDS:
        return BACKENDS[name]
    close = difflib.get_close_matches(name, BACKENDS, n=1)
    hint = f", did you mean {close[0]!r}?" if close else ";"
    raise RuntimeUnavailable(f"there is no runtime {name!r}{hint} known are: {_listed(BACKENDS)}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)

"""Backends, one file each, imported only when named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from engines.errors import ModelError, RuntimeUnavailable
from engines.runtimes.base import Runtime, RuntimeOptions
from engines.yamlsource import suggest


@dataclass(frozen=True, slots=True)
class Backend:
    """Where a backend is, and what it needs."""

    factory: str  # "module:function"
    package: str  # what must be importable
    install: str  # the line that mends its absence


# In order of preference where the user has none.
BACKENDS = {
    "openvino": Backend("engines.runtimes.openvino:OpenVinoRuntime", "openvino", "pip install streamer"),
    "onnxruntime": Backend(
        "engines.runtimes.onnxruntime:OnnxRuntime", "onnxruntime", "pip install 'streamer[onnxruntime]'"
    ),
}


def available() -> list[str]:
    """The backends that are installed here, best first."""
    return [name for name, backend in BACKENDS.items() if find_spec(backend.package) is not None]


def choose(prefer: Sequence[str] = ()) -> str:
    """The first of the preferred backends that is installed; without a preference the best one that is.

    Raises RuntimeUnavailable, also for a name that is no backend.
    """
    for name in prefer:
        if name not in BACKENDS:
            known = ", ".join(BACKENDS)
            raise RuntimeUnavailable(f"there is no runtime {name!r}{suggest(name, BACKENDS)}; there are {known}")
    here = available()
    for name in prefer or BACKENDS:
        if name in here:
            return name
    wanted = list(prefer) or list(BACKENDS)
    raise RuntimeUnavailable(f"{' or '.join(wanted)} is not installed: {BACKENDS[wanted[0]].install}")


def open_runtime(name: str, path: Path, options: RuntimeOptions) -> Runtime:
    """Load the network at *path* with the backend *name*. Raises RuntimeUnavailable, ModelError."""
    backend = BACKENDS[choose((name,))]
    if not path.is_file():
        raise ModelError(f"there is no network {path}; correct the path")
    if path.stat().st_size == 0:
        raise ModelError(f"{path} is empty; fetch or export it again")
    module, _, factory = backend.factory.partition(":")
    runtime: Runtime = getattr(import_module(module), factory)(path, options)
    return runtime

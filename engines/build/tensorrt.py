"""Engines for TensorRT 10.3 to 11.4, built on the GPU that they will run on.

Written without a GPU. Checked instead: the code that it shares with TensorRT-RTX builds engines in the tests, and its
own names are held against the bindings of those versions.
"""

from __future__ import annotations

from pathlib import Path

import tensorrt as trt

from engines import zoo
from engines.build.base import Built, Identity, Material, Order, Tell
from engines.build.trt_common import build_engine
from engines.errors import BuildError, RuntimeUnavailable
from engines.runtimes.cuda import find_gpu
from engines.runtimes.keep import keep, kept

_SMALLEST = 64  # bytes: no header of any version is shorter
_OTHERS = {b"vtrt": "is an engine for TensorRT-RTX"}


class TensorRtBuilder:
    """Build for the GPU here. What its kernels took is kept in *timings*, so that the next build measures less."""

    def __init__(self, timings: Path | None = None) -> None:
        self._timings = timings

    def identity(self, order: Order) -> Identity:
        """Raises BuildError for targets, RuntimeUnavailable where there is no GPU."""
        if order.targets:
            raise BuildError(
                f"tensorrt builds for the GPU that it runs on, not for {', '.join(order.targets)}: leave the target "
                "out, or build for tensorrt_rtx"
            )
        gpu = find_gpu()
        if gpu is None:
            raise RuntimeUnavailable(
                "tensorrt builds engines on the GPU that will run them, and there is none here: build on that machine, "
                "or for tensorrt_rtx, which needs none"
            )
        return Identity(trt.__version__, gpu)

    def build(self, material: Material, order: Order, tell: Tell) -> Built:
        """Raises BuildError, and RuntimeUnavailable where there is no GPU."""
        identity = self.identity(order)
        graph = material.graph(order.recipe)
        tell(f"building {material.manifest.name} for {identity.device}")
        timings = Timings(self._timings or _beside_engines(identity))
        built = build_engine(trt, graph, order, timings.use, tell)
        timings.save()
        return built

    def fault(self, engine: Path) -> str | None:
        """Tell what is certainly none: the format has no documentation, and only its GPU can tell the rest."""
        with engine.open("rb") as file:
            header = file.read(_SMALLEST)
        if len(header) < _SMALLEST:
            return "is too short for an engine"
        return _OTHERS.get(header[:4])


class Timings:
    """TensorRT's timing cache, and the file that keeps it from build to build."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._config: trt.IBuilderConfig | None = None

    def use(self, config: trt.IBuilderConfig) -> None:
        """Let a build read and extend what is known; what another GPU or version has measured is left out."""
        self._config = config
        cache: trt.ITimingCache | None = config.create_timing_cache(kept(self._path))
        if cache is None or not config.set_timing_cache(cache, False):
            config.set_timing_cache(config.create_timing_cache(b""), False)

    def save(self) -> None:
        """Write what is known now."""
        if self._config is not None:
            cache: trt.ITimingCache = self._config.get_timing_cache()
            keep(self._path, memoryview(cache.serialize()), "the next build measures its kernels again")


def _beside_engines(identity: Identity) -> Path:
    device = identity.device.replace(" ", "-").replace("/", "-")
    return zoo.cache_dir().parent / "engines" / f"tensorrt-{identity.version}-{device}.timings"

"""Engines for OpenVINO: the compiled network, and the streams and threads that measured best on this CPU."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from engines.build.base import Built, Identity, Material, Order, Tell
from engines.build.tuning import Setting, Trial, fastest, measure, settings
from engines.errors import BuildError, ModelError, RuntimeUnavailable
from engines.runtimes.base import RuntimeOptions
from engines.runtimes.cores import cores
from engines.runtimes.openvino import (
    OpenVinoRuntime,
    configure,
    device,
    import_engine,
    in_own_types,
    in_streams,
    open_openvino,
    version,
)
from engines.types import Array, TensorSpec

_MAGIC = b"RR_UPCVO"  # what OpenVINO's CPU plugin puts in front of a compiled network, since 2026
_LEAST = 64  # bytes
_ROWS = 8  # that one trial runs at least
_UNDER_WAY = 2  # batches at a time, for throughput


class OpenVinoBuilder:
    """Compile a served graph for this CPU; types other than int8 are OpenVINO's to choose, or the order's."""

    def identity(self, order: Order) -> Identity:
        """Raises RuntimeUnavailable where another machine is meant: OpenVINO compiles for the CPU it runs on."""
        if order.targets:
            raise RuntimeUnavailable(
                f"openvino compiles for the CPU of this machine only, not for {', '.join(order.targets)}: leave "
                "--target out, or name the runtime tensorrt_rtx"
            )
        return Identity(version(), device())

    def build(self, material: Material, order: Order, tell: Tell) -> Built:
        graph = material.graph(order.recipe)
        try:
            runtime = open_openvino(graph, _options(order))
            data, precision = runtime.export(), runtime.precision
            runtime.close()
            best = _measured(graph, data, order, tell)
        except ModelError as error:
            raise BuildError(str(error)) from error
        return Built(data, {"precision": precision, **_facts(best)})

    def fault(self, engine: Path) -> str | None:
        """Look at the size and the first bytes; whether all else is whole is for the checksum to say."""
        with engine.open("rb") as file:
            head = file.read(_LEAST)
        if len(head) < _LEAST:
            return "is too short to be a compiled network"
        return None if head.startswith(_MAGIC) or b"<?xml" in head else "is no compiled network of OpenVINO's"


def _options(order: Order) -> RuntimeOptions:
    return RuntimeOptions(order.precision, order.goal, order.profile.best, order.threads)


def _measured(graph: Path, data: bytes, order: Order, tell: Tell) -> dict[Setting, float]:
    """Measure the seconds a batch takes, by setting."""
    options = _options(order)
    under_way = _UNDER_WAY if options.goal == "throughput" else 1
    tried = settings(options.threads or cores(), options.goal, options.max_batch * under_way)
    if len(tried) > 1:
        tell(f"measuring {len(tried)} ways to share {options.threads or cores()} cores")
    config = in_own_types(configure(options), order.recipe.precision)
    opened = {
        s: import_engine(graph, data, config | in_streams(s.streams, s.threads), options.max_batch) for s in tried
    }
    batches = _batches(options, under_way)
    trials = {setting: _trial(runtime, under_way, batches) for setting, runtime in opened.items()}
    try:
        return {setting: seconds / batches for setting, seconds in measure(trials).items()}
    finally:
        for runtime in opened.values():
            runtime.close()


def _batches(options: RuntimeOptions, under_way: int) -> int:
    return max(under_way, math.ceil(_ROWS / options.max_batch))


def _trial(runtime: OpenVinoRuntime, under_way: int, batches: int) -> Trial:
    """Make the run of some batches, as many *under way* at a time as in earnest."""
    random = np.random.default_rng(0)
    feeds = [_noise(random, runtime.inputs, runtime.max_batch) for _ in range(under_way)]

    def trial() -> None:
        begun = deque(runtime.start(feed) for feed in feeds)
        for turn in range(batches):
            begun.popleft()()
            if turn + under_way < batches:
                begun.append(runtime.start(feeds[turn % under_way]))

    return trial


def _noise(random: np.random.Generator, inputs: Sequence[TensorSpec], rows: int) -> Mapping[str, Array]:
    """Make feeds of every byte: nothing that a network could skip."""
    shapes = {spec: (rows, *(n or 1 for n in spec.shape[1:])) for spec in inputs}
    return {spec.name: random.integers(0, 255, shape).astype(spec.dtype) for spec, shape in shapes.items()}


def _facts(best: Mapping[Setting, float]) -> dict[str, object]:
    taken = fastest(best)
    tried = [{"streams": s.streams, "threads": s.threads, "ms": round(sec * 1e3, 3)} for s, sec in best.items()]
    return {"streams": taken.streams, "threads": taken.threads, "tried": tried}

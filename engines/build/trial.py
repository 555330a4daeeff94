"""One runtime in one precision, tried: what it gives on some frames, how long that takes, and how much memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from engines.boxes import Suppression
from engines.build.base import Layout, Material, Order, Tell
from engines.build.cache import EngineCache
from engines.build.graph import material
from engines.build.obtain import obtain
from engines.decoders import DetectOptions
from engines.load import as_detector, order_for, preprocess_spec
from engines.manifest import Manifest
from engines.preprocess import Preprocess
from engines.runtimes import open_runtime, require
from engines.runtimes.base import Goal, Overlapping, Precision, Runtime, RuntimeOptions
from engines.types import Array, Detections, Image

Clock = Callable[[], float]  # seconds
Feeds = Mapping[str, Array]

_ROUNDS = 5
LOW = 0.01  # confidence from which average precision wants to see everything


@dataclass(frozen=True, slots=True, order=True)
class Variant:
    """A runtime, and the precision that it is asked for."""

    runtime: str
    precision: Precision = "auto"

    def __str__(self) -> str:
        return f"{self.runtime} {self.precision}"


@dataclass(frozen=True, slots=True)
class Subject:
    """A model with its weights, and how it is to be run; can be sent to another process."""

    manifest: Manifest
    weights: Path
    batch: int = 1
    goal: Goal = "throughput"
    threads: int | None = None
    seconds: float = 2.0  # of timing, after warming up

    @property
    def is_onnx(self) -> bool:
        return self.weights.suffix == ".onnx"

    def options(self, variant: Variant) -> RuntimeOptions:
        return RuntimeOptions(variant.precision, self.goal, self.batch, self.threads)

    def material(self, tell: Tell) -> Material:
        return material(self.manifest, self.weights, tell=tell)


@dataclass(frozen=True, slots=True)
class Files:
    """What a variant opens: its served graph or engine, and the one that gives the network's own outputs."""

    served: Path
    raw: Path


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast batches of *rows* come: one at a time (ms), and as the streamer runs them (frames/s)."""

    rows: int
    ms: tuple[float, ...]  # of each batch
    frames_per_s: tuple[float, ...]  # of each round


@dataclass(frozen=True, slots=True)
class Trial:
    """What was found out about a variant."""

    description: str  # the runtime's own
    found: tuple[Detections, ...]  # in each frame, at the manifest's confidence
    everything: tuple[Detections, ...]  # with what is hardly an object
    speed: Speed
    memory: int | None  # bytes that it added to its process; None where the system does not say
    device_memory: int | None  # bytes that are in use on the GPU since; None where there is none


# --- in a process of its own; see `apart` ---


def prepare(subject: Subject, variant: Variant, tell: Tell) -> Files:
    """Make or find what the variant opens. Raises RuntimeUnavailable, BuildError, ModelError."""
    options = subject.options(variant)
    require(variant.runtime, options)
    bench = subject.material(tell)
    order = order_for(variant.runtime, bench, options)
    served, raw = (obtain(bench, variant.runtime, _with(order, layout), EngineCache(), tell) for layout in _LAYOUTS)
    return Files(served, raw)


def run(subject: Subject, variant: Variant, files: Files, frames: Path, outputs: Path, tell: Tell) -> Trial:
    """Try a variant on *frames* (.npz of (H, W, 3) each); its raw outputs go to the folder *outputs*, NAME.npy each."""
    with np.load(frames) as stored:
        images = [stored[name] for name in stored.files]
    tell(f"running {variant}")
    before, before_on_device = resident(), on_device()
    runtime = open_runtime(variant.runtime, files.served, subject.options(variant))
    try:
        found, everything = (detect(subject.manifest, runtime, images, least) for least in (None, LOW))
        feeds = feeds_of(subject.manifest, runtime, images, subject.batch)
        speed = time_batches(runtime, feeds, seconds=subject.seconds / (2 * _ROUNDS))
        memory, device_memory = growth(resident(), before), growth(on_device(), before_on_device)
        description = runtime.description
    finally:
        runtime.close()
    _save_raw(subject, open_runtime(variant.runtime, files.raw, subject.options(variant)), images, outputs)
    return Trial(description, found, everything, speed, memory, device_memory)


# --- its parts ---


def detect(
    manifest: Manifest, runtime: Runtime, images: Sequence[Image], confidence: float | None
) -> tuple[Detections, ...]:
    """Find objects of at least this confidence; the manifest's where it is None."""
    least = manifest.defaults.confidence if confidence is None else confidence
    wanted = DetectOptions(least, Suppression(iou=manifest.defaults.iou))
    return tuple(as_detector(manifest, runtime, wanted)(images))


def feeds_of(manifest: Manifest, runtime: Runtime, images: Sequence[Image], rows: int) -> Feeds:
    """Place the first images, the same ones again where there are fewer than *rows*."""
    feeds, _ = Preprocess(preprocess_spec(manifest), runtime)(list(islice(cycle(images), rows)))
    return {name: feed.copy() for name, feed in feeds.items()}


def time_batches(
    runtime: Runtime, feeds: Feeds, rounds: int = _ROUNDS, seconds: float = 0.2, clock: Clock = time.perf_counter
) -> Speed:
    """Time one batch after the other, and batches as they overlap, in turns of some *seconds*, after warming up."""
    rows = len(next(iter(feeds.values())))
    warm_up(runtime, feeds, seconds, clock)
    ms: list[float] = []
    rates = []
    for _ in range(rounds):
        ms += latencies(runtime, feeds, seconds, clock)
        rates.append(rows * throughput(runtime, feeds, seconds, clock))
    return Speed(rows, tuple(ms), tuple(rates))


def warm_up(runtime: Runtime, feeds: Feeds, seconds: float, clock: Clock) -> None:
    """Run until everything is allocated and clocks are up."""
    latencies(runtime, feeds, seconds, clock)


def latencies(runtime: Runtime, feeds: Feeds, seconds: float, clock: Clock) -> list[float]:
    """Run one batch at a time for some *seconds*, at least once; the ms that each took."""
    ms: list[float] = []
    end = clock() + seconds
    while not ms or clock() < end:
        start = clock()
        runtime.infer(feeds)
        ms.append((clock() - start) * 1e3)
    return ms


def throughput(runtime: Runtime, feeds: Feeds, seconds: float, clock: Clock) -> float:
    """Run for some *seconds* as the streamer does, a batch begun before the last is done; batches per second."""
    if not isinstance(runtime, Overlapping):
        ms = latencies(runtime, feeds, seconds, clock)
        return 1e3 * len(ms) / sum(ms)
    under_way = deque([runtime.start(feeds)])
    start = clock()
    batches = 0
    while not batches or clock() < start + seconds:
        under_way.append(runtime.start(feeds))
        under_way.popleft()()
        batches += 1
    spent = clock() - start  # the last batch began in this time too, but the first before it
    under_way.popleft()()
    return batches / spent


def resident() -> int | None:
    """Count the bytes of memory that this process holds; None where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux
        return None
    return pages * _page_size()


def on_device() -> int | None:
    """Count the bytes in use on the first GPU; None without one. Not run where this was written: there was none."""
    try:
        from cuda.bindings import runtime as cuda
    except ImportError:
        return None
    code, free, total = cuda.cudaMemGetInfo()
    return None if int(code) else int(total - free)


def growth(after: int | None, before: int | None) -> int | None:
    return None if after is None or before is None else max(0, after - before)


_LAYOUTS: tuple[Layout, Layout] = ("candidates", "raw")


def _with(order: Order, layout: Layout) -> Order:
    return replace(order, recipe=replace(order.recipe, layout=layout))


def _page_size() -> int:
    import resource  # absent on Windows

    return resource.getpagesize()


def _save_raw(subject: Subject, runtime: Runtime, images: Sequence[Image], folder: Path) -> None:
    """Run every image and keep what the network itself gives."""
    preprocess = Preprocess(preprocess_spec(subject.manifest), runtime)
    kept: dict[str, list[Array]] = {spec.name: [] for spec in runtime.outputs}
    try:
        for start in range(0, len(images), runtime.max_batch):
            feeds, _ = preprocess(images[start : start + runtime.max_batch])
            for name, output in runtime.infer(feeds).items():
                kept[name].append(output.copy())
    finally:
        runtime.close()
    for name, rows in kept.items():
        np.save(folder / f"{_file_name(name)}.npy", np.concatenate(rows))


def _file_name(output: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in output)

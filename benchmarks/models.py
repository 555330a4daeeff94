"""What each model costs on this machine, runtime by runtime, and how much of it is post-processing.

    python benchmarks/models.py [MODEL …] [--runtime NAME …] [--rounds 5] [--objects 100] [--weights FOLDER]

One image at a time, on its own thread: placed, run, decoded, and its masks written as they go on the wire. The runtimes
of a model take turns, and swap places every round, because shared machines drift; ratios are the median of the rounds'
own. A model whose weights are in no cache and no $STREAMER_MODELS gets random ones: they take the same time. So that
post-processing has work to do, the confidence is set to where *objects* are found in the image.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import cv2

from engines.build.base import Material
from engines.build.cache import EngineCache
from engines.build.graph import material
from engines.decoders import DetectOptions
from engines.errors import EngineError, WeightsError
from engines.load import Upkeep, as_detector, open_on
from engines.manifest import Manifest, find, names
from engines.masks import encode_masks
from engines.model import Model
from engines.runtimes import available
from engines.runtimes.base import Precision, Runtime, RuntimeOptions
from engines.types import Detections, Image
from engines.zoo import locate
from streamer.sources.synthetic import World

AIMS = {"detect": 10.0, "segment": 25.0}  # per cent of the whole that post-processing may take
FRAME = (1080, 1920)
RUNTIMES: dict[str, tuple[str, Precision]] = {
    "torch fp32": ("pytorch", "fp32"),
    "openvino auto": ("openvino", "auto"),
    "openvino fp32": ("openvino", "fp32"),
    "onnxruntime fp32": ("onnxruntime", "fp32"),
    "tensorrt fp16": ("tensorrt", "fp16"),
    "tensorrt_rtx fp16": ("tensorrt_rtx", "fp16"),
}
BASELINE = "torch fp32"


# --- the models ---


def bench_of(manifest: Manifest, folder: Path) -> tuple[Material, str]:
    """Put a model on the bench, with its weights where they are on this machine, else with random ones."""
    own = own_weights(manifest)
    if own is not None:
        return material(manifest, own, folder), "its own weights"
    path = folder / f"{manifest.name}.pth"
    save_random(manifest, path)
    return material(manifest, path, folder), "random weights"


def own_weights(manifest: Manifest) -> Path | None:
    """Find a model's weights on this machine; None where they would have to be fetched."""
    told = manifest.weights
    files = {"onnx": told.onnx, "checkpoint": told.checkpoint}
    local = told.model_copy(update={k: f and f.model_copy(update={"url": None}) for k, f in files.items()})
    try:
        return locate(manifest.model_copy(update={"weights": local}))
    except WeightsError:
        return None


def save_random(manifest: Manifest, path: Path) -> None:
    """Save a checkpoint of random weights that keep their size from layer to layer, as trained ones do."""
    import torch

    from engines.networks import build_network

    torch.manual_seed(0)
    network = build_network(manifest.architecture or "", manifest.variant, len(manifest.labels))
    state = network.state_dict()
    for key, value in state.items():
        if value.ndim > 1:
            torch.nn.init.normal_(value, std=(1.6 / value[0].numel()) ** 0.5)
        elif value.is_floating_point() and key.endswith(("weight", "running_var")):
            torch.nn.init.uniform_(value, 0.6, 1.2)
    named = manifest.weights.checkpoint
    torch.save({named.key: state} if named and named.key else state, path)


# --- what is measured ---


@dataclass(frozen=True)
class Times:
    """Milliseconds an image."""

    place: float
    run: float
    decode: float
    encode: float

    @property
    def whole(self) -> float:
        return self.place + self.run + self.decode + self.encode

    @property
    def after(self) -> float:
        """The share of post-processing, in per cent."""
        return 100 * (self.decode + self.encode) / self.whole


@dataclass(frozen=True)
class Job:
    """One model on one runtime, ready to look at an image."""

    model: Model[Image, Detections]
    image: Image

    def look(self) -> tuple[Times, Detections]:
        clock = time.perf_counter
        start = clock()
        feeds, geometry = self.model.preprocess([self.image])
        placed = clock()
        outputs = self.model.runtime.infer(feeds)
        ran = clock()
        (found,) = self.model.postprocess(outputs, geometry)
        decoded = clock()
        if found.masks is not None:
            encode_masks(found.masks, found.xyxy, FRAME)
        done = clock()
        marks = (start, placed, ran, decoded, done)
        return Times(*(1e3 * (b - a) for a, b in itertools.pairwise(marks))), found


@contextmanager
def jobs_of(bench: Material, cache: EngineCache, wanted: Sequence[str], objects: int) -> Iterator[dict[str, Job]]:
    """Open a model wherever it can be opened, and say why it cannot elsewhere."""
    image = picture()
    jobs: dict[str, Job] = {}
    with ExitStack() as stack:
        for name in wanted:
            backend, precision = RUNTIMES[name]
            if backend not in available():
                continue
            options = RuntimeOptions(precision, "latency", 1)
            try:
                runtime = stack.enter_context(closing(open_on(backend, bench, options, Upkeep(cache=cache))))
            except EngineError as error:
                print(f"{bench.manifest.name:22}{name:18}{error}")
                continue
            jobs[name] = job_with(bench.manifest, runtime, image, objects)
        yield jobs


def job_with(manifest: Manifest, runtime: Runtime, image: Image, objects: int) -> Job:
    """Choose the confidence so that about as many *objects* are found as were asked for."""
    anything = DetectOptions(confidence=0.0, max_detections=objects)
    model = as_detector(manifest, runtime, anything)
    _, found = Job(model, image).look()
    sure = float(found.confidence.min(initial=1.0)) * 0.999 if len(found) else 0.0
    return Job(as_detector(manifest, runtime, replace(anything, confidence=sure)), image)


def picture() -> Image:
    """A frame with shapes of all sizes."""
    return World(seed=1, size=FRAME[::-1]).render(0.0)


def measure(jobs: Mapping[str, Job], rounds: int) -> tuple[dict[str, list[Times]], dict[str, int]]:
    """Let the jobs take turns; the first turn of each does not count."""
    counts = {name: len(job.look()[1]) for name, job in jobs.items()}
    order = list(jobs)
    times: dict[str, list[Times]] = {name: [] for name in order}
    for i in range(rounds):
        for name in order if i % 2 else reversed(order):
            times[name].append(jobs[name].look()[0])
    return times, counts


def middle(times: Sequence[Times], of: Callable[[Times], float]) -> float:
    return statistics.median(map(of, times))


# --- the table ---


def print_model(manifest: Manifest, wanted: Sequence[str], rounds: int, objects: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            bench, weights = bench_of(manifest, Path(folder))
        except EngineError as error:
            print(f"{manifest.name}: {error}")
            return
        print(f"\n{manifest.name}, {manifest.preprocess.size[0]} x {manifest.preprocess.size[1]}, {weights}")
        print(f"{'':18}{'place':>8}{'run':>9}{'decode':>8}{'masks':>8}{'ms':>9}{'after':>8}{'to torch':>9}{'found':>7}")
        with jobs_of(bench, EngineCache(Path(folder)), wanted, objects) as jobs:
            times, counts = measure(jobs, rounds)
            for name, each in times.items():
                print(row(name, each, times.get(BASELINE), AIMS[manifest.task]) + f"{counts[name]:7}", flush=True)


def row(name: str, each: Sequence[Times], baseline: Sequence[Times] | None, aim: float) -> str:
    after = middle(each, lambda t: t.after)
    parts = [middle(each, of) for of in (lambda t: t.place, lambda t: t.run, lambda t: t.decode, lambda t: t.encode)]
    whole = middle(each, lambda t: t.whole)
    gain = statistics.median(b.run / t.run for t, b in zip(each, baseline, strict=True)) if baseline else float("nan")
    text = (
        f"{name:18}{parts[0]:8.2f}{parts[1]:9.2f}{parts[2]:8.2f}{parts[3]:8.2f}{whole:9.2f}{after:6.1f} %{gain:8.2f}x"
    )
    return text + ("" if after < aim else "!")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="*", help="default: all that come with us and find or segment objects")
    parser.add_argument("--runtime", action="append", choices=list(RUNTIMES), help="default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--objects", type=int, default=100)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    print("`after`: the share of decoding and masks in the whole, an exclamation mark where it is over its aim")
    for name in args.model or names():
        manifest = find(name)
        if manifest.task in AIMS:
            print_model(manifest, args.runtime or list(RUNTIMES), args.rounds, args.objects)


if __name__ == "__main__":
    main()

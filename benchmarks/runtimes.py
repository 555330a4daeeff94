"""What our runtimes cost over calling the library bare, and what OpenVINO gains from fewer bits.

    python benchmarks/runtimes.py [MODEL] [--weights FILE] [--video VIDEO] [--rounds 60]

Bare is the same served graph, opened with the same options, streams and threads, on the same buffers, bound once: what
one would write who knows the batch beforehand. Both take turns in one process, a few calls each, and swap places every
round, because shared machines drift; what counts is the median of the rounds' ratios. TensorRT is measured against its
engine's own time by tests/gpu, which needs a GPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from engines.build.base import Material, Recipe
from engines.build.cache import EngineCache
from engines.build.graph import calibrated, material
from engines.build.obtain import obtain
from engines.build.trial import feeds_of
from engines.errors import EngineError
from engines.load import order_for
from engines.manifest import find
from engines.runtimes import available, open_runtime
from engines.runtimes.base import Goal, Precision, RuntimeOptions
from engines.runtimes.cores import cores
from engines.types import Array, Image
from engines.zoo import locate
from streamer.cli.models.frames import read_frames
from streamer.sources.synthetic import World

TURN = 0.06  # seconds that a job runs before it is another's turn
AIM = 5.0  # per cent
WORTH_IT = 1.05  # a gain that noise does not make
CASES: tuple[tuple[int, Goal], ...] = ((1, "latency"), (8, "throughput"))

Feeds = Mapping[str, Array]
Job = Callable[[], object]


# --- the library, bare ---


def bare_openvino(path: Path, options: RuntimeOptions, feeds: Feeds) -> Job:
    """A request a row, its tensors bound once."""
    from engines.runtimes.openvino import configure
    from engines.runtimes.untracked import ov

    core = ov.Core()
    model = core.read_model(path)
    (frames,) = feeds.values()
    model.reshape([1, *frames.shape[1:]])
    network = core.compile_model(model, "CPU", configure(options))
    requests = [network.create_infer_request() for _ in frames]
    for request, row in zip(requests, frames, strict=True):
        request.set_input_tensor(ov.Tensor(row[None], shared_memory=True))

    def run() -> None:
        for request in requests:
            request.start_async()
        for request in requests:
            request.wait()

    return run


def bare_onnxruntime(path: Path, options: RuntimeOptions, feeds: Feeds) -> Job:
    """An I/O binding for the batch; one a row where the graph takes only one."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.threads or cores()
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    (name, frames), whole = next(iter(feeds.items())), session.get_inputs()[0].shape[0] != 1
    bindings = []
    for part in [frames] if whole else [row[None] for row in frames]:
        binding = session.io_binding()
        binding.bind_cpu_input(name, part)
        for output in session.get_outputs():
            binding.bind_output(output.name)
        bindings.append(binding)
        session.run_with_iobinding(binding)  # which leaves the memory of its outputs bound

    def run() -> None:
        for binding in bindings:
            session.run_with_iobinding(binding)

    return run


def bare_pytorch(path: Path, options: RuntimeOptions, feeds: Feeds) -> Job:
    """The exported program, in inference mode."""
    import torch
    from torch.export import load

    torch.set_num_threads(options.threads or cores())
    with path.open("rb") as file:
        network = load(file).module()
    tensors = [torch.from_numpy(feed) for feed in feeds.values()]

    def run() -> None:
        with torch.inference_mode():
            network(*tensors)

    return run


BARE = {"openvino": bare_openvino, "onnxruntime": bare_onnxruntime, "pytorch": bare_pytorch}


# --- measuring ---


def alternate(jobs: Mapping[str, Job], rounds: int) -> dict[str, list[float]]:
    """Run jobs by turns; returns the median ms of a call in each round."""
    for job in jobs.values():
        turn(job)
    names = list(jobs)
    ms: dict[str, list[float]] = {name: [] for name in names}
    for i in range(rounds):
        for name in names if i % 2 else reversed(names):
            ms[name].append(turn(jobs[name]))
    return ms


def turn(job: Job) -> float:
    spent: list[float] = []
    end = time.perf_counter() + TURN
    while len(spent) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        job()
        spent.append((time.perf_counter() - start) * 1e3)
    return statistics.median(spent)


def ratio(ms: Mapping[str, list[float]], of: str, to: str) -> float:
    """Compare two jobs round by round: what slows a round slows both."""
    return statistics.median(a / b for a, b in zip(ms[of], ms[to], strict=True))


# --- what the wrapper costs ---


@dataclass(frozen=True)
class Model:
    """What is measured, and on what."""

    bench: Material
    image: Image
    rounds: int


def opened_by(name: str, model: Model, options: RuntimeOptions) -> Path:
    """Find what both open: the served graph, so that nothing is tuned for one of them; PyTorch's own file."""
    order = order_for(name, model.bench, options)
    return obtain(model.bench, name, order, EngineCache()) if name == "pytorch" else model.bench.graph(order.recipe)


def wrapper_row(name: str, model: Model, batch: int, goal: Goal) -> str:
    options = RuntimeOptions(max_batch=batch, goal=goal)
    path = opened_by(name, model, options)
    with closing(open_runtime(name, path, options)) as runtime:
        feeds = feeds_of(model.bench.manifest, runtime, [model.image], batch)
        bare = BARE[name](path, options, feeds)
        ms = alternate({"bare": bare, "ours": lambda: runtime.infer(feeds)}, model.rounds)
        cost = (ratio(ms, "ours", "bare") - 1) * 100
        least = (min(ms["ours"]) / min(ms["bare"]) - 1) * 100
        medians = [statistics.median(ms[job]) for job in ("bare", "ours")]
        verdict = "" if cost < AIM else f"  over the aim of {AIM:.0f} %"
        return f"{medians[0]:10.2f}{medians[1]:10.2f}{cost:+9.1f} %{least:+9.1f} %  {runtime.description}{verdict}"


def print_wrappers(model: Model) -> None:
    print(f"\n{'wrapper':14}{'batch':>6}{'bare ms':>10}{'ours ms':>10}{'cost':>11}{'of best':>11}")
    for name in BARE:
        for batch, goal in CASES:
            try:
                row = wrapper_row(name, model, batch, goal) if name in available() else "  not installed"
            except EngineError as error:
                row = f"  {error}"
            print(f"{name:14}{batch:6}{row}", flush=True)


# --- what fewer bits gain ---


@contextmanager
def precisions(model: Model, batch: int, goal: Goal) -> Iterator[dict[str, Job]]:
    """Open OpenVINO in each precision that it has here, and say why in the others it is not."""
    jobs: dict[str, Job] = {}
    wanted: tuple[Precision, ...] = ("fp32", "bf16", "int8")
    with ExitStack() as stack:
        for precision in wanted:
            options = RuntimeOptions(precision, goal, batch)
            try:
                order = order_for("openvino", model.bench, options)
                runtime = stack.enter_context(
                    closing(open_runtime("openvino", model.bench.graph(order.recipe), options))
                )
            except EngineError as error:
                print(f"openvino {precision}: {error}")
                continue
            feeds = feeds_of(model.bench.manifest, runtime, [model.image], batch)
            jobs[precision] = partial(runtime.infer, feeds)
        yield jobs


def print_precisions(model: Model) -> None:
    print(f"\n{'openvino':14}{'batch':>6}{'ms':>10}{'frames/s':>10}{'to bf16':>9}")
    gained = True
    for batch, goal in CASES:
        with precisions(model, batch, goal) as jobs:
            ms = alternate(jobs, model.rounds)
        for precision, each in ms.items():
            middle = statistics.median(each)
            speed = 1 / ratio(ms, precision, "bf16") if "bf16" in ms else float("nan")
            gained &= precision != "int8" or speed > WORTH_IT
            print(f"{precision:14}{batch:6}{middle:10.2f}{batch * 1e3 / middle:10.1f}{speed:8.2f}x")
    if not gained:
        print(f"int8 is not faster than bf16 here: {where_time_goes(model)}")


def where_time_goes(model: Model) -> str:
    """Ask OpenVINO where the time goes, layer by layer, in either precision."""
    told = []
    for precision in ("bf16", "int8"):
        ms = time_by_kind(model, precision)
        largest = ", ".join(f"{kind} {spent:.1f}" for kind, spent in ms.most_common(6))
        told.append(f"{precision} spends {ms.total():.1f} ms: {largest}")
    return "; ".join(told)


def time_by_kind(model: Model, precision: Precision) -> Counter[str]:
    """Sum the ms of one run by kind of layer and the type that it ran in; the median of some runs."""
    from engines.runtimes.openvino import configure
    from engines.runtimes.untracked import ov

    options = RuntimeOptions(precision, "latency", 1)
    core = ov.Core()
    graph = core.read_model(model.bench.graph(order_for("openvino", model.bench, options).recipe))
    graph.reshape([1, *list(graph.input().partial_shape)[1:]])
    request = core.compile_model(graph, "CPU", configure(options) | {"PERF_COUNT": True}).create_infer_request()
    request.set_input_tensor(ov.Tensor(np.zeros(graph.input().shape, np.uint8)))
    runs = []
    for _ in range(20):
        request.infer()
        spent: Counter[str] = Counter()
        for layer in request.get_profiling_info():
            kind = f"{layer.node_type} {layer.exec_type.rpartition('_')[2]}"
            spent[kind] += layer.real_time.total_seconds() * 1e3
        runs.append(spent)
    return sorted(runs, key=lambda run: run.total())[len(runs) // 2]


def calibrate(bench: Material, images: list[Image]) -> None:
    try:
        recipe: Recipe = calibrated(bench, images, print)
    except EngineError as error:
        print(f"int8: {error}")
    else:
        bench.graph(recipe)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="yolox-nano", metavar="MODEL")
    parser.add_argument("--weights", help="in place of the model's own")
    parser.add_argument("--video", help="for int8 (default: synthetic frames, which say nothing of its accuracy)")
    parser.add_argument("--rounds", type=int, default=60, metavar="N")
    args = parser.parse_args()
    manifest = find(args.model)
    bench = material(manifest, locate(manifest, path=args.weights))
    world = World(seed=1, size=(1280, 720))
    images = read_frames([args.video], 32) if args.video else [world.render(i / 4) for i in range(32)]
    print(f"{manifest.name}; {cores()} cores; {args.rounds} rounds")
    model = Model(bench, images[0], args.rounds)
    print_wrappers(model)
    calibrate(bench, images)
    print_precisions(model)


if __name__ == "__main__":
    main()

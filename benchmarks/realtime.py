"""What a machine holds in real time, beside threads and queues around OpenCV as one would write them.

    python benchmarks/realtime.py [VIDEO] [--models yolox-nano] [--seconds 8] [--only cameras,latency,…]

Cameras are made of VIDEO, scaled once to 720p and to 1080p at 25 frames a second: each is decoded by its own thread, at
its own speed, for ever. Every figure is taken in a process of its own that reports to this one, and ours and the
baseline's take turns, because shared machines drift.

- cameras: how many 720p cameras are held, which means that at least 99 % of their frames get a result
- latency: from the frame's arrival to Redis's acknowledgement, at shares of what was held; 300 % is overload
- overhead: CPU a frame of everything but decoder and engine: the engine answers from memory, and decoding the same
  frames alone is taken off. Conversion to RGB, letterbox, suppression and publishing are in it
- publish: CPU a frame of encoding and writing 20 detections to Redis, the writer's thread included
- memory: what one more camera of 1080p takes, resident
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
from end_to_end import cpu_seconds
from realtime_plain import plain

from engines.model import Model
from engines.runtimes.base import Runtime
from engines.types import Array, Detections, Image
from engines.zoo import ignore
from streamer import build, config
from streamer.cli.demo import sample_clip
from streamer.embedded import EmbeddedRedis
from streamer.events import Event, FrameGrabbed, PacketPublished, ResultsWritten
from streamer.pipeline import Pipeline
from streamer.sinks.redis import RedisOptions, RedisSink
from streamer.sources.convert import to_rgb
from streamer.types import Frame, Packet, RawFrame
from streamer.wire import Encoder, NodeFacts

FPS, HELD, MOST = 25, 0.99, 64
SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}
SETTLE = 2.0  # seconds at the beginning of each run that do not count
OVERHEAD_AIM, PUBLISH_AIM, MEMORY_AIM = 1.5, 100.0, 100.0  # ms, us, MB


@dataclass(frozen=True)
class Task:
    """One measurement, as it is handed to a process of its own."""

    program: str  # ours, plain or decode
    video: str
    redis: str
    cameras: int = 1
    fps: float = FPS
    seconds: float = 8.0
    model: str = "yolox-nano"
    engine: bool = True  # else it answers from memory


@dataclass
class Figures:
    """What came of it."""

    grabbed: int = 0
    published: int = 0
    latency_ms: list[float] = field(default_factory=list)  # p50, p95, p99
    cpu_ms: float = 0.0  # a published frame
    resident_mb: float = 0.0

    @property
    def share(self) -> float:
        return self.published / max(1, self.grabbed)


@dataclass
class Looped:
    """A camera that shows a recording for ever, at its own speed."""

    camera: str
    path: str
    fps: float
    live: bool = True
    tick: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def open(self) -> Iterator[Iterator[RawFrame]]:
        yield self._frames()

    def _frames(self) -> Iterator[RawFrame]:
        start = time.monotonic()
        for index, frame in enumerate(decoded(self.path)):
            self.tick.wait(max(0.0, start + index / self.fps - time.monotonic()))
            yield RawFrame(index / self.fps, lambda frame=frame: to_rgb(frame))  # type: ignore[misc]  # mypy wants no default


def decoded(path: str) -> Iterator[av.VideoFrame]:
    while True:
        with av.open(path) as container:
            container.streams.video[0].codec_context.thread_count = 1
            yield from container.decode(video=0)


class Remembered:
    """A runtime that asks the real one once for each size of batch, and then answers from memory."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.inputs, self.outputs, self.max_batch = runtime.inputs, runtime.outputs, runtime.max_batch
        self.description = "from memory"
        self._answers: dict[int, Mapping[str, Array]] = {}

    def infer(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        size = len(next(iter(feeds.values())))
        if size not in self._answers:
            self._answers[size] = {name: np.array(array) for name, array in self._runtime.infer(feeds).items()}
        return self._answers[size]

    def close(self) -> None:
        self._runtime.close()


class Meter:
    """Counts what happens after the beginning has settled."""

    def __init__(self) -> None:
        self.figures = Figures()
        self.counting = False
        self._latencies: list[float] = []
        self._cpu = 0.0

    def __call__(self, event: Event) -> None:
        if not self.counting:
            return
        if isinstance(event, FrameGrabbed):
            self.figures.grabbed += 1
        elif isinstance(event, PacketPublished):
            self.figures.published += 1
        elif isinstance(event, ResultsWritten):
            self._latencies += [written.at - written.captured_at for written in event.results]

    def begin(self) -> None:
        self._cpu, self.counting = cpu_seconds(), True

    def end(self) -> Figures:
        self.counting = False
        figures = self.figures
        figures.cpu_ms = (cpu_seconds() - self._cpu) / max(1, figures.published) * 1e3
        figures.resident_mb = psutil.Process().memory_info().rss / 2**20
        if self._latencies:
            figures.latency_ms = [float(p) * 1e3 for p in np.percentile(self._latencies, [50, 95, 99])]
        return figures


def ours(task: Task) -> Figures:
    """Run what `streamer run` runs."""
    text = f"nodes: {{yolo: {{kind: detect, model: {task.model}}}}}\npublish: [{{kind: redis, url: '{task.redis}'}}]\n"
    settings, meter = config.parse(text, "benchmark"), Meter()
    names = [f"cam{i}" for i in range(task.cameras)]
    sources = [Looped(name, task.video, task.fps) for name in names]
    with ExitStack() as stack:
        graph = stack.enter_context(build.open_graph(settings, build.goal_of(sources), ignore, live=True))
        if not task.engine:
            remember(graph.stages[0])
        outlet = build.Outlet(graph.facts, tuple(names), live=True, observer=meter)
        sinks = stack.enter_context(build.open_sinks(settings.publish, outlet))
        pipeline = Pipeline(sources, graph.stages, sinks, build.make_limits(settings), meter)
        thread = threading.Thread(target=pipeline.run)
        thread.start()
        time.sleep(SETTLE)
        meter.begin()
        time.sleep(task.seconds)
        figures = meter.end()
        pipeline.stop()
        thread.join()
    return figures


def remember(stage: Any) -> None:
    """Put `Remembered` in the place of a stage's engine."""
    while not isinstance(getattr(stage, "model", None), Model):
        stage = stage._stage
    object.__setattr__(stage.model, "runtime", Remembered(stage.model.runtime))


def decode(task: Task) -> Figures:
    """Decode as many cameras at their speed, and nothing else."""
    figures, over = Figures(), threading.Event()

    def grab(source: Looped) -> None:
        with source.open() as frames:
            for _ in frames:
                figures.grabbed += 1
                if over.is_set():
                    return

    threads = [
        threading.Thread(target=grab, args=(Looped(f"cam{i}", task.video, task.fps),)) for i in range(task.cameras)
    ]
    for thread in threads:
        thread.start()
    time.sleep(SETTLE)
    before, cpu = figures.grabbed, cpu_seconds()
    time.sleep(task.seconds)
    figures.grabbed -= before
    figures.cpu_ms = (cpu_seconds() - cpu) / figures.grabbed * 1e3
    over.set()
    for thread in threads:
        thread.join()
    return figures


PROGRAMS: dict[str, Callable[[Task], Figures]] = {
    "ours": ours,
    "plain": lambda task: Figures(**plain(task, SETTLE)),
    "decode": decode,
}


def measured(task: Task) -> Figures:
    """Measure in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--task", json.dumps(asdict(task))], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{task} failed:\n{done.stderr}")
    return Figures(**json.loads(done.stdout.splitlines()[-1]))


# --- the questions ---


def held(task: Task) -> int:
    """Find the most cameras that lose less than one frame in a hundred."""

    def holds(cameras: int) -> bool:
        return measured(replaced(task, cameras=cameras)).share >= HELD

    most = 0
    for cameras in itertools.takewhile(lambda n: n <= MOST, (2**i for i in itertools.count())):
        if not holds(cameras):
            break
        most = cameras
    step = most // 2
    while step:
        most += step if most + step <= MOST and holds(most + step) else 0
        step //= 2
    return most


def replaced(task: Task, **changes: Any) -> Task:
    return Task(**{**asdict(task), **changes})


def ask_cameras(task: Task, models: Sequence[str]) -> None:
    print(f"\ncameras of 720p held at {FPS} frames a second")
    for model in models:
        counts = {program: held(replaced(task, program=program, model=model)) for program in ("ours", "plain")}
        ratio = counts["ours"] / counts["plain"] if counts["plain"] else float("inf")
        print(
            f"  {model:16} streamer {counts['ours']:3}   OpenCV threads and queues {counts['plain']:3}   {ratio:.1f} x"
        )


def ask_latency(task: Task) -> None:
    """Loads are shares of the frames that the streamer publishes when it is given far too many."""
    most = measured(replaced(task, cameras=8)).published / task.seconds
    print(f"\nlatency to Redis's acknowledgement, ms (p50, p95, p99); 100 % is {most:.0f} frames a second")
    for share in (0.5, 0.9, 3.0):
        cameras = max(1, round(most * share / FPS))
        loaded = replaced(task, cameras=cameras, fps=most * share / cameras)
        for program in ("ours", "plain"):
            got = measured(replaced(loaded, program=program))
            times = " ".join(f"{ms:8.1f}" for ms in got.latency_ms)
            kept = got.published / task.seconds
            print(f"  {share:4.0%} {cameras:2} cameras  {program:6}{times}   {kept:6.1f} published a second")


def ask_overhead(task: Task) -> None:
    print("\nCPU a frame of 720p outside decoder and engine, ms")
    for program in ("ours", "plain"):
        rounds = []
        for _ in range(3):
            alone = measured(replaced(task, program="decode")).cpu_ms
            rounds.append(measured(replaced(task, program=program, engine=False)).cpu_ms - alone)
        aim = f"   (aim {OVERHEAD_AIM})" if program == "ours" else ""
        print(f"  {program:6}{np.median(rounds):6.2f}   rounds {' '.join(f'{ms:.2f}' for ms in rounds)}{aim}")


def ask_memory(task: Task) -> None:
    print("\nresident memory of one more camera of 1080p, MB")
    for program in ("ours", "plain"):
        one, five = (measured(replaced(task, program=program, cameras=n, fps=5)).resident_mb for n in (1, 5))
        aim = f"   (aim {MEMORY_AIM:.0f})" if program == "ours" else ""
        print(f"  {program:6}{(five - one) / 4:6.1f}   one camera in all {one:.0f}{aim}")


def ask_publish(url: str, frames: int = 5000) -> None:
    """Write packets as fast as Redis takes them; losing none, so that each is paid for."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 600, (20, 2))
    boxes = np.concatenate([corners, corners + 50], 1).astype(np.float32)
    found = Detections(boxes, np.arange(20, dtype=np.int32), rng.uniform(0, 1, 20).astype(np.float32))
    image: Image = np.zeros((720, 1280, 3), np.uint8)
    facts = {"yolo": NodeFacts(tuple(f"class {i}" for i in range(80)))}
    rounds = []
    for _ in range(3):
        now = time.time()
        packets = [Packet(Frame("bench", i, i / 25, now + i / 25, i, image), {"yolo": found}) for i in range(frames)]
        cpu = cpu_seconds()
        with closing(RedisSink(url, Encoder(facts), RedisOptions.lossless(prefix="bench:"))) as sink:
            for start in range(0, frames, 4):
                sink.publish(packets[start : start + 4])
        rounds.append((cpu_seconds() - cpu) / frames * 1e6)
    print("\npublishing 20 detections to Redis, CPU us a frame")
    print(f"  ours  {np.median(rounds):6.1f}   (aim {PUBLISH_AIM:.0f})")


def scaled(video: Path, size: tuple[int, int], folder: str, frames: int = 200) -> str:
    """Encode the beginning of *video* as a camera of *size* would send it."""
    path = f"{folder}/{size[1]}p.mp4"
    with av.open(str(video)) as source, av.open(path, "w") as target:
        stream = target.add_stream(
            "libx264", rate=FPS, options={"preset": "veryfast", "tune": "zerolatency", "g": "50"}
        )
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for index, frame in enumerate(itertools.islice(source.decode(video=0), frames)):
            picture = frame.reformat(*size, "yuv420p")
            picture.pts, picture.time_base = index, Fraction(1, FPS)
            target.mux(stream.encode(picture))
        target.mux(stream.encode(None))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="?", type=Path, help="default: the demo's clip")
    parser.add_argument("--models", default="yolox-nano", help="detectors, with commas (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run (default: %(default)s)")
    parser.add_argument("--only", default="cameras,latency,overhead,publish,memory", help="questions, with commas")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task:
        task = Task(**json.loads(args.task))
        print(json.dumps(asdict(PROGRAMS[task.program](task))))
        return
    models, asked = args.models.split(","), set(args.only.split(","))
    with EmbeddedRedis() as server, tempfile.TemporaryDirectory() as folder:
        clips = {name: scaled(args.video or sample_clip(), size, folder) for name, size in SIZES.items()}
        task = Task("ours", clips["720p"], server.url, seconds=args.seconds, model=models[0])
        measured(replaced(task, seconds=1.0))  # engines are built, caches warm
        questions: dict[str, Callable[[], None]] = {
            "cameras": lambda: ask_cameras(task, models),
            "latency": lambda: ask_latency(task),
            "overhead": lambda: ask_overhead(task),
            "publish": lambda: ask_publish(server.url),
            "memory": lambda: ask_memory(replaced(task, video=clips["1080p"])),
        }
        for name, ask in questions.items():
            if name in asked:
                ask()


if __name__ == "__main__":
    main()

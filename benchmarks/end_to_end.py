"""How close the whole streamer comes to what the decoder and the engine can do, and to what one would write by hand.

    python benchmarks/end_to_end.py [VIDEO] [--rounds 3]

Everything is measured in turn, round after round in one process, because shared machines drift; what counts are the
ratios, of medians. The ideal is what this machine could do if it did nothing but decode and run the engine:
cores / (CPU-seconds a frame of decoding + CPU-seconds a frame of inference).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import redis
from plain import PlainDetector

from engines.build.graph import material
from engines.load import Upkeep, open_first, preprocess_spec
from engines.manifest import find
from engines.preprocess import Preprocess
from engines.runtimes.base import RuntimeOptions
from engines.zoo import ignore, locate
from streamer import build, config
from streamer.cli.demo import sample_clip
from streamer.embedded import EmbeddedRedis
from streamer.pipeline import Pipeline
from streamer.sources.convert import to_rgb

MODEL = "yolox-nano"


@dataclass(frozen=True)
class Measured:
    frames: int
    wall: float  # seconds
    cpu: float  # seconds, all threads

    @property
    def fps(self) -> float:
        return self.frames / self.wall

    @property
    def cpu_ms(self) -> float:
        return self.cpu / self.frames * 1e3


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(job: Callable[[], int]) -> Measured:
    cpu, wall = cpu_seconds(), time.perf_counter()
    frames = job()
    return Measured(frames, time.perf_counter() - wall, cpu_seconds() - cpu)


def decode(video: Path, frames: int) -> int:
    """Decode as the file source does, and touch no pixel."""
    with av.open(str(video)) as container:
        container.streams.video[0].thread_type = "AUTO"
        return sum(1 for _ in itertools.islice(container.decode(video=0), frames))


@contextmanager
def raw_engine(video: Path) -> Iterator[Callable[[int], int]]:
    """The runtime alone, on the same prepared batch over and over."""
    manifest = find(MODEL)
    bench = material(manifest, locate(manifest))
    runtime = open_first(bench, (), RuntimeOptions(), Upkeep())
    print(f"engine: {runtime.description}")
    with av.open(str(video)) as container:
        images = [to_rgb(frame) for frame in itertools.islice(container.decode(video=0), runtime.max_batch)]
    feeds, _ = Preprocess(preprocess_spec(manifest), runtime)(images)

    def run(frames: int) -> int:
        calls = -(-frames // len(images))
        for _ in range(calls):
            runtime.infer(feeds)
        return calls * len(images)

    yield run
    runtime.close()


def plain_loop(video: Path, frames: int, detect: PlainDetector, client: redis.Redis) -> int:
    """What one writes without us: OpenCV reads, ONNX Runtime infers, NumPy decodes, one XADD a frame."""
    capture = cv2.VideoCapture(str(video))
    for seq in range(frames):
        ok, image = capture.read()
        if not ok:
            return seq
        client.xadd("plain", {"json": json.dumps({"seq": seq, "items": detect(image)})}, maxlen=10_000)
    return frames


@contextmanager
def streamer_process(video: Path, url: str) -> Iterator[Callable[[], int]]:
    """What `streamer process VIDEO --out DIR --redis` runs, once its model is open."""
    text = (
        f"nodes: {{yolo: {{kind: detect, model: {MODEL}}}}}\n"
        f"publish: [{{kind: redis, url: '{url}'}}, {{kind: jsonl, path: '{{path}}'}}]\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        settings = config.parse(text.replace("{path}", f"{folder}/out.jsonl"), "benchmark")
        cameras = {"clip": config.Camera(url=str(video))}
        with build.open_graph(settings, "throughput", ignore) as graph:

            def run() -> int:
                (Path(folder) / "out.jsonl").unlink(missing_ok=True)
                sources = build.make_sources(cameras, lambda _: None)
                with build.open_sinks(settings.publish, build.Outlet(graph.facts, ("clip",), live=False)) as sinks:
                    Pipeline(sources, graph.stages, sinks, build.make_limits(settings)).run()
                return sum(1 for _ in (Path(folder) / "out.jsonl").open())

            yield run


def table(rows: Iterable[tuple[str, list[Measured]]]) -> dict[str, Measured]:
    print(f"\n{'':34}{'frames/s':>10}{'min..max':>16}{'CPU ms/frame':>14}")
    medians = {}
    for name, runs in rows:
        fps = [m.fps for m in runs]
        medians[name] = Measured(
            runs[0].frames,
            runs[0].frames / statistics.median(fps),
            statistics.median(m.cpu_ms for m in runs) * runs[0].frames / 1e3,
        )
        print(f"{name:34}{statistics.median(fps):10.1f}{min(fps):8.1f}..{max(fps):6.1f}{medians[name].cpu_ms:14.2f}")
    return medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="?", type=Path, help="default: the demo's clip")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    video = args.video or sample_clip()
    if not video.is_file():
        parser.error(f"there is no file {video}")

    detect = PlainDetector(MODEL)
    cores = len(os.sched_getaffinity(0))
    frames = decode(video, 1_000_000)
    print(f"{video.name}: {frames} frames; {cores} cores; {args.rounds} rounds")
    with EmbeddedRedis() as server, raw_engine(video) as engine, streamer_process(video, server.url) as process:
        client = redis.Redis.from_url(server.url)
        jobs: dict[str, Callable[[], int]] = {
            "decode alone": lambda: decode(video, frames),
            "engine alone": lambda: engine(frames),
            "streamer process into Redis": process,
            "OpenCV loop + ONNX Runtime": lambda: plain_loop(video, frames, detect, client),
        }
        for job in jobs.values():
            job()  # caches warm, engines settled
        results: dict[str, list[Measured]] = {name: [] for name in jobs}
        for _ in range(args.rounds):
            for name, job in jobs.items():
                results[name].append(measure(job))
        streamed = [f"{m.frames}" for m in results["streamer process into Redis"] if m.frames != frames]
        assert not streamed, f"frames were lost: {streamed} instead of {frames}"
    got = table(results.items())
    ideal = cores * 1e3 / (got["decode alone"].cpu_ms + got["engine alone"].cpu_ms)
    ours, plain = got["streamer process into Redis"], got["OpenCV loop + ONNX Runtime"]
    other = ours.cpu_ms - got["decode alone"].cpu_ms - got["engine alone"].cpu_ms
    print(f"{'ideal (cores / CPU of both)':34}{ideal:10.1f}")
    print(f"\nstreamer / ideal            {ours.fps / ideal:5.2f}   (aim 0.85)")
    print(f"streamer / OpenCV loop      {ours.fps / plain.fps:5.2f}   (aim 1.7)")
    print(f"CPU outside decoder and engine: {other:.2f} ms a frame")


if __name__ == "__main__":
    main()

"""What motion and actions add to detection: CPU a frame, step by step, of whole pipelines over one video.

    python benchmarks/actions.py [VIDEO] [--rounds 3] [--frames 150] [--flow dis] [--recogniser r3d-18] [--runtime NAME]

Each pipeline is the one before it and one node more. They take turns, round after round in one process, because shared
machines drift; what a node adds is the median of the differences to the pipeline before it, of the same round. A model
whose weights are not on this machine gets random ones: they take the same time. Clips overlap by half; that nothing is
decoded, cropped or searched for motion twice is counted, not timed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from end_to_end import Measured, measure
from models import own_weights, save_random

from engines.manifest import Manifest, find
from engines.track.tracker import Tracker
from engines.types import Detections
from engines.zoo import ignore
from streamer import build, config
from streamer.cli.demo import sample_clip
from streamer.pipeline import Pipeline
from streamer.sinks.memory import MemorySink
from streamer.types import Actions, Windows

OBJECTS, TRACK_AIM = 100, 3.0  # objects a frame, ms


@dataclass(frozen=True)
class Steps:
    """Pipelines, each the one before it and one node more."""

    detector: str
    flow: str
    recogniser: str
    weights: dict[str, Path]  # of models whose own are not here

    def texts(self) -> dict[str, str]:
        nodes = {
            "detection": f"yolo: {{kind: detect, confidence: 0.1, {self._model(self.detector)}}}",
            "+ tracking": "tracks: {kind: track, detections: yolo, boxes: smoothed}",
            "+ flow": f"flow: {{kind: flow, {self._model(self.flow)}}}",
            "+ clips of tracks": f"clips: {{kind: clips, around: tracks, flow: flow{self._size()}}}",
            "+ actions": f"actions: {{kind: recognise, clips: clips, {self._model(self.recogniser)}}}",
        }
        lines = list(nodes.values())
        return {name: "".join(f"  {line}\n" for line in lines[: i + 1]) for i, name in enumerate(nodes)}

    def _size(self) -> str:
        told = find(self.recogniser)
        assert told.clip is not None, f"{self.recogniser} recognises nothing"
        return f", length: {told.clip.length}, fps: {told.clip.fps}, size: {list(told.preprocess.size)}"

    def _model(self, name: str) -> str:
        return f"model: {name}" + (f", weights: {self.weights[name]}" if name in self.weights else "")


@contextmanager
def opened(nodes: str, prefer: list[str], video: Path) -> Iterator[Callable[[], MemorySink]]:
    """Open a pipeline once; the function that is returned sends the video through it."""
    runtime = f"runtime: {{prefer: {prefer}}}\n" if prefer else ""
    settings = config.parse(f"nodes:\n{nodes}{runtime}", "benchmark")
    with build.open_graph(settings, "throughput", ignore) as graph:

        def run() -> MemorySink:
            sink = MemorySink()
            sources = build.make_sources({"clip": config.Camera(url=str(video))}, lambda _: None)
            Pipeline(sources, graph.stages, [sink], build.make_limits(settings)).run()
            for stage in graph.stages:
                stage.forget("clip")
            return sink

        yield run


def frames_of(job: Callable[[], MemorySink]) -> int:
    return len(job().packets)


def print_steps(steps: Steps, prefer: list[str], video: Path, rounds: int) -> None:
    results: dict[str, list[Measured]] = {name: [] for name in steps.texts()}
    with ExitStack() as stack:
        jobs = {n: stack.enter_context(opened(text, prefer, video)) for n, text in steps.texts().items()}
        seen = {name: job() for name, job in jobs.items()}  # caches warm, engines settled
        for i in range(rounds):
            for name in list(jobs) if i % 2 else reversed(list(jobs)):
                results[name].append(measure(partial(frames_of, jobs[name])))
    print(f"\n{'':20}{'frames/s':>10}{'CPU ms/frame':>14}{'adds':>9}{'of detection':>14}")
    first, before = next(iter(results)), None
    for name, runs in results.items():
        own = statistics.median(run.cpu_ms for run in runs)
        added = [run.cpu_ms - last.cpu_ms for run, last in zip(runs, results[before], strict=True)] if before else [own]
        share = [add / base.cpu_ms for add, base in zip(added, results[first], strict=True)] if before else [1.0]
        fps = statistics.median(run.fps for run in runs)
        print(f"{name:20}{fps:10.1f}{own:14.2f}{statistics.median(added):9.2f}{statistics.median(share):13.2f}x")
        before = name
    print_shared(seen["+ clips of tracks"], seen["+ actions"])


def print_shared(clips: MemorySink, actions: MemorySink) -> None:
    """Count how much of the clips that overlap is the same memory."""
    windows = [w for p in clips.packets for v in p.values.values() if isinstance(v, Windows) for w in v.items]
    found = sum(len(v.items) for p in actions.packets for v in p.values.values() if isinstance(v, Actions))
    tracks = {window.track_id for window in windows}
    overlaps = [
        (b.first_seq - a.first_seq, a.last_seq - b.first_seq)
        for track in tracks
        for a, b in pairwise(w for w in windows if w.track_id == track)
    ]
    shared = [both / (both + new) for new, both in overlaps if both >= 0]
    middle = f"{100 * statistics.median(shared):.0f} %" if shared else "none"
    print(f"\n{len(windows)} clips of {len(tracks)} tracks, {found} recognised; each overlaps the last by {middle}")


def print_tracking(rounds: int) -> None:
    """Time the tracker alone, on a crowd that walks about."""
    rng = np.random.default_rng(0)
    corner, pace = rng.uniform(0, 1600, (OBJECTS, 2)), rng.normal(0, 3, (OBJECTS, 2))
    size = rng.uniform(30, 120, (OBJECTS, 2))
    tracker, ms = Tracker(), []
    for i in range(100 * rounds):
        place = corner + pace * i + rng.normal(0, 1, (OBJECTS, 2))
        found = Detections(
            np.hstack([place, place + size]).astype(np.float32),
            np.zeros(OBJECTS, np.int32),
            rng.uniform(0.5, 1, OBJECTS).astype(np.float32),
        )
        start = time.perf_counter()
        tracker.update(found, i / 25)
        ms.append((time.perf_counter() - start) * 1e3)
    p95 = float(np.percentile(ms, 95))
    verdict = "" if statistics.median(ms) < TRACK_AIM else "  over the aim"
    middle = statistics.median(ms)
    print(f"\ntracking {OBJECTS} objects: {middle:.2f} ms a frame, p95 {p95:.2f} (aim {TRACK_AIM:.0f}){verdict}")


def first_frames(video: Path, frames: int, folder: Path) -> Path:
    """Write the first frames of a video, so that every round takes as long as it is allowed to."""
    import av

    short = folder / "short.mp4"
    with closing(av.open(str(video))) as given, closing(av.open(str(short), "w")) as made:
        stream = given.streams.video[0]
        out = made.add_stream_from_template(stream)
        for i, packet in enumerate(given.demux(stream)):
            if packet.dts is None or i >= frames:
                break
            packet.stream = out
            made.mux(packet)
    return short


def missing(models: list[str], folder: Path) -> dict[str, Path]:
    """Make random weights for the models whose own are not on this machine."""
    made = {}
    for name in models:
        manifest: Manifest = find(name)
        if own_weights(manifest) is None:
            save_random(manifest, folder / f"{name}.pth")
            made[name] = folder / f"{name}.pth"
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="?", type=Path, help="default: the demo's clip")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--detector", default="yolox-nano")
    parser.add_argument("--flow", default="dis")
    parser.add_argument("--recogniser", default="r3d-18")
    parser.add_argument("--runtime", action="append", default=[], help="default: the best one here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = [model for model in (args.detector, args.flow, args.recogniser) if model != "dis"]
        weights = missing(models, folder)
        video = first_frames(args.video or sample_clip(), args.frames, folder)
        told = f"random weights for {', '.join(weights)}" if weights else "weights of their own"
        print(f"{len(os.sched_getaffinity(0))} cores; {args.rounds} rounds of {args.frames} frames; {told}")
        steps = Steps(args.detector, args.flow, args.recogniser, weights)
        print_steps(steps, args.runtime, video, args.rounds)
    print_tracking(args.rounds)


if __name__ == "__main__":
    main()

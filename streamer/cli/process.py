"""`streamer process`: recorded video through a pipeline, every frame, into files; and into Redis when asked."""

from __future__ import annotations

import argparse
import signal
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

from engines.load import Upkeep
from engines.manifest import config_dir
from streamer import build, config
from streamer.cli import DONE, FAILED, INTERRUPTED, TERMINATED, WRONG_INPUT, complain
from streamer.cli.console import fetching, note
from streamer.cli.onemodel import add_model, only
from streamer.cli.run import add_overrides
from streamer.cli.signals import Runner, signals
from streamer.cli.where import usual_redis
from streamer.errors import InputError, SourceError, SourceUnusable
from streamer.events import Event, FrameLost, Observer, PacketPublished
from streamer.exporters.redis import RedisExporter
from streamer.exporters.terminal import ProcessProgress
from streamer.exporters.ticker import exporting
from streamer.monitor import Monitor
from streamer.pipeline import Pipeline
from streamer.sinks.base import Sink
from streamer.sinks.files import Existing
from streamer.sinks.jsonl import JsonlSink, ResumePoint, resume_point
from streamer.sinks.redis import RedisSink
from streamer.sinks.video import VideoSink
from streamer.sources.adapters import Skip
from streamer.sources.base import Source
from streamer.sources.probe import expected_frames
from streamer.wire import decode, entry_id


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "videos", nargs="+", metavar="VIDEO", help="a video file, a folder of images, or a URL of either"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where NAME.jsonl goes, one for each video"
    )
    parser.add_argument("--annotate", action="store_true", help="write NAME.mp4 too, with what was found and FPS drawn")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on where an earlier run ended")
    again.add_argument("--overwrite", action="store_true", help="replace what an earlier run wrote")
    parser.add_argument(
        "--redis",
        nargs="?",
        const=usual_redis(),
        metavar="URL",
        help="publish to Redis as well (default: $REDIS_URL, or redis://localhost:6379/0)",
    )
    parser.add_argument(
        "--pipeline",
        type=Path,
        default=config_dir() / "pipelines" / "detect.yaml",
        metavar="FILE.yaml",
        help="nodes, runtime and limits come from here (default: %(default)s)",
    )
    add_model(parser, "the pipeline's nodes")
    add_overrides(parser)
    parser.set_defaults(job=process)


@dataclass(frozen=True, slots=True)
class Job:
    """One video and where its results go."""

    video: str
    name: str
    out: Path
    annotate: bool
    existing: Existing

    @property
    def jsonl(self) -> Path:
        return self.out / f"{self.name}.jsonl"

    @property
    def annotated(self) -> Path:
        return self.out / f"{self.name}.mp4"


def process(args: argparse.Namespace) -> int:
    settings = config.read(args.pipeline, [*_one_model(args), *args.set])
    jobs = _plan(args)
    publish = (config.Redis(kind="redis", url=args.redis),) if args.redis else ()
    settings = replace(settings, cameras={j.name: config.Camera(url=j.video) for j in jobs}, publish=publish)
    with signals() as runner, ExitStack() as stack:
        graph = stack.enter_context(build.open_graph(settings, "throughput", fetching, Upkeep(note)))
        for node, runtime in graph.runtimes.items():
            note(f"{node}: {runtime}")
        outlet = build.Outlet(graph.facts, tuple(settings.cameras), live=False)
        shared = stack.enter_context(build.open_sinks(publish, outlet))
        runner.sinks = shared
        monitor = Monitor(graph.labels)
        for sink in publish:
            exporter = stack.enter_context(RedisExporter(sink.url, sink.prefix))
            stack.enter_context(exporting(monitor.stats, exporter.export))
        progress = stack.enter_context(ProcessProgress(len(jobs)))
        work = _Work(settings, graph, outlet, shared, monitor, progress, runner)
        codes = [work.run(job) for job in jobs]
    if runner.signal is not None:
        note("stopped; the same command with --resume goes on from here")
        return TERMINATED if runner.signal is signal.SIGTERM else INTERRUPTED
    return next((code for code in (FAILED, WRONG_INPUT) if code in codes), DONE)


def _one_model(args: argparse.Namespace) -> list[str]:
    """Make overrides of --model; what the file publishes would be results of nodes that are gone."""
    return [only(args.model), "publish=[]"] if args.model else []


def _plan(args: argparse.Namespace) -> list[Job]:
    """Name every output, and refuse what cannot end well before anything has started."""
    existing: Existing = "append" if args.resume else "replace" if args.overwrite else "refuse"
    jobs = [Job(video, _name(video), args.out, args.annotate, existing) for video in args.videos]
    for name, count in Counter(job.name for job in jobs).items():
        if count > 1:
            raise InputError(f"{count} of the videos would be written to {args.out / name}.jsonl; process them apart")
    if args.out.exists() and not args.out.is_dir():
        raise InputError(f"{args.out} is no folder; give another --out")
    for job in jobs:
        if not _is_text(job.video):
            raise InputError(f"the name {job.video!r} cannot be written as text; rename the file")
        if "://" not in job.video and not Path(job.video).exists():
            raise InputError(f"there is no file {job.video}; nothing was processed")
        if existing == "refuse" and job.jsonl.exists() and job.jsonl.stat().st_size:
            raise InputError(f"{job.jsonl} exists already; go on with it with --resume, or replace it with --overwrite")
        if job.annotate and Path(job.video).resolve() == job.annotated.resolve():
            raise InputError(f"{job.annotated} is the video itself; give another --out")
    return jobs


def _is_text(name: str) -> bool:
    """Whether a file's name is Unicode: what is not, Python keeps as surrogates, which JSON cannot hold."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _name(video: str) -> str:
    return Path(video.split("://")[-1].partition("?")[0]).stem or "video"


@dataclass(slots=True)
class _Work:
    """What all videos share."""

    settings: config.Pipeline
    graph: build.Graph
    outlet: build.Outlet
    shared: Sequence[Sink]
    monitor: Monitor
    progress: ProcessProgress
    runner: Runner

    def run(self, job: Job) -> int:
        """Process one video and say how it went. Raises SinkError: the next video would fare no better."""
        if self.runner.signal is not None:
            return INTERRUPTED
        lost: list[FrameLost] = []

        def observe(event: Event) -> None:
            self.monitor(event)
            if isinstance(event, PacketPublished):
                self.progress.advance()
            elif isinstance(event, FrameLost):
                lost.append(event)

        (source,) = build.make_sources({job.name: self.settings.cameras[job.name]}, observe)
        if source.live:
            raise InputError(f"{job.video} is live and never ends; `streamer run` is for cameras")
        failure = self._stream(job, source, observe)
        for event in lost:
            complain(f"{job.video}: {event.detail}")
        if failure is not None:
            complain(str(failure))
        if isinstance(failure, SourceUnusable):
            return WRONG_INPUT
        return FAILED if failure or lost else DONE

    def _stream(self, job: Job, source: Source, observe: Observer) -> SourceError | None:
        """Run the pipeline over one video, from where an earlier run ended."""
        point = resume_point(job.jsonl) if job.existing == "append" else ResumePoint()
        with ExitStack() as stack:
            sinks = [stack.enter_context(closing(sink)) for sink in self._files(job)]
            self._catch_up(job, point)
            pipeline = Pipeline(
                [Skip(source, point.next_seq)],
                self.graph.stages,
                [*sinks, *self.shared],  # files first: what is in Redis is in them too, so a resumed run can tell
                build.make_limits(self.settings),
                observe,
                first_seq={job.name: point.next_seq},
            )
            self.progress.start(job.name, frames=expected_frames(job.video), done=point.next_seq)
            self.runner.run(pipeline)
        for stage in self.graph.stages:
            stage.forget(job.name)
        return pipeline.failures.get(job.name)

    def _files(self, job: Job) -> Iterator[Sink]:
        yield JsonlSink(job.jsonl, self.outlet.encoder(), existing=job.existing)
        if job.annotate:
            yield VideoSink(job.annotated, job.name, self.graph.facts, existing=job.existing)

    def _catch_up(self, job: Job, point: ResumePoint) -> None:
        """Publish the lines that an earlier run wrote and Redis never got."""
        for sink in self.shared:
            if point.lines and isinstance(sink, RedisSink):
                with job.jsonl.open("rb") as lines:
                    _bring(lines, job.name, sink)


def _bring(lines: Iterable[bytes], camera: str, sink: RedisSink) -> None:
    stored = None
    for line in lines:
        message, payload = decode(line), line.rstrip(b"\n")
        at = entry_id(message.captured_at, message.seq)
        stored = stored or sink.stored(camera, since=at)  # from the first line on
        if not stored.has(at, payload):
            sink.publish_encoded(camera, message.captured_at, message.seq, payload)

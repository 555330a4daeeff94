"""What breaks between a camera and its results: never a silent stop, never a hang. Whole pipelines, with a deadline."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from deadlines import DEADLINE, Seen, run, running
from redisworld import eventually
from videos import Clip, write
from worlds import DETECTIONS, Brightness, Script, counting, raw

from engines.decoders import DetectOptions
from engines.decoders.candidates import DecodeCandidates
from engines.errors import ModelError
from engines.model import Model
from engines.runtimes.fake import FakeRuntime
from engines.types import Array, Detections, Geometry, Image
from streamer import events
from streamer.backoff import Backoff
from streamer.cli import DONE, main
from streamer.errors import SourceError
from streamer.health import health_of
from streamer.monitor import Monitor
from streamer.pipeline import Limits, Pipeline
from streamer.sinks.base import Sink
from streamer.sinks.memory import MemorySink
from streamer.sources import SourceOptions, open_source
from streamer.sources.base import Source
from streamer.stages.base import Stage
from streamer.stages.infer import Detect
from streamer.stages.optional import optional
from streamer.types import Packet, Port, RawFrame

KINDS = pytest.mark.parametrize("live", [True, False], ids=["live", "recorded"])
FRAMES = 200


def camera(live: bool) -> Script:
    """A source of frames; a live one breaks off after each 50, and is back at once."""
    if not live:
        return counting("gate", FRAMES)
    starts = range(0, FRAMES, 50)
    return Script("gate", [[*map(raw, range(start, start + 50)), SourceError("gone")] for start in starts], live=True)


def pipeline(source: Source, stage: Stage, seen: events.Observer, sink: Sink | None = None) -> Pipeline:
    """The stage in question, another behind it, and a sink."""
    behind = Brightness(Port("behind", Detections))
    limits = Limits(batch=4, live_frames=FRAMES)
    return Pipeline([source], [stage, behind], [sink or MemorySink()], limits, seen, {"gate": Backoff(0.001, 0.001)})


# --- a stage that raises ---


class Broken(Brightness):
    """Raises *error* in one of its methods, at the frame with number 10 or at the first break."""

    def __init__(self, where: str, error: BaseException) -> None:
        super().__init__()
        self.where, self.error = where, error

    def check(self, where: str, packets: Sequence[Packet]) -> None:
        if where == self.where and any(packet.frame.seq >= 10 for packet in packets):
            raise self.error

    def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        self.check("process", packets)
        return super().process(packets)

    def forget(self, camera: str) -> None:
        if self.where == "forget":
            raise self.error


class Overlapped(Broken):
    """The same in two halves."""

    def begin(self, packets: Sequence[Packet]) -> Callable[[], Sequence[Packet]]:
        self.check("begin", packets)
        return lambda: self.finish(packets)

    def finish(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        self.check("finish", packets)
        return super().process(packets)


@KINDS
@pytest.mark.parametrize("error", [ZeroDivisionError("odd"), MemoryError("no memory"), SystemExit(3)])
def test_what_a_stage_raises_ends_the_run_and_is_raised(live: bool, error: BaseException) -> None:
    seen = Seen()
    assert run(pipeline(camera(live), Broken("process", error), seen)) is error
    assert seen.count(events.PacketPublished) <= 10
    assert seen.accounts_for_every_frame()


@pytest.mark.parametrize("where", ["begin", "finish"])
def test_what_half_a_stage_raises_as_well(where: str) -> None:
    seen, error = Seen(), ZeroDivisionError("odd")
    assert run(pipeline(camera(live=False), Overlapped(where, error), seen)) is error
    assert seen.accounts_for_every_frame()


@pytest.mark.parametrize("stage", [Broken, Overlapped])
@KINDS
def test_what_forgetting_raises_as_well(live: bool, stage: type[Broken]) -> None:
    seen, error = Seen(), ZeroDivisionError("odd")
    source = camera(live) if live else Script("gate", [[raw(i, breaks=i == 40) for i in range(100)]])
    assert run(pipeline(source, stage("forget", error), seen)) is error
    assert seen.accounts_for_every_frame()


@KINDS
def test_a_stage_that_returns_nothing_at_all_ends_the_run(live: bool) -> None:
    class Forgetful(Brightness):
        def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
            return None  # type: ignore[return-value]

    seen = Seen()
    assert isinstance(run(pipeline(camera(live), Forgetful(), seen)), TypeError)
    assert seen.accounts_for_every_frame()


# --- a model that returns nonsense ---

Infer = Callable[[Mapping[str, Array]], Mapping[str, Array]]


def finding(*scores: float) -> Infer:
    """Make a network that finds a box for each score."""

    def infer(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        rows, count = len(feeds["frames"]), len(scores)
        return {
            "boxes": np.tile(np.array([0, 0, 3, 3], np.float32), (rows, count, 1)),
            "scores": np.tile(np.array(scores, np.float32), (rows, 1)),
            "classes": np.zeros((rows, count), np.int32),
        }

    return infer


def detector(infer: Infer) -> Detect:
    def feed(images: Sequence[Image]) -> tuple[Mapping[str, Array], list[Geometry]]:
        return {"frames": np.stack(images)}, [Geometry((4, 4), (1.0, 1.0), (0.0, 0.0))] * len(images)

    decode = DecodeCandidates(1, DetectOptions(0.3))
    return Detect(Model("spots", ("spot",), feed, FakeRuntime(infer), decode), DETECTIONS)


@KINDS
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_model_that_gives_no_numbers_ends_the_run_by_name(live: bool, bad: float) -> None:
    seen = Seen()
    error = run(pipeline(camera(live), detector(finding(0.9, bad)), seen))
    assert isinstance(error, ModelError)
    assert str(error).startswith("spots on fake: output 'scores' holds NaN or infinity")
    assert seen.count(events.PacketPublished) == 0
    assert seen.accounts_for_every_frame()


@KINDS
def test_a_model_that_gives_other_shapes_ends_the_run_by_name(live: bool) -> None:
    error = run(pipeline(camera(live), detector(lambda _: {"boxes": np.zeros((1, 2, 4), np.float32)}), Seen()))
    assert isinstance(error, ModelError)
    assert "spots on fake: a served detector gives boxes, scores and classes" in str(error)


def test_an_optional_node_whose_model_gives_no_numbers_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    seen, sink = Seen(), MemorySink()
    assert run(pipeline(camera(live=False), optional(detector(finding(np.nan))), seen, sink)) is None
    assert len(sink.packets) == FRAMES
    assert all(packet.get(DETECTIONS) is None for packet in sink.packets)
    assert "spots on fake" in caplog.text


# --- a frame that cannot be decoded ---


def undecodable(index: int) -> RawFrame:
    def to_rgb() -> Image:
        raise SourceError(f"picture {index} is damaged")

    return RawFrame(index / 10, to_rgb)


@KINDS
def test_a_picture_that_is_damaged_is_dropped_and_counted_and_the_others_go_on(live: bool) -> None:
    seen, sink = Seen(), MemorySink()
    frames = [undecodable(i) if i % 10 == 3 else raw(i) for i in range(100)]
    one = pipeline(Script("gate", [frames], live), Brightness(), seen, sink)
    with running(one) as raised:
        eventually(lambda: seen.done == 100, "every frame")
        if live:
            one.stop()
    assert not raised
    assert [packet.frame.seq for packet in sink.packets] == [i for i in range(100) if i % 10 != 3]
    assert seen.drops == {"corrupt": 10}


def damaged(path: Path) -> Path:
    """A video with rubbish in its middle."""
    content = bytearray(write(path, Clip(frames=100)).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = bytes(i * 37 % 256 for i in range(4000))
    path.write_bytes(content)
    return path


def test_rubbish_in_the_middle_of_a_recording_is_counted_and_what_follows_is_read(tmp_path: Path) -> None:
    seen, sink = Seen(), MemorySink()
    source = open_source("gate", str(damaged(tmp_path / "v.mp4")), SourceOptions(), seen)
    assert run(pipeline(source, Brightness(), seen, sink)) is None
    lost = sum(event.count for event in seen.all if isinstance(event, events.FrameLost))
    assert len(sink.packets) + lost >= 100 > len(sink.packets)
    assert seen.accounts_for_every_frame()
    assert max(packet.frame.pts for packet in sink.packets) > 9.5, "the last second is there"


def test_rubbish_in_the_middle_of_a_live_stream_and_what_follows_is_read(tmp_path: Path) -> None:
    """The stream ends, as a camera's may, and is opened again: time goes on."""
    seen, sink = Seen(), MemorySink()
    options = SourceOptions(live=True, open_timeout=5, read_timeout=5)
    source = open_source("gate", str(damaged(tmp_path / "v.ts")), options, seen)
    with running(one := pipeline(source, Brightness(), seen, sink)) as raised:
        eventually(lambda: seen.count(events.PacketPublished) > 150, "what is behind the rubbish, twice")
        one.stop()
    assert not raised
    assert seen.accounts_for_every_frame()
    times = [packet.frame.pts for packet in sink.packets]
    assert all(after > before for before, after in pairwise(times))


# --- sinks and observers ---


@dataclass
class Odd:
    """A sink that raises what is no SinkError."""

    name: str = "odd"

    def publish(self, packets: Sequence[Packet]) -> None:
        raise ZeroDivisionError("odd")

    def close(self) -> None:
        pass


def test_a_sink_with_a_bug_ends_a_recorded_run() -> None:
    seen = Seen()
    assert isinstance(run(pipeline(camera(live=False), Brightness(), seen, Odd())), ZeroDivisionError)
    assert seen.accounts_for_every_frame()


def test_a_sink_with_a_bug_is_said_and_takes_no_other_sink_along(caplog: pytest.LogCaptureFixture) -> None:
    seen, sink = Seen(), MemorySink()
    one = pipeline(camera(live=True), Brightness(), seen)
    one.sinks = [Odd(), sink]
    with running(one) as raised:
        eventually(lambda: len(sink.packets) == FRAMES, "every frame in the other sink")
        one.stop()
    assert not raised
    assert seen.count(events.ResultsDropped) > 0
    assert len([record for record in caplog.records if record.exc_info and "odd" in record.message]) >= 1


@KINDS
def test_an_observer_that_raises_is_said_once_and_stops_nothing(live: bool, caplog: pytest.LogCaptureFixture) -> None:
    sink = MemorySink()

    def broken(event: events.Event) -> None:
        raise ZeroDivisionError(f"at {type(event).__name__}")

    one = pipeline(camera(live), Brightness(), broken, sink)
    with running(one) as raised:
        eventually(lambda: len(sink.packets) == FRAMES, "every frame")
        one.stop()
    assert not raised
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


# --- what hangs ---


class Hanging(Brightness):
    """Works on its tenth frame until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs, self.released = threading.Event(), threading.Event()

    def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        if any(packet.frame.seq >= 10 for packet in packets) and not self.released.is_set():
            self.hangs.set()
            self.released.wait(2 * DEADLINE)
        return super().process(packets)


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    stage = Hanging()
    yield stage
    stage.released.set()


def test_a_stage_that_hangs_is_named_while_it_does_and_seen_from_outside(
    hanging: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    monitor, sink = Monitor({}), MemorySink()
    one = pipeline(camera(live=True), hanging, monitor, sink)
    one = Pipeline(one.sources, one.stages, one.sinks, Limits(batch=4, live_frames=FRAMES, stage=0.05), monitor)
    with running(one) as raised:
        assert hanging.hangs.wait(DEADLINE)
        eventually(lambda: "stage yolo" in caplog.text, "a line that names the stage")
        health = health_of(monitor.stats(), one.busy(), 0.05)
        assert not health.alive
        assert "stage yolo" in health.troubles[0]
        hanging.released.set()  # it was slow, and not dead: then it goes on
        eventually(lambda: len(sink.packets) == FRAMES, "every frame")
        assert health_of(monitor.stats(), one.busy(), DEADLINE).alive
        one.stop()
    assert not raised


@KINDS
def test_a_stage_that_hangs_for_good_is_left_behind_by_name(
    live: bool, hanging: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Seen()
    one = pipeline(camera(live), hanging, seen)
    one = Pipeline(one.sources, one.stages, one.sinks, Limits(drain=0.1), seen, one.backoff)
    ended = threading.Event()

    def work() -> None:
        one.run()
        ended.set()

    threading.Thread(target=work, daemon=True).start()
    assert hanging.hangs.wait(DEADLINE)
    one.stop()
    assert ended.wait(DEADLINE)
    assert "stage yolo" in caplog.text
    assert seen.accounts_for_every_frame()


def test_a_picture_whose_conversion_hangs_is_seen_from_outside(caplog: pytest.LogCaptureFixture) -> None:
    hangs, released = threading.Event(), threading.Event()

    def to_rgb() -> Image:
        hangs.set()
        released.wait(2 * DEADLINE)
        return np.zeros((4, 4, 3), np.uint8)

    source = Script("gate", [[RawFrame(0.1, to_rgb)]], live=True)
    one = Pipeline([source], [Brightness()], [MemorySink()], Limits(stage=0.05))
    with running(one):
        assert hangs.wait(DEADLINE)
        try:
            eventually(lambda: "batch" in one.busy(), "the batcher among those at work")
            eventually(lambda: "batch" in caplog.text, "a line that names it")
        finally:
            released.set()
            one.stop()


# --- closing ---

STUBBORN = """
from streamer.types import Note

class Stubborn:
    reads = ()
    writes = Note

    def __call__(self, frame):
        return Note("seen", {"seq": frame.seq})

    def close(self):
        raise ZeroDivisionError("odd")
"""


def test_what_closing_raises_is_said_and_loses_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    monkeypatch.syspath_prepend(str(tmp_path))
    clip, results = write(tmp_path / "v.mp4", Clip(frames=25)), tmp_path / "out.jsonl"
    (tmp_path / "p.yaml").write_text(
        f"cameras: {{gate: {{url: '{clip}'}}}}\n"
        "nodes:\n"
        "  first: {kind: python, class: 'stubborn:Stubborn'}\n"
        "  second: {kind: python, class: 'stubborn:Stubborn'}\n"
        f"publish: [{{kind: jsonl, path: {results}}}]\n"
    )
    assert main(["run", str(tmp_path / "p.yaml")]) == DONE
    assert len(results.read_text().splitlines()) == 25
    said = [line for line in capsys.readouterr().err.splitlines() if "ZeroDivisionError: odd (in stubborn.py:" in line]
    assert len(said) == 2, "one fault does not keep the other from being closed"

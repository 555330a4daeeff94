from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from worlds import DETECTIONS, Brightness, Script, counting, raw

from streamer import events
from streamer.backoff import Backoff
from streamer.errors import SinkError, SourceError
from streamer.pipeline import Limits, Pipeline
from streamer.sinks.memory import MemorySink
from streamer.types import Packet


def drops(seen: Sequence[events.Event]) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    for event in seen:
        if isinstance(event, events.FrameDropped):
            key = event.camera, event.reason
            counts[key] = counts.get(key, 0) + event.count
    return counts


def stop_after(camera: Script, pipeline: Pipeline) -> None:
    """Stop a live pipeline once its camera has played everything."""

    def watch() -> None:
        camera.over.wait(10)
        pipeline.stop()

    threading.Thread(target=watch, daemon=True).start()


def grabbed(seen: Sequence[events.Event]) -> int:
    return sum(isinstance(e, events.FrameGrabbed) for e in seen)


def test_every_frame_of_every_file_arrives_once_in_order_with_its_result() -> None:
    sink = MemorySink()
    Pipeline([counting("a", 30), counting("b", 20)], [Brightness()], [sink]).run()
    assert len(sink.packets) == 50
    for camera, n in (("a", 30), ("b", 20)):
        mine = [p for p in sink.packets if p.frame.camera == camera]
        assert [p.frame.seq for p in mine] == list(range(n))
        for packet in mine:
            found = packet.get(DETECTIONS)
            assert found is not None
            assert found.xyxy[0, 2] == packet.frame.seq


def test_latencies_add_up_to_the_whole() -> None:
    sink = MemorySink()
    Pipeline([counting("a", 5)], [Brightness()], [sink]).run()
    for packet in sink.packets:
        assert list(packet.latency_ms) == ["queue", "convert", "yolo", "publish"]
        assert packet.marked_ns is not None
        total = (packet.marked_ns - packet.frame.grabbed_ns) / 1e6
        assert sum(packet.latency_ms.values()) == pytest.approx(total)


def test_nothing_to_do_ends() -> None:
    sink = MemorySink()
    Pipeline([counting("a", 0)], [Brightness()], [sink]).run()
    assert sink.packets == []


def test_the_first_error_of_a_stage_ends_everything_and_is_raised() -> None:
    class Broken(Brightness):
        def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
            raise ZeroDivisionError("in the stage")

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError, match="in the stage"):
        Pipeline([counting("a", 10_000), counting("b", 10_000)], [Broken(), Brightness()], [MemorySink()]).run()
    assert threading.active_count() == before


def test_a_recorded_source_that_fails_ends_alone() -> None:
    sink = MemorySink()
    bad = Script("bad", [[raw(0), SourceError("no such file")]])
    pipeline = Pipeline([bad, counting("good", 12)], [Brightness()], [sink])
    pipeline.run()
    assert str(pipeline.failures["bad"]) == "no such file"
    assert sum(p.frame.camera == "good" for p in sink.packets) == 12
    assert sum(p.frame.camera == "bad" for p in sink.packets) == 1


@dataclass
class Flaky:
    """A sink that refuses the first *failures* calls."""

    failures: int
    name: str = "flaky"
    got: list[int] = field(default_factory=list)
    calls: int = 0

    def publish(self, packets: Sequence[Packet]) -> None:
        self.calls += 1
        if self.calls <= self.failures:
            raise SinkError("it is away")
        self.got += [p.frame.seq for p in packets]

    def close(self) -> None:
        pass


def test_a_sink_that_fails_ends_a_recorded_run() -> None:
    with pytest.raises(SinkError, match="it is away"):
        Pipeline([counting("a", 100)], [Brightness()], [Flaky(1)]).run()


def test_a_sink_that_fails_does_not_end_a_live_run_nor_disturb_the_other_sinks() -> None:
    seen: list[events.Event] = []
    flaky, memory = Flaky(1), MemorySink()
    camera = counting("a", 5, live=True)
    pipeline = Pipeline([camera], [Brightness()], [flaky, memory], Limits(live_frames=10), seen.append)
    stop_after(camera, pipeline)
    pipeline.run()
    assert [p.frame.seq for p in memory.packets] == list(range(5))
    lost = sum(e.count for e in seen if isinstance(e, events.ResultsDropped))
    assert lost > 0
    assert len(flaky.got) + lost == 5
    assert events.SinkState("flaky", "it is away") in seen


def test_of_a_live_camera_that_came_too_fast_only_the_newest_frame_is_worked_on() -> None:
    seen: list[events.Event] = []
    gate = threading.Event()
    sink = MemorySink()
    camera = counting("a", 50, live=True)
    pipeline = Pipeline([camera], [Brightness(gate=gate)], [sink], Limits(batch=1, live_frames=2), seen.append)
    runner = threading.Thread(target=pipeline.run)
    runner.start()
    assert camera.over.wait(10)
    gate.set()
    pipeline.stop()
    runner.join(10)
    assert not runner.is_alive()
    seqs = [p.frame.seq for p in sink.packets]
    assert seqs == sorted(seqs)
    assert seqs[-1] == 49
    assert len(seqs) <= 4  # what was inside when it got crowded, and the newest
    assert len(seqs) + sum(drops(seen).values()) == grabbed(seen) == 50


def test_stop_lets_what_is_inside_go_through() -> None:
    seen: list[events.Event] = []
    sink = MemorySink()
    pipeline: Pipeline

    class StopsAtTen(Brightness):
        def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
            if any(p.frame.seq == 10 for p in packets):
                pipeline.stop()
            return super().process(packets)

    pipeline = Pipeline([counting("a", 100_000)], [StopsAtTen()], [sink], Limits(), seen.append)
    pipeline.run()
    seqs = [p.frame.seq for p in sink.packets]
    assert seqs == list(range(len(seqs)))
    assert len(seqs) >= 10
    assert len(seqs) + sum(drops(seen).values()) == grabbed(seen)


@pytest.mark.parametrize("broken", ["stage", "sink"])
def test_every_frame_is_accounted_for_when_something_breaks(broken: str) -> None:
    class Broken(Brightness):
        def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
            if broken == "stage" and any(p.frame.seq >= 50 for p in packets):
                raise ZeroDivisionError
            return super().process(packets)

    seen: list[events.Event] = []
    sink = Flaky(0)
    if broken == "sink":
        sink.publish = lambda packets: Flaky(10**9).publish(packets)  # type: ignore[method-assign]  # fails for good
    pipeline = Pipeline([counting("a", 1000), counting("b", 1000)], [Broken()], [sink], Limits(), seen.append)
    with pytest.raises((ZeroDivisionError, SinkError)):
        pipeline.run()
    published = sum(isinstance(e, events.PacketPublished) for e in seen)
    assert published + sum(drops(seen).values()) == grabbed(seen) > 0


def test_a_stage_that_overlaps_is_begun_ahead_and_finished_in_order() -> None:
    class Ahead(Brightness):
        begun = 0
        finished = 0
        second = threading.Event()  # has been begun

        def begin(self, packets: Sequence[Packet]) -> Callable[[], Sequence[Packet]]:
            self.begun += 1
            if self.begun == 2:
                self.second.set()

            def finish() -> Sequence[Packet]:
                assert self.second.wait(10), "nothing is begun before the first is finished"
                self.finished += 1
                return self.process(packets)

            return finish

    stage, sink = Ahead(), MemorySink()
    camera = Script("a", [[raw(i, breaks=i == 40) for i in range(100)]])
    Pipeline([camera], [stage], [sink], Limits(batch=4)).run()
    assert [p.frame.seq for p in sink.packets] == list(range(100))
    assert stage.begun == stage.finished >= 25
    assert stage.log.count("forget a") == 1


def test_a_stage_that_hangs_is_left_behind_by_name(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[events.Event] = []
    gate = threading.Event()
    camera = counting("a", 50, live=True)
    pipeline = Pipeline([camera], [Brightness(gate=gate)], [MemorySink()], Limits(drain=0.05), seen.append)
    stop_after(camera, pipeline)
    pipeline.run()
    assert sum(drops(seen).values()) == grabbed(seen) == 50
    gate.set()
    assert "stage yolo" in caplog.text


def test_a_break_makes_every_stage_forget_between_the_right_frames() -> None:
    first, second = Brightness(), Brightness()
    camera = Script("a", [[raw(0), raw(1), SourceError("gone")], [raw(2), raw(3)]], live=True)
    pipeline = Pipeline(
        [camera],
        [first, second],
        [MemorySink()],
        Limits(live_frames=10),
        backoff={"a": Backoff(0.001, 0.001)},
    )
    stop_after(camera, pipeline)
    pipeline.run()
    for stage in (first, second):
        assert stage.log[:5] == ["a 0", "a 1", "forget a", "a 2", "a 3"]


def test_a_run_can_go_on_where_another_ended() -> None:
    sink = MemorySink()
    Pipeline([counting("a", 3)], [Brightness()], [sink], first_seq={"a": 40}).run()
    assert [p.frame.seq for p in sink.packets] == [40, 41, 42]


@pytest.mark.parametrize("live", [True, False])
def test_a_stage_that_keeps_packets_for_itself_is_named(live: bool) -> None:
    class Greedy(Brightness):
        def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
            return super().process(packets)[1:]

    seen: list[events.Event] = []
    pipeline = Pipeline([counting("a", 5, live)], [Greedy()], [MemorySink()], Limits(), seen.append)
    with pytest.raises(TypeError, match=r"stage yolo took \d packets and returned \d"):
        pipeline.run()
    assert sum(drops(seen).values()) == grabbed(seen) > 0


def test_a_recording_beside_a_live_camera_loses_nothing() -> None:
    sink = MemorySink()
    camera = counting("gate", 5, live=True)
    pipeline = Pipeline([camera, counting("tape", 300)], [Brightness()], [sink], Limits(latency=1e-6))
    run = threading.Thread(target=pipeline.run)
    run.start()
    while sum(p.frame.camera == "tape" for p in [*sink.packets]) < 300:
        assert run.is_alive()
    pipeline.stop()
    run.join(10)
    assert [p.frame.seq for p in sink.packets if p.frame.camera == "tape"] == list(range(300))

"""Cameras that come and go while a pipeline runs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from redisworld import eventually
from worlds import Brightness, ManualClock, counting, raw

from streamer import events
from streamer.errors import InputError, SourceUnusable
from streamer.intake import Admission
from streamer.pipeline import Limits, Pipeline
from streamer.sinks.base import Sink
from streamer.stages.base import Stage
from streamer.types import Packet, RawFrame


@dataclass
class Endless:
    """A live camera that sends a frame each time it is asked to."""

    camera: str
    live: bool = True
    opened: int = 0
    _go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def send(self, count: int = 1) -> None:
        self._go.release(count)

    @contextmanager
    def open(self) -> Iterator[Iterator[RawFrame]]:
        self.opened += 1
        yield self._frames()

    def _frames(self) -> Iterator[RawFrame]:
        for index in range(10**9):
            if not self._go.acquire(timeout=0.05):
                yield raw(index, breaks=False)  # keeps the grabber attentive, as a camera's own rate would
                continue
            yield raw(index)


class Watched:
    """A sink and an observer that a test can wait on."""

    name = "watched"

    def __init__(self) -> None:
        self.packets: list[Packet] = []
        self.events: list[events.Event] = []
        self._changed = threading.Condition()

    def publish(self, packets: Sequence[Packet]) -> None:
        with self._changed:
            self.packets += packets
            self._changed.notify_all()

    def close(self) -> None:
        pass

    def __call__(self, event: events.Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], object]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: bool(condition()), 10), "it never came"

    def seqs(self, camera: str) -> list[int]:
        return [p.frame.seq for p in self.packets if p.frame.camera == camera]

    def drops(self, camera: str) -> Counter[str]:
        counts: Counter[str] = Counter()
        for event in self.events:
            if isinstance(event, events.FrameDropped) and event.camera == camera:
                counts[event.reason] += event.count
        return counts

    def states(self, camera: str) -> list[str]:
        return [e.state for e in self.events if isinstance(e, events.CameraState) and e.camera == camera]


@contextmanager
def running(pipeline: Pipeline) -> Iterator[None]:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            pipeline.run()
        except BaseException as error:  # noqa: BLE001 - carried to the test, which raises it
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        pipeline.stop()
        thread.join(10)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def built(
    cameras: Sequence[Endless], watched: Watched, stages: Sequence[Stage] = (), sinks: Sequence[Sink] = ()
) -> Pipeline:
    return Pipeline(cameras, stages or [Brightness()], sinks or [watched], Limits(live_frames=50), watched)


def test_a_camera_that_is_added_flows_and_one_that_is_removed_is_gone() -> None:
    watched, gate, yard = Watched(), Endless("gate"), Endless("yard")
    pipeline = built([gate], watched)
    with running(pipeline):
        watched.wait_for(lambda: watched.seqs("gate"))
        pipeline.add(yard)
        assert set(pipeline.cameras) == {"gate", "yard"}
        watched.wait_for(lambda: watched.seqs("yard"))
        pipeline.remove("gate")
        assert pipeline.cameras == ("yard",)
        watched.wait_for(lambda: events.CameraRemoved("gate") in watched.events)
        before = len(watched.seqs("yard"))
        watched.wait_for(lambda: len(watched.seqs("yard")) > before + 3)
    for camera in ("gate", "yard"):
        grabbed = sum(isinstance(e, events.FrameGrabbed) and e.camera == camera for e in watched.events)
        assert len(watched.seqs(camera)) + watched.drops(camera).total() == grabbed


def test_a_camera_that_comes_back_goes_on_counting_and_stages_forget_it() -> None:
    watched, stage = Watched(), Brightness()
    pipeline = built([Endless("gate"), Endless("yard")], watched, [stage])
    with running(pipeline):
        watched.wait_for(lambda: len(watched.seqs("gate")) > 3)
        pipeline.remove("gate")
        watched.wait_for(lambda: "forget gate" in stage.log)
        before = len(watched.seqs("gate"))
        pipeline.add(Endless("gate"))
        watched.wait_for(lambda: len(watched.seqs("gate")) > before + 3)
    seqs = watched.seqs("gate")
    assert seqs == sorted(set(seqs))
    stamps = [(p.frame.pts, p.frame.captured_at) for p in watched.packets if p.frame.camera == "gate"]
    assert stamps == sorted(stamps)


def test_a_paused_camera_is_closed_until_it_is_resumed() -> None:
    watched, gate = Watched(), Endless("gate")
    pipeline = built([gate], watched)
    with running(pipeline):
        watched.wait_for(lambda: watched.seqs("gate"))
        pipeline.pause("gate")
        watched.wait_for(lambda: watched.states("gate")[-1] == "paused")
        pipeline.pause("gate")  # twice is once
        assert gate.opened == 1
        pipeline.resume("gate")
        before = len(watched.seqs("gate"))
        watched.wait_for(lambda: len(watched.seqs("gate")) > before + 2)
    assert gate.opened == 2
    assert watched.states("gate").count("paused") == 1


def test_a_camera_may_be_paused_from_the_start() -> None:
    watched, gate = Watched(), Endless("gate")
    pipeline = Pipeline(
        [gate], [Brightness()], [watched], observer=watched, admissions={"gate": Admission(paused=True)}
    )
    with running(pipeline):
        watched.wait_for(lambda: watched.states("gate") == ["paused"])
        assert gate.opened == 0
        pipeline.resume("gate")
        watched.wait_for(lambda: watched.seqs("gate"))


def test_the_other_cameras_have_no_gap_while_one_comes_and_goes() -> None:
    watched = Watched()
    pipeline = built([Endless("stays")], watched)
    with running(pipeline):
        for _ in range(10):
            pipeline.add(Endless("comes"))
            before = len(watched.seqs("comes"))
            watched.wait_for(lambda before=before: len(watched.seqs("comes")) > before)  # type: ignore[misc]  # mypy wants no default
            pipeline.remove("comes")
    seqs = watched.seqs("stays")
    assert seqs == list(range(len(seqs)))


def test_a_live_pipeline_outlives_its_last_camera() -> None:
    watched = Watched()
    pipeline = built([Endless("gate")], watched)
    with running(pipeline):
        pipeline.remove("gate")
        pipeline.add(Endless("yard"))
        watched.wait_for(lambda: watched.seqs("yard"))


@dataclass
class Absent:
    """A recording that is not there."""

    camera: str
    live: bool = False

    @contextmanager
    def open(self) -> Iterator[Iterator[RawFrame]]:
        raise SourceUnusable(f"{self.camera}.mp4 does not exist")
        yield iter(())


def test_what_failed_is_told_only_of_cameras_that_are_there() -> None:
    watched = Watched()
    pipeline = built([Endless("gate")], watched)
    with running(pipeline):
        for name in ("taken-out", "put-right", "left"):
            pipeline.add(Absent(name))
            watched.wait_for(lambda: "failed" in watched.states(name))  # noqa: B023 - called at once
        eventually(lambda: len(pipeline.failures) == 3, "the last one's failure")
        pipeline.remove("taken-out")
        pipeline.add(Endless("put-right"))
        assert pipeline.failures.keys() == {"left"}


def test_what_cannot_be_changed_is_said_in_a_sentence() -> None:
    watched = Watched()
    pipeline = built([Endless("gate")], watched)
    with running(pipeline):
        watched.wait_for(lambda: watched.seqs("gate"))
        with pytest.raises(InputError, match="no camera 'gaet' in the pipeline; there are: gate"):
            pipeline.remove("gaet")
    with pytest.raises(InputError, match="has ended"):
        pipeline.add(Endless("yard"))


def test_a_pipeline_runs_once() -> None:
    pipeline = Pipeline([counting("a", 3)], [Brightness()], [])
    pipeline.run()
    with pytest.raises(InputError, match="has run already"):
        pipeline.run()


def test_a_stage_that_hangs_is_named_while_the_pipeline_runs(caplog: pytest.LogCaptureFixture) -> None:
    release, watched, clock = threading.Event(), Watched(), ManualClock()
    pipeline = Pipeline(
        [Endless("gate")], [Brightness(gate=release)], [watched], Limits(stage=0.02), watched, clock=clock
    )
    with running(pipeline):
        watched.wait_for(lambda: any(isinstance(e, events.BatchTaken) for e in watched.events))
        while "stage yolo" not in pipeline.busy():
            pass
        clock.advance(40)
        assert pipeline.busy()["stage yolo"] >= 40
        while "stage yolo has been working on one batch for 4" not in caplog.text:
            pass
        release.set()
        watched.wait_for(lambda: watched.packets)


def test_depths_name_every_queue() -> None:
    watched = Watched()
    pipeline = built([Endless("gate")], watched)
    with running(pipeline):
        assert set(pipeline.depths()) == {"camera gate", "stage yolo", "publish"}


def test_an_observer_that_raises_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: events.Event) -> None:
        raise ZeroDivisionError(type(event).__name__)

    watched = Watched()
    Pipeline([counting("a", 20)], [Brightness()], [watched], observer=broken).run()
    assert watched.seqs("a") == list(range(20))
    assert caplog.text.count("an observer failed at") == 1


@dataclass
class Dawdling:
    """A live camera that sends one frame and then, until it is let go, nothing."""

    camera: str
    live: bool = True
    left: threading.Event = field(default_factory=threading.Event)  # its grabber is through with it
    go: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def open(self) -> Iterator[Iterator[RawFrame]]:
        yield self._frames()
        self.left.set()

    def _frames(self) -> Iterator[RawFrame]:
        yield raw(0)
        self.go.wait(10)
        yield raw(1)


def test_a_grabber_that_was_replaced_does_not_break_the_stream_of_the_next_when_it_ends() -> None:
    watched, stage, old = Watched(), Brightness(), Dawdling("gate")
    pipeline = Pipeline([old], [stage], [watched], Limits(live_frames=50), watched)
    with running(pipeline):
        watched.wait_for(lambda: watched.seqs("gate"))
        (thread,) = (thread for thread in threading.enumerate() if thread.name == "grab gate")
        pipeline.add(Endless("gate"))
        watched.wait_for(lambda: len(watched.seqs("gate")) > 3)
        old.go.set()
        thread.join(10)
        before = len(watched.seqs("gate"))
        watched.wait_for(lambda: len(watched.seqs("gate")) > before + 2)
    assert stage.log.count("forget gate") == 1


def test_a_state_that_is_being_told_comes_before_the_pause_that_follows_it() -> None:
    told: list[str] = []
    connecting, paused = threading.Event(), threading.Event()

    def observe(event: events.Event) -> None:
        if not isinstance(event, events.CameraState):
            return
        if event.state == "connecting":
            connecting.set()
            paused.wait(0.1)  # in vain: this comes first
        told.append(event.state)
        if event.state == "paused":
            paused.set()

    pipeline = Pipeline([Endless("gate")], [], [], observer=observe)
    with running(pipeline):
        assert connecting.wait(10)
        pipeline.pause("gate")
        assert told == ["connecting", "paused"]


def test_a_camera_that_waits_for_room_is_taken_out_and_its_frames_are_counted() -> None:
    watched, gate, release = Watched(), Endless("gate"), threading.Event()
    pipeline = Pipeline(
        [gate],
        [Brightness(gate=release)],
        [watched],
        Limits(live_frames=1),
        watched,
        admissions={"gate": Admission(drop="block")},
    )
    with running(pipeline):
        watched.wait_for(lambda: pipeline.depths()["camera gate"] and grabbed(watched) >= 3)
        (thread,) = (thread for thread in threading.enumerate() if thread.name == "grab gate")
        pipeline.remove("gate")
        thread.join(10)
        assert not thread.is_alive()
        release.set()
        watched.wait_for(lambda: len(watched.seqs("gate")) + watched.drops("gate").total() == grabbed(watched))
    assert set(watched.drops("gate")) == {"removed"}


def grabbed(watched: Watched) -> int:
    return sum(isinstance(event, events.FrameGrabbed) for event in watched.events)


def test_the_age_of_frames_that_wait_by_policy_is_not_held_against_the_graph() -> None:
    watched = Watched()
    sources = [Endless("gate"), Endless("yard"), Endless("tape", live=False)]
    pipeline = Pipeline(sources, [Brightness()], [watched], admissions={"yard": Admission(drop="block")})
    fleet = pipeline._works.fleet
    assert [fleet.ages(camera) for camera in ("gate", "yard", "tape", "nobody")] == [False, True, True, False]


def test_a_pipeline_that_was_stopped_before_it_ran_ends_at_once() -> None:
    watched = Watched()
    pipeline = built([Endless("gate")], watched)
    pipeline.stop()
    pipeline.stop()
    pipeline.run()
    assert len(watched.seqs("gate")) + watched.drops("gate").total() == grabbed(watched)


def test_an_observer_may_look_at_the_pipeline_while_another_thread_changes_it() -> None:
    connecting, removing = threading.Event(), threading.Event()
    seen: list[object] = []

    def observe(event: events.Event) -> None:
        if isinstance(event, events.CameraState) and event.state == "connecting":
            connecting.set()
            assert removing.wait(10)
            seen.append((pipeline.cameras, pipeline.depths(), pipeline.busy()))
            with pytest.raises(InputError):
                pipeline.remove("nobody")  # waits for the other's change: neither may wait for ever

    pipeline = Pipeline([Endless("gate")], [], [], observer=observe)
    with running(pipeline):
        assert connecting.wait(10)
        removing.set()
        pipeline.remove("gate")
    assert seen

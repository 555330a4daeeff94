"""A recogniser beside the frames: they do not wait, its news comes later, and every window is scored or counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moving import tracked
from windowed import ACTIONS, CLIPS, RAW, Reads, plain, short, told, window, with_clips
from worlds import DETECTIONS, ManualClock, raw

from engines.errors import ModelError
from engines.types import Clip, Scores
from streamer.events import Event, WorkShed
from streamer.pipeline import Pipeline
from streamer.stages import aside as aside_module
from streamer.stages.aside import Aside, Bounds
from streamer.stages.base import Overlapping, Stage
from streamer.stages.clips import ClipOptions, ClipPorts, Clips
from streamer.stages.optional import optional
from streamer.stages.progress import ActionOptions
from streamer.stages.recognise import Recognise
from streamer.types import Action, Packet, RawFrame

PATIENCE = 10.0


@dataclass
class Gated(Reads):
    """A model that waits before each batch until it is let through."""

    clock: ManualClock = field(default_factory=ManualClock)
    seconds: float = 0.0  # that a clip takes by that clock
    error: Exception | None = None
    begun: int = 0  # batches
    through: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __call__(self, clips: Sequence[Clip]) -> list[Scores]:
        with self._changed:
            self.begun += 1
            self._changed.notify_all()
        assert self.through.acquire(timeout=PATIENCE)
        self.clock.advance(self.seconds * len(clips))
        if self.error is not None:
            raise self.error
        return super().__call__(clips)

    def wait(self, batches: int = 1) -> None:
        """Wait until it has got so many; what it made of those before has been handed back by then."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.begun >= batches, PATIENCE)


@dataclass
class World:
    """A stage, its model, and what it shed."""

    stage: Aside
    model: Gated
    seen: list[Event]

    def shed(self, camera: str = "gate") -> int:
        return sum(e.count for e in self.seen if isinstance(e, WorkShed) and e.camera == camera)

    def let_through(self, batches: int = 1) -> None:
        self.model.through.release(batches)

    def until(self, seq: int, windows: int, camera: str = "gate") -> list[Packet]:
        """Send packets that complete nothing, until so many windows were told of; leave out those that tell nothing."""
        deadline, out = time.monotonic() + PATIENCE, list[Packet]()
        while len(items(out)) < windows:
            assert time.monotonic() < deadline, f"{len(items(out))} windows of {windows} were told in {PATIENCE} s"
            (sent,) = self.stage.process([plain(seq, camera)])
            out += [sent] if sent.get(ACTIONS) is not None else []
        return out


@contextmanager
def world(options: ActionOptions = RAW, bounds: Bounds | None = None) -> Iterator[World]:
    model, seen = Gated(), list[Event]()
    stage = Aside(Recognise(model, CLIPS, ACTIONS, options), bounds, seen.append, model.clock)
    try:
        yield World(stage, model, seen)
    finally:
        model.through.release(10_000)
        stage.close()
    assert not any(thread.name == "stage actions aside" for thread in threading.enumerate())


def items(packets: Sequence[Packet]) -> list[Action]:
    return [item for one in packets if (value := one.get(ACTIONS)) is not None for item in value.items]


def ends(packets: Sequence[Packet]) -> list[tuple[int | None, int]]:
    return [(item.track_id, item.last_seq) for item in items(packets)]


def test_packets_do_not_wait_and_a_later_one_tells_what_was_scored() -> None:
    with world() as w:
        out = [*w.stage.process([with_clips(4, window(0.9, 7, 4))])]
        w.model.wait()
        for seq in range(5, 20):
            out += w.stage.process([plain(seq)])
        assert items(out) == []
        w.let_through()
        (late,) = w.until(20, 1)
        (item,) = items([late])
        assert (item.track_id, item.first_seq, item.last_seq) == (7, 1, 4)
        assert item.scores.probs == pytest.approx([0.9, 0.1])
        assert [(event.pts, event.class_id) for event in told([late])] == [(0.4, 0)]  # when it was, not when it is told
        assert w.seen == []


def test_the_newest_window_of_a_track_is_scored_and_the_others_are_counted() -> None:
    with world() as w:
        w.stage.process([with_clips(0, window(0.1, 1))])
        w.model.wait()
        w.stage.process([with_clips(seq, window(seq / 100, 1, seq)) for seq in (10, 20, 30)])
        w.let_through(2)
        out = w.until(40, 2)
        assert ends(out) == [(1, 0), (1, 30)]
        assert [float(item.scores.probs[0]) for item in items(out)] == pytest.approx([0.1, 0.3])
        assert w.seen == [WorkShed("actions", "gate"), WorkShed("actions", "gate")]


def test_cameras_share_batches_that_take_about_a_second_and_get_what_is_theirs() -> None:
    """The model takes 0.3 s a clip: one to find out, then three at a time."""
    with world() as w:
        w.model.seconds = 0.3
        w.stage.process([with_clips(0, *(window(track / 10, track) for track in range(5)))])
        w.stage.process([with_clips(0, window(0.9, 1), window(0.8, 2), camera="yard")])
        w.let_through(3)
        assert ends(w.until(1, 5)) == [(track, 0) for track in range(5)]
        found = items(w.until(1, 2, "yard"))
        assert [float(item.scores.probs[0]) for item in found] == pytest.approx([0.9, 0.8])
        assert w.model.batches == [1, 3, 3]


def test_a_batch_has_its_limit_however_quick_the_model() -> None:
    with world(bounds=Bounds(batch=4)) as w:
        w.stage.process([with_clips(0, *(window(0.5, track) for track in range(10)))])
        w.let_through(4)
        assert len(items(w.until(1, 10))) == 10
        assert w.model.batches == [1, 4, 4, 1]


def test_memory_is_bounded_however_many_come() -> None:
    with world(bounds=Bounds(waiting=3, late=1000)) as w:
        w.stage.process([with_clips(0, window(0.5, 0))])
        w.model.wait()
        for track in range(1, 500):
            w.stage.process([with_clips(track, window(0.5, track, track), gone=(track - 1,))])
        assert w.shed() == 496
        w.let_through(4)
        assert [track for track, _ in ends(w.until(600, 4))] == [0, 1, 2, 3]


# --- ends ---


@pytest.mark.parametrize("ahead", ["waits", "runs"])
def test_who_is_gone_ends_once_his_last_window_is_scored(ahead: str) -> None:
    with world() as w:
        if ahead == "waits":
            w.stage.process([with_clips(0, window(0.5, 99, 0))])
            w.model.wait()
        w.stage.process([with_clips(2, window(0.9, 1, 2))])
        if ahead == "runs":
            w.model.wait()
        (gone,) = w.stage.process([with_clips(6, gone=(1,))])
        assert gone.get(ACTIONS) is None
        w.let_through(2)
        out = w.until(8, 2 if ahead == "waits" else 1)
        assert [one[1:] for one in short(out)] == [("Started", 1, 0), ("Ended", 1, 0)]
        assert [event.pts for event in told(out)] == [0.2, 0.2]


def test_who_is_gone_for_long_ends_though_his_last_window_was_never_looked_at() -> None:
    with world() as w:
        w.stage.process([with_clips(0, window(0.9, 1), window(0.9, 2))])
        w.let_through(2)
        w.until(1, 2)
        w.stage.process([with_clips(2, window(0.5, 99, 2))])
        w.model.wait(3)
        w.stage.process([with_clips(10, window(0.9, 1, 10)), with_clips(15, gone=(1,))])
        w.stage.process([with_clips(61, window(0.9, 2, 61))])  # 5.1 s later
        w.let_through(2)
        out = w.until(62, 2)
        assert ends(out) == [(99, 2), (2, 61)]
        assert [one[1:] for one in short(out)] == [("Ended", 1, 0)]
        assert w.shed() == 1


def test_who_is_gone_with_nothing_on_the_way_ends_at_once() -> None:
    with world() as w:
        w.stage.process([with_clips(0, window(0.9, 1))])
        w.let_through()
        w.until(1, 1)
        assert short(w.stage.process([with_clips(5, gone=(1,))])) == [(5, "Ended", 1, 0)]


def test_who_comes_back_under_his_number_begins_anew() -> None:
    """Also while the last window of his former self still waits, which he does not push out."""
    with world(ActionOptions(smooth=5.0, start=0.6, stop=0.4)) as w:
        w.stage.process([with_clips(0, window(0.5, 99))])
        w.model.wait()
        w.stage.process([with_clips(1, window(0.9, 1, 1)), with_clips(6, gone=(1,)), with_clips(9, window(0.1, 1, 9))])
        w.let_through(3)
        out = w.until(10, 3)
        assert ends(out) == [(99, 0), (1, 1), (1, 9)]
        assert [one[1:] for one in short(out)] == [("Started", 1, 0), ("Ended", 1, 0), ("Started", 1, 1)]
        assert w.seen == []


def test_a_break_gives_up_windows_and_ends_actions_of_its_camera_alone() -> None:
    with world() as w:
        w.stage.process([with_clips(0, window(0.9)), with_clips(0, window(0.9), camera="yard")])
        w.let_through(2)
        assert [*short(w.until(1, 1)), *short(w.until(1, 1, "yard"))] == [(1, "Started", None, 0)] * 2
        w.stage.process([with_clips(2, window(0.9, seq=2))])
        w.model.wait(3)
        w.stage.process([with_clips(3, window(0.9, seq=3)), with_clips(3, window(0.9, seq=3), camera="yard")])
        w.stage.forget("gate")
        assert (w.shed(), w.shed("yard")) == (2, 0)
        assert short(w.stage.process([plain(4)])) == [(4, "Ended", None, 0)]
        w.stage.process([with_clips(5, window(0.9, seq=5))])
        w.let_through(2)
        assert ends(w.until(6, 1, "yard")) == [(None, 3)]
        out = w.until(6, 1)
        assert ends(out) == [(None, 5)]
        assert short(out) == [(6, "Started", None, 0)]


def test_what_was_scored_before_a_break_is_told_after_it_with_its_end() -> None:
    with world() as w:
        w.stage.process([with_clips(0, window(0.9), camera="yard"), with_clips(0, window(0.9))])
        w.let_through(2)
        w.until(1, 1, "yard")
        w.stage.process([with_clips(1, window(0.5), camera="yard")])
        w.model.wait(3)  # so what came before was handed back
        w.stage.forget("gate")
        (out,) = w.stage.process([plain(9)])
        assert ends([out]) == [(None, 0)]
        assert [one[1:] for one in short([out])] == [("Started", None, 0), ("Ended", None, 0)]
        assert w.shed() == 0


# --- faults and the end ---


def test_what_the_model_raises_is_raised_by_the_next_packets_and_then_it_goes_on() -> None:
    with world() as w:
        w.stage.process([with_clips(0, window(0.9, 1), window(0.9, 2))])
        w.model.wait()
        w.model.error = ModelError("out of device memory")
        w.let_through()
        with pytest.raises(ModelError, match="out of device memory"):
            w.until(1, 1)
        assert w.shed() == 2  # what it had, and what waited behind
        w.model.error = None
        w.stage.process([with_clips(2, window(0.9, 1, 2))])
        w.let_through()
        assert ends(w.until(3, 1)) == [(1, 2)]


def test_a_model_that_gives_too_few_scores_is_a_fault() -> None:
    class Few(Reads):
        def __call__(self, clips: Sequence[Clip]) -> list[Scores]:
            return []

    with closing(Aside(Recognise(Few(), CLIPS, ACTIONS, RAW))) as stage:
        w = World(stage, Gated(), [])
        stage.process([with_clips(0, window(0.9))])
        with pytest.raises(ValueError, match="shorter"):
            w.until(1, 1)


def test_an_optional_one_rests_and_recovers(caplog: pytest.LogCaptureFixture) -> None:
    with world() as w:
        node = optional(w.stage, w.model.clock, w.seen.append)
        assert not isinstance(node, Overlapping)
        node.process([with_clips(0, window(0.9))])
        w.model.error = ModelError("out of device memory")
        w.let_through()
        deadline = time.monotonic() + PATIENCE
        while "rests" not in caplog.text:
            node.process([plain(1)])
            assert time.monotonic() < deadline
        assert w.shed() == 2  # a window, and the packet that went without a value
        node.process([with_clips(2, window(0.9))])
        assert w.shed() == 3
        w.model.error = None
        w.model.clock.advance(31)
        node.process([with_clips(3, window(0.9, seq=3))])
        w.let_through()
        assert ends(w.until(4, 1)) == [(None, 3)]


def test_closing_gives_up_what_is_left_and_waits_for_the_batch_under_way() -> None:
    with world() as w:
        w.stage.process([with_clips(0, window(0.9, 1), window(0.9, 2))])
        w.model.wait()
        w.model.clock.advance(2.5)
        assert w.stage.busy == pytest.approx(2.5)
        closer = threading.Thread(target=w.stage.close)
        closer.start()
        w.let_through()
        closer.join(PATIENCE)
        assert not closer.is_alive()
        assert w.model.batches == [1, -1]  # one batch, then it was closed
        assert w.shed() == 2
        assert w.stage.busy == 0


def test_a_model_that_hangs_is_left_behind_and_not_closed_under_its_own_hands(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(aside_module, "_PATIENCE", 0.01)
    with world() as w:
        w.stage.process([with_clips(0, window(0.9))])
        w.model.wait()
        w.stage.close()
        assert "node actions: its model did not end in time and is left behind" in caplog.text
        assert w.model.batches == []
        monkeypatch.setattr(aside_module, "_PATIENCE", PATIENCE)


def test_a_fault_that_nobody_was_left_to_hear_of_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with world() as w:
        w.model.error = ModelError("out of device memory")
        w.stage.process([with_clips(0, window(0.9))])
        w.let_through()
        deadline = time.monotonic() + PATIENCE
        while w.stage._fault is None:
            assert time.monotonic() < deadline
        w.stage.close()
        assert "nobody was left to hear of it: out of device memory" in caplog.text


def test_without_windows_there_is_no_thread() -> None:
    with world() as w:
        w.stage.process([plain(0), with_clips(1)])
        assert not any(thread.name == "stage actions aside" for thread in threading.enumerate())


# --- as in the chain ---


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from(["gate", "yard"]), st.integers(1, 3), st.floats(0, 1, width=16), st.booleans()),
        max_size=30,
    )
)
def test_where_the_model_keeps_up_the_news_is_that_of_the_chain(steps: list[tuple[str, int, float, bool]]) -> None:
    """Packet by packet, each time until all is told; None is shed."""
    options, seen = ActionOptions(smooth=1.0, start=0.6, stop=0.4), list[Event]()
    given = [
        with_clips(seq, window(share, track, seq), camera=camera, gone=(track % 3 + 1,) if gone else ())
        for seq, (camera, track, share, gone) in enumerate(steps)
    ]
    chain = Recognise(Reads(), CLIPS, ACTIONS, options).process(given)
    with closing(Aside(Recognise(Reads(), CLIPS, ACTIONS, options), observer=seen.append)) as stage:
        w, out = World(stage, Gated(), seen), list[Packet]()
        for packet in given:
            out += stage.process([packet])
            if not items(out[-1:]):
                out += w.until(packet.frame.seq, 1, packet.frame.camera)
    assert seen == []
    for camera in ("gate", "yard"):
        mine, theirs = ([one for one in packets if one.frame.camera == camera] for packets in (out, chain))
        assert ends(mine) == ends(theirs)
        assert [one.scores.probs.tolist() for one in items(mine)] == [
            one.scores.probs.tolist() for one in items(theirs)
        ]
        assert told(mine) == told(theirs)


# --- in a live pipeline ---


@dataclass
class Fed:
    """A live camera that shows what the test gives it."""

    camera: str = "gate"
    live: bool = True
    frames: SimpleQueue[RawFrame | None] = field(default_factory=SimpleQueue)

    @contextmanager
    def open(self) -> Iterator[Iterator[RawFrame]]:
        yield iter(self.frames.get, None)


@dataclass
class One:
    """A detector and tracker of one thing that is always there."""

    writes: Any = DETECTIONS
    reads: tuple[Any, ...] = ()

    def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        return [packet.put(self.writes, tracked([(0, 0, 4, 4)], [7])) for packet in packets]

    def forget(self, camera: str) -> None: ...
    def close(self) -> None: ...


@dataclass
class Told:
    """A sink that a test can wait for."""

    name: str = "told"
    packets: list[Packet] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def publish(self, packets: Sequence[Packet]) -> None:
        with self.changed:
            self.packets += packets
            self.changed.notify_all()

    def close(self) -> None: ...

    def wait(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.packets) >= count, PATIENCE), (
                f"{len(self.packets)} of {count}"
            )


@contextmanager
def running(pipeline: Pipeline, camera: Fed) -> Iterator[None]:
    runner = threading.Thread(target=pipeline.run)
    runner.start()
    try:
        yield
    finally:
        camera.frames.put(None)
        pipeline.stop()
        runner.join(PATIENCE)
        assert not runner.is_alive()


def test_in_a_live_pipeline_frames_pass_a_recogniser_that_is_stuck() -> None:
    camera, sink, offered = Fed(), Told(), 0
    options = ClipOptions(length=4, stride=2, fps=10, size=(4, 4), margin=0, smooth=0)
    clips: Stage = Clips(ClipPorts(around=DETECTIONS), CLIPS, options)
    with world() as w:
        pipeline = Pipeline([camera], [One(), clips, w.stage], [sink], observer=w.seen.append)
        with running(pipeline, camera):
            for index in range(30):
                camera.frames.put(raw(index))
                sink.wait(index + 1)  # though the model has not given back a single window
            assert all(packet.get(DETECTIONS) is not None for packet in sink.packets)
            assert items(sink.packets) == []
            w.model.wait()
            index = 30
            while len(items(sink.packets)) < 3:
                w.let_through()
                camera.frames.put(raw(index))
                sink.wait(index := index + 1)
                assert index < 5000, "nothing was told"
        w.let_through(1000)
        offered = sum(len(value.items) for packet in sink.packets if (value := packet.get(CLIPS)) is not None)
    told_of = items(sink.packets)
    late = {item.last_seq: packet.frame.seq for packet in sink.packets for item in items([packet])}
    assert min(late) == 3
    assert late[3] >= 30
    assert [item.last_seq for item in told_of] == sorted(item.last_seq for item in told_of)
    assert len(told_of) + w.shed() == offered
    assert [packet.frame.seq for packet in sink.packets] == list(range(len(sink.packets)))

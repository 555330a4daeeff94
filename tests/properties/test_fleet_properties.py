"""Cameras that come, go, pause and break at any moment: frames are counted once, nothing is remembered wrongly."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from worlds import Brightness, ManualClock, raw

from streamer import events
from streamer.batcher import Batcher
from streamer.errors import InputError
from streamer.flight import Flight
from streamer.grabber import Timeline
from streamer.intake import POLICIES, Admission, Intake
from streamer.pipeline import Limits, Pipeline
from streamer.sinks.memory import MemorySink
from streamer.types import Drop, Frame, Packet, RawFrame

NAMES = st.sampled_from(["a", "b", "c"])
PRIORITIES = st.sampled_from([0.01, 0.5, 1.0, 2.0, 100.0])
CAPACITY = 3


class Yard(RuleBasedStateMachine):
    """A batcher whose cameras change while it works, and a stage that remembers each stream it has seen."""

    @initialize(size=st.integers(1, 4))
    def build(self, size: int) -> None:
        self.changed, self.clock = threading.Condition(), ManualClock()
        self.flight = Flight(1, self.changed, self.clock)
        self.batcher = Batcher(self.changed, size, self.observe, self.clock, self.flight)
        self.batches = iter(self.batcher)
        self.boxes: dict[str, Intake] = {}
        self.timelines: dict[str, Timeline] = {}
        self.epochs: dict[tuple[str, int], int] = {}  # by camera and seq
        self.put_in, self.dropped = Counter[str](), Counter[str]()
        self.published: dict[str, list[int]] = defaultdict(list)
        self.memory: dict[str, int] = {}  # what a stage that remembers knows: which epoch its state is of
        self.meanwhile: str | None = None  # a camera that is removed when frames were taken and are not yet cut

    def observe(self, event: events.Event) -> None:
        if isinstance(event, events.BatchTaken) and self.meanwhile is not None:
            camera, self.meanwhile = self.meanwhile, None
            self.take_out(camera)

    @rule(camera=NAMES, drop=st.sampled_from(["newest", "every", "block"]), priority=PRIORITIES)
    def add(self, camera: str, drop: Drop, priority: float) -> None:
        """Add a camera, or aim it anew."""
        if camera in self.boxes:
            self.boxes[camera].discard("removed")
        self.boxes[camera] = POLICIES[drop](
            CAPACITY, Admission(priority=priority), self.changed, lambda _, count: self.dropped.update({camera: count})
        )
        self.timelines.setdefault(camera, Timeline(self.clock)).interrupt()
        self.batcher.add(camera, self.boxes[camera])

    @rule(camera=NAMES)
    def take_out(self, camera: str) -> None:
        if camera in self.boxes:
            self.boxes.pop(camera).discard("removed")
            self.batcher.remove(camera)

    @rule(camera=NAMES, breaks=st.booleans())
    def put(self, camera: str, breaks: bool) -> None:
        box = self.boxes.get(camera)
        if box is None or (not box.drops and len(box) == CAPACITY):  # else it would wait
            return
        self.clock.advance(0.01)
        grabbed = self.timelines[camera].place(camera, raw(self.put_in[camera], breaks=breaks))
        self.epochs[camera, grabbed.seq] = grabbed.epoch
        self.put_in[camera] += 1
        box.put(grabbed)

    @precondition(lambda self: any(len(box) for box in self.boxes.values()))
    @rule(meanwhile=st.none() | NAMES)
    def work(self, meanwhile: str | None) -> None:
        """Take one batch and publish it at once."""
        self.meanwhile = meanwhile
        self.take_one()
        self.meanwhile = None

    def take_one(self) -> None:
        batch = next(self.batches)
        for camera in batch.breaks:
            self.memory.pop(camera, None)
        for packet in batch.packets:
            camera, seq = packet.frame.camera, packet.frame.seq
            self.published[camera].append(seq)
            assert self.memory.setdefault(camera, self.epochs[camera, seq]) == self.epochs[camera, seq]

    def teardown(self) -> None:
        if not hasattr(self, "boxes"):
            return
        for box in self.boxes.values():
            box.close()
        self.batcher.close()
        with suppress(StopIteration):
            while True:
                self.take_one()
        for camera, count in self.put_in.items():
            seqs = self.published[camera]
            assert seqs == sorted(set(seqs))
            assert len(seqs) + self.dropped[camera] == count
        assert set(self.memory) <= set(self.boxes), "a camera that is gone was not forgotten"
        assert len(self.flight) == 0


TestYard = Yard.TestCase
TestYard.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


@given(
    priorities=st.lists(PRIORITIES, min_size=2, max_size=12),
    size=st.integers(1, 8),
    late=st.integers(0, 40),
)
@settings(deadline=None)
def test_cameras_that_always_have_frames_share_by_priority(priorities: list[float], size: int, late: int) -> None:
    """None gets ahead of another by more than a frame of each, from when both are there: Goyal et al., theorem 1."""
    changed = threading.Condition()
    batcher = Batcher(changed, size, events.ignore)
    boxes = [POLICIES["block"](size, Admission(priority=p), changed, lambda *_: None) for p in priorities]
    served = np.zeros(len(boxes))
    timeline = Timeline(ManualClock())

    def take(there: int) -> None:
        for index, box in enumerate(boxes[:there]):
            while len(box) < size:
                box.put(timeline.place(str(index), raw(0)))
        for grabbed in batcher.take():
            served[int(grabbed.camera)] += 1

    for index, box in enumerate(boxes[:-1]):
        batcher.add(str(index), box)
    for _ in range(late):
        take(len(boxes) - 1)
    batcher.add(str(len(boxes) - 1), boxes[-1])  # one comes late
    served[:] = 0
    weights = np.array(priorities)
    for _ in range(60):
        take(len(boxes))
        shares, slack = served / weights, 1 / weights
        assert np.all(np.abs(shares[:, None] - shares) <= slack[:, None] + slack + 1e-6)


@dataclass
class Quick:
    """A camera that sends a frame each millisecond."""

    camera: str
    live: bool = True

    @contextmanager
    def open(self) -> Iterator[Iterator[RawFrame]]:
        yield self._frames()

    def _frames(self) -> Iterator[RawFrame]:
        pace = threading.Event()
        for index in range(300):
            pace.wait(0.001)
            yield raw(index)


class Books:
    """An observer that counts."""

    def __init__(self) -> None:
        self.grabbed, self.dropped = Counter[str](), Counter[str]()
        self.stamps: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
        self.states: dict[str, str] = {}
        self._lock = threading.Lock()

    def __call__(self, event: events.Event) -> None:
        with self._lock:
            match event:
                case events.FrameGrabbed(camera):
                    self.grabbed[camera] += 1
                case events.FrameDropped(camera, _, count):
                    self.dropped[camera] += count
                case events.PacketPublished(Packet(Frame(camera, seq, pts, captured_at))):
                    self.stamps[camera].append((seq, pts, captured_at))
                case events.CameraState(camera, state):
                    self.states[camera] = state
                case events.CameraRemoved(camera):
                    self.states.pop(camera, None)


OPERATIONS: dict[str, Callable[[Pipeline, str], None]] = {
    "add": lambda pipeline, camera: pipeline.add(Quick(camera)),
    "add a camera that waits": lambda pipeline, camera: pipeline.add(Quick(camera), Admission(drop="block")),
    "add a recording": lambda pipeline, camera: pipeline.add(Quick(camera, live=False)),
    "remove": Pipeline.remove,
    "pause": Pipeline.pause,
    "resume": Pipeline.resume,
}
CHANGES = st.lists(st.tuples(st.sampled_from(sorted(OPERATIONS)), NAMES), max_size=12)


def change(pipeline: Pipeline, changes: Sequence[tuple[str, str]]) -> None:
    for operation, camera in changes:
        with suppress(InputError):  # there is no such camera, or the end has come
            OPERATIONS[operation](pipeline, camera)


@pytest.mark.parametrize("live", [True, False])
@given(ours=CHANGES, theirs=CHANGES, stages=st.integers(0, 2), drain=st.sampled_from([0.0, 1.0]))
@settings(max_examples=12, deadline=None)
def test_every_frame_of_a_running_pipeline_is_counted_once(
    live: bool, ours: list[tuple[str, str]], theirs: list[tuple[str, str]], stages: int, drain: float
) -> None:
    books = Books()
    sources = [Quick("a", live=live), Quick("b", live=live)]
    nodes = [Brightness() for _ in range(stages)]
    pipeline = Pipeline(sources, nodes, [MemorySink()], Limits(batch=2, drain=drain), books)
    run = threading.Thread(target=pipeline.run)
    other = threading.Thread(target=change, args=(pipeline, theirs))
    run.start()
    other.start()
    change(pipeline, ours)
    other.join(10)
    assert set(books.states) <= set(pipeline.cameras), "one that was removed is told of"
    pipeline.stop()
    pipeline.stop()
    run.join(10)
    assert not run.is_alive()
    change(pipeline, ours)
    for thread in threading.enumerate():
        if thread.name.startswith(("grab ", "stage ", "batch", "publish")):
            thread.join(10)
            assert not thread.is_alive()
    for camera, count in books.grabbed.items():
        stamps = books.stamps[camera]
        assert stamps == sorted(stamps)
        assert len({seq for seq, *_ in stamps}) == len(stamps)
        assert len(stamps) + books.dropped[camera] == count

"""A whole pipeline that runs while a test breaks its cameras, and a record of everything that comes out of it.

with vigil.over(lambda witness: [open_source("gate", url, SourceOptions(), witness)]) as watch:
    watch.wait_for_result("gate")
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from worlds import Brightness

from streamer.backoff import Backoff
from streamer.events import CameraState, Event, FrameDropped, FrameGrabbed, FrameLost, PacketPublished
from streamer.pipeline import Limits, Pipeline
from streamer.sources.base import Source
from streamer.types import Packet

_PATIENCE = 20.0  # seconds that anything here may take before a test gives up
ROOM = Limits(live_frames=64)  # a busy machine must not make us drop: here a drop is to mean a fault


@dataclass(frozen=True)
class Result:
    """One published frame; pixels are let go."""

    camera: str
    seq: int
    pts: float
    captured_at: float
    size: tuple[int, int]  # width, height
    at: float  # monotonic seconds of its arrival


@dataclass
class Witness:
    """Sink and observer in one: remembers, and wakes who waits."""

    name: str = "witness"
    results: list[Result] = field(default_factory=list)
    states: list[tuple[float, CameraState]] = field(default_factory=list)
    grabbed: Counter[str] = field(default_factory=Counter)
    published: Counter[str] = field(default_factory=Counter)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)  # by camera and reason
    lost: Counter[str] = field(default_factory=Counter)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def publish(self, packets: Sequence[Packet]) -> None:
        now = time.monotonic()
        with self.changed:
            for frame in (packet.frame for packet in packets):
                size = frame.image.shape[1], frame.image.shape[0]
                self.results.append(Result(frame.camera, frame.seq, frame.pts, frame.captured_at, size, now))
            self.changed.notify_all()

    def close(self) -> None:
        """Nothing to release."""

    def __call__(self, event: Event) -> None:
        with self.changed:
            match event:
                case CameraState():
                    self.states.append((time.monotonic(), event))
                case FrameGrabbed(camera):
                    self.grabbed[camera] += 1
                case PacketPublished(packet):
                    self.published[packet.frame.camera] += 1
                case FrameDropped(camera, reason, count):
                    self.dropped[camera, reason] += count
                case FrameLost(camera, _, count):
                    self.lost[camera] += count
            self.changed.notify_all()


@dataclass
class Vigil:
    """What a test may ask while the pipeline runs, and check when it has ended."""

    witness: Witness

    def of(self, camera: str) -> list[Result]:
        with self.witness.changed:
            return [result for result in self.witness.results if result.camera == camera]

    def wait_for_result(
        self, camera: str, since: float = 0.0, count: int = 1, like: Callable[[Result], bool] = lambda _: True
    ) -> float:
        """Wait for *count* results that arrive after *since*, a monotonic second; return when the first one did."""

        def fresh() -> list[Result]:
            return [r for r in self.witness.results if r.camera == camera and r.at > since and like(r)]

        with self.witness.changed:
            came = self.witness.changed.wait_for(lambda: len(fresh()) >= count, _PATIENCE)
            assert came, f"{camera}: {len(fresh())} of {count} results came; {self.witness.states[-4:]}"
            return fresh()[0].at

    def errors(self, camera: str, since: float = 0.0) -> list[str]:
        """Return what was said about a camera whenever it was lost after *since*."""
        with self.witness.changed:
            lost = [state for at, state in self.witness.states if at > since and state.state == "retrying"]
        return [state.error or "" for state in lost if state.camera == camera]

    def wait_for_trouble(self, camera: str, since: float, times: int = 1) -> str:
        """Wait until the camera was lost *times* after *since*; return what was said about it last."""

        with self.witness.changed:
            came = self.witness.changed.wait_for(lambda: len(self.errors(camera, since)) >= times, _PATIENCE)
            assert came, self.witness.states[-4:]
        return self.errors(camera, since)[-1]

    def check_books(self) -> None:
        """Every frame that was grabbed is published or dropped, and no camera's time runs backwards."""
        seen = self.witness
        for camera, grabbed in seen.grabbed.items():
            dropped = sum(count for (name, _), count in seen.dropped.items() if name == camera)
            assert seen.published[camera] + dropped == grabbed
            for before, after in itertools.pairwise(self.of(camera)):
                assert before.seq < after.seq
                assert before.pts < after.pts
                assert before.captured_at <= after.captured_at

    def check_undisturbed(self, camera: str, longest: float) -> None:
        """Check that a camera lost no frame, was never away and never without results for *longest* seconds."""
        results = self.of(camera)
        assert [result.seq for result in results] == list(range(len(results)))
        assert [reason for name, reason in self.witness.dropped if name == camera and reason != "stopped"] == []
        states = [state.state for _, state in self.witness.states if state.camera == camera]
        assert states in (["connecting", "running"], ["connecting", "running", "ended"])
        assert max(after.at - before.at for before, after in itertools.pairwise(results)) < longest


@contextmanager
def over(
    make: Callable[[Witness], Sequence[Source]],
    backoff: Backoff = Backoff(0.5, 3.0),  # noqa: B008 - frozen
) -> Iterator[Vigil]:
    """Run a pipeline over what *make* gives; at the end stop it, wait for it and check its books."""
    witness, errors = Witness(), list[BaseException]()
    sources = make(witness)
    policies = {source.camera: backoff for source in sources}
    pipeline = Pipeline(sources, [Brightness()], [witness], ROOM, witness, policies)

    def run() -> None:
        try:
            pipeline.run()
        except BaseException as error:  # noqa: BLE001 - a thread's border: raised again below
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    vigil = Vigil(witness)
    try:
        yield vigil
    finally:
        pipeline.stop()
        thread.join(_PATIENCE)
    assert not thread.is_alive(), "the pipeline does not end"
    assert not errors, errors
    vigil.check_books()

"""Whole pipelines that must have ended by a deadline, and what was to be seen of them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from streamer import events
from streamer.pipeline import Pipeline

DEADLINE = 10.0  # seconds: far more than any of these takes, and far less than for ever


@contextmanager
def running(pipeline: Pipeline) -> Iterator[list[BaseException]]:
    """Run in a thread of its own, which must end by the deadline with all that it has started; yield what it raises."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            pipeline.run()
        except BaseException as error:  # noqa: BLE001 - given to the test, which looks at it
            raised.append(error)

    before = set(threading.enumerate())
    thread = threading.Thread(target=work, name="run")
    thread.start()
    try:
        yield raised
    finally:
        thread.join(DEADLINE)
        hangs, busy = thread.is_alive(), dict(pipeline.busy())
        pipeline.stop()
        assert not hangs, f"it hangs, busy with {busy}"
    assert {each.name for each in threading.enumerate() if each not in before} == set()


def run(pipeline: Pipeline) -> BaseException | None:
    """Run to the end, by the deadline; return what was raised."""
    with running(pipeline) as raised:
        pass
    return raised[0] if raised else None


@dataclass
class Seen:
    """An observer that keeps what happened."""

    all: list[events.Event] = field(default_factory=list)

    def __call__(self, event: events.Event) -> None:
        self.all.append(event)

    def count(self, kind: type[events.Event]) -> int:
        return sum(isinstance(event, kind) for event in self.all)

    @property
    def drops(self) -> Counter[str]:
        drops: Counter[str] = Counter()
        for event in self.all:
            if isinstance(event, events.FrameDropped):
                drops[event.reason] += event.count
        return drops

    @property
    def done(self) -> int:
        return self.count(events.PacketPublished) + sum(self.drops.values())

    def accounts_for_every_frame(self) -> bool:
        return self.count(events.FrameGrabbed) == self.done > 0

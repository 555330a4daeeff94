from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamer.events import Event, FrameDropped, FrameGrabbed, PacketPublished
from streamer.ledger import Ledger
from streamer.types import Frame, Packet

CAMERAS = st.sampled_from(["a", "b", "c"])
IMAGE = np.zeros((1, 1, 3), np.uint8)


@given(fates=st.lists(st.tuples(CAMERAS, st.sampled_from(["published", "dropped", "inside"])), max_size=40))
def test_what_nobody_has_spoken_of_at_the_end_is_dropped(fates: list[tuple[str, str]]) -> None:
    told: list[Event] = []
    ledger = Ledger(told.append)
    for camera, fate in fates:
        ledger(FrameGrabbed(camera))
        if fate == "published":
            ledger(PacketPublished(Packet(Frame(camera, 0, 0.0, 0.0, 0, IMAGE))))
        if fate == "dropped":
            ledger(FrameDropped(camera, "late"))
    before = len(told)
    ledger.settle()
    inside = Counter(camera for camera, fate in fates if fate == "inside")
    assert {e.camera: e.count for e in told[before:] if isinstance(e, FrameDropped)} == inside


def test_whoever_comes_after_the_end_is_not_heard() -> None:
    told: list[Event] = []
    ledger = Ledger(told.append)
    ledger(FrameGrabbed("a"))
    ledger.settle()
    ledger.settle()
    ledger(FrameDropped("a", "late"))
    ledger(FrameGrabbed("a"))
    assert told == [FrameGrabbed("a"), FrameDropped("a", "stopped")]

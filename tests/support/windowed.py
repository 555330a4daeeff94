"""Packets with windows, a model that sees through them, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from moving import packet

from engines.types import Clip, Scores
from streamer.stages.progress import ActionOptions
from streamer.types import ActionEnded, Actions, ActionStarted, Packet, Port, Window, Windows

CLIPS, ACTIONS = Port("clips", Windows), Port("actions", Actions)
IMAGE = np.zeros((4, 4, 3), np.uint8)
RAW = ActionOptions(smooth=0, start=0.6, stop=0.4)


@dataclass
class Reads:
    """A model that sees how likely the first of two classes is: by the level of the clip."""

    batches: list[int] = field(default_factory=list)

    def __call__(self, clips: Sequence[Clip]) -> list[Scores]:
        self.batches.append(len(clips))
        shares = [float(clip.rgb[0, 0, 0, 0]) / 100 for clip in clips]
        return [Scores(np.array([share, 1 - share], np.float32)) for share in shares]

    def begin(self, clips: Sequence[Clip]) -> Callable[[], list[Scores]]:
        done = self(clips)
        return lambda: done

    def close(self) -> None:
        self.batches.append(-1)


def window(share: float, track: int | None = None, seq: int = 0) -> Window:
    level = round(share * 100)
    return Window(track, max(0, seq - 3), seq, Clip(np.full((4, 2, 2, 3), level, np.uint8)))


def with_clips(seq: int, *items: Window, camera: str = "gate", gone: tuple[int | None, ...] = ()) -> Packet:
    return packet(IMAGE, seq, camera, clips=Windows(items, gone))


def plain(seq: int, camera: str = "gate") -> Packet:
    return packet(IMAGE, seq, camera)


def told(packets: Sequence[Packet]) -> list[ActionStarted | ActionEnded]:
    values = [one.get(ACTIONS) for one in packets]
    return [event for value in values if value is not None for event in value.events]


def short(packets: Sequence[Packet]) -> list[tuple[int, str, int | None, int]]:
    """Events as (seq of the packet, verb, track, class)."""
    return [
        (one.frame.seq, type(event).__name__.removeprefix("Action"), event.track_id, event.class_id)
        for one in packets
        for event in told([one])
    ]

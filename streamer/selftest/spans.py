"""What the object of a clip truly does: clips are cut around true objects, and have their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from streamer.selftest.films import SEEN, Moment
from streamer.selftest.reading import Reel
from streamer.wire import Action


@dataclass(frozen=True, slots=True)
class Span:
    """A clip that shows one object doing one thing, and what was said of it."""

    told: Action
    action: int  # of ACTIONS


def spans(reel: Reel, node: str) -> Iterator[Span]:
    """Find the clips of a recogniser that can be judged."""
    by_seq = {message.seq: index for index, message in reel.messages.items()}
    for _, result in reel.actions(node):
        for told in result.items:
            frames = [by_seq[seq] for seq in range(told.first_seq, told.last_seq + 1) if seq in by_seq]
            actions = {_doing(reel.footage.moments[index], told.track_id) for index in frames}
            done = actions.pop() if len(actions) == 1 else None
            if done is not None:
                yield Span(told, done)


def _doing(moment: Moment, number: int | None) -> int | None:
    """Return what an object does; None where it cannot be seen well enough."""
    ids = moment.objects.track_id
    rows = [] if ids is None else np.flatnonzero(ids == number).tolist()
    return int(moment.action[rows[0]]) if rows and moment.visible[rows[0]] >= SEEN else None

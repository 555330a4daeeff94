"""Packets in which something happens, and what writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from redisworld import AT, QUICK

from engines.track.lines import LineCount, LineCrossed
from engines.track.zones import ZoneEntered, ZoneLeft, ZoneState
from engines.types import Flow, Scores
from streamer.sinks.redis import RedisOptions, RedisSink
from streamer.types import Action, ActionEnded, Actions, ActionStarted, Crossings, Frame, Occupancy, Packet
from streamer.wire import Encoder, NodeFacts

FACTS = {
    "lines": NodeFacts(("person", "car")),
    "zones": NodeFacts(("person", "car")),
    "actions": NodeFacts(("walking", "waving"), top=1),
    "flow": NodeFacts(field=True),
    "summary": NodeFacts(),
}
ENCODER = Encoder(FACTS)

CROSSED = Crossings((LineCount("door", 2, 1),), (LineCrossed("door", 7, 1, 0.4, "left_to_right"),))
ZONES = Occupancy(
    (ZoneState("yard", np.array([3, 7], np.int32), np.array([1.5, 0.0]), 5, 3),),
    (ZoneLeft("yard", 2, 0, 0.36, 12.3456), ZoneEntered("yard", 7, 1, 0.4)),
)
ACTIONS = Actions(
    (Action(7, 3, 10, Scores(np.array([0.2, 0.8], np.float32))),),
    (ActionEnded(None, 0, 0.3, 2.25), ActionStarted(7, 1, 0.4, 0.8)),
)
FLOW = Flow(np.random.default_rng(0).normal(0, 4, (9, 16, 2)).astype(np.float32), 0.04)


def packet(seq: int, camera: str = "gate", **values: object) -> Packet:
    frame = Frame(camera, seq, seq * 0.04, AT + seq * 0.04, 0, np.zeros((90, 160, 3), np.uint8))
    return Packet(frame, values)


def eventful(seq: int, camera: str = "gate") -> Packet:
    """A packet with five events."""
    return packet(seq, camera, lines=CROSSED, zones=ZONES, actions=ACTIONS)


def writer(url: str, **options: Any) -> RedisSink:
    return RedisSink(url, ENCODER, RedisOptions.lossless(**{**QUICK, **options}), beside=ENCODER.beside)


def publish(url: str, *packets: Packet, **options: Any) -> None:
    """Write packets and wait until they are there."""
    sink = writer(url, **options)
    sink.publish(packets)
    sink.close()

"""From what a caller asks for to the dialogue that gets it: the part that both drivers share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamer.client.follow import Follower
from streamer.client.group import Member, consumer_name
from streamer.client.protocol import ClientError, Dialogue, Tuning
from streamer.client.topics import E, Topic

URL = "redis://localhost:6379/0"


@dataclass(frozen=True, slots=True)
class Whose:
    """Which cameras are read, and for whom."""

    camera: str | Sequence[str] | None
    group: str | None
    consumer: str | None


def subscription(topic: Topic[E], whose: Whose, tuning: Tuning) -> Dialogue[E, None]:
    """Begin a subscription with or without a group."""
    cameras = [whose.camera] if isinstance(whose.camera, str) else whose.camera
    if whose.group is not None:
        return Member(whose.group, whose.consumer or consumer_name(), cameras, topic, tuning).run()
    if whose.consumer is not None:
        raise ClientError(f"consumer {whose.consumer!r} belongs to no group; name one with group=")
    return Follower(cameras, topic, tuning).run()

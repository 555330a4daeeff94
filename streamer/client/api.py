"""From what a caller asks for to the dialogue that gets it: the part that both drivers share."""

from __future__ import annotations

from collections.abc import Sequence

from streamer.client.follow import Follower
from streamer.client.group import Member, consumer_name
from streamer.client.protocol import ClientError, Dialogue, Tuning
from streamer.wire.ids import Keys
from streamer.wire.messages import Message

URL = "redis://localhost:6379/0"


def subscription(
    camera: str | Sequence[str] | None, group: str | None, consumer: str | None, prefix: str, tuning: Tuning
) -> Dialogue[Message, None]:
    """Begin a subscription with or without a group."""
    cameras = [camera] if isinstance(camera, str) else camera
    if group is not None:
        return Member(group, consumer or consumer_name(), cameras, Keys(prefix), tuning).run()
    if consumer is not None:
        raise ClientError(f"consumer {consumer!r} belongs to no group; name one with group=")
    return Follower(cameras, Keys(prefix), tuning).run()

"""What happens in the scene, as its consumers see it: inside the results of a node, and in a stream of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, FiniteFloat, Tag, ValidationError

from streamer.notes import EVENTS
from streamer.wire.base import OTHER, Entry, Share, Wire, WireError, explain, kind_of, other_than

_TRACKED = "absent when it is that of the whole scene"


class Happened(Wire):
    """What every kind of event tells."""

    pts: Annotated[FiniteFloat, Field(description="seconds of media time: when it happened, at or before the frame's")]
    label: Annotated[str, Field(description="class of the object, or name of the action")]
    class_id: int


class LineCrossed(Happened):
    """An object crossed a line; left and right are those of somebody who stands at its first point."""

    kind: Literal["line_crossed"]
    line: str
    direction: Literal["left_to_right", "right_to_left"]
    track_id: int


class ZoneEntered(Happened):
    """An object came into a zone, or was first seen in it."""

    kind: Literal["zone_entered"]
    zone: str
    track_id: int


class ZoneLeft(Happened):
    """An object went out of a zone, or was last seen in it and is gone."""

    kind: Literal["zone_left"]
    zone: str
    track_id: int
    dwell: Annotated[FiniteFloat, Field(description="seconds since it came")]


class ActionStarted(Happened):
    """An action became likely enough."""

    kind: Literal["action_started"]
    track_id: Annotated[int | None, Field(description=_TRACKED)] = None
    score: Share


class ActionEnded(Happened):
    """An action is no longer likely, or whoever did it is gone."""

    kind: Literal["action_ended"]
    track_id: Annotated[int | None, Field(description=_TRACKED)] = None
    duration: Annotated[FiniteFloat, Field(description="seconds since it started")]


class OtherEvent(BaseModel):
    """An event of somebody's own node, or one that this version does not know; `data` holds its fields."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: Annotated[str, other_than(EVENTS)]

    @property
    def data(self) -> Mapping[str, Any]:
        return self.model_extra or {}


def _tag(value: Any) -> str:
    kind = kind_of(value)
    return kind if kind in EVENTS else OTHER


AnyEvent = Annotated[
    Annotated[LineCrossed, Tag("line_crossed")]
    | Annotated[ZoneEntered, Tag("zone_entered")]
    | Annotated[ZoneLeft, Tag("zone_left")]
    | Annotated[ActionStarted, Tag("action_started")]
    | Annotated[ActionEnded, Tag("action_ended")]
    | Annotated[OtherEvent, Tag(OTHER)],
    Discriminator(_tag),
]
Events = Annotated[tuple[AnyEvent, ...], Field(description="what has just happened, in order")]


class Event(Entry):
    """One event of one camera, and the frame that told of it."""

    node: Annotated[str, Field(description="the graph node that tells")]
    event: AnyEvent


def decode_event(data: bytes | str) -> Event:
    """Read one event. Raise WireError when *data* is none, or of another schema version."""
    try:
        return Event.model_validate_json(data)
    except ValidationError as error:
        raise WireError(explain(error, "event")) from error

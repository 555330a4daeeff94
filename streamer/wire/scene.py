"""What goes on in the scene, as parts of a message: actions, lines, zones, and what has just happened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from engines.track.lines import LineCrossed
from engines.track.zones import ZoneEntered, ZoneLeft, ZoneState
from streamer.types import ActionEnded, Actions, ActionStarted, Crossings, Happening, Note, Occupancy
from streamer.wire.facts import NodeFacts
from streamer.wire.values import name_of, rounded

Part = dict[str, Any]


def actions(value: Actions, facts: NodeFacts) -> Part:
    items = []
    for action in value.items:
        best = np.argsort(-action.scores.probs, kind="stable")[: facts.top]
        scores = rounded(action.scores.probs[best], 4, "a score")
        top = [{"label": name_of(facts, i), "score": s} for i, s in zip(best.tolist(), scores, strict=True)]
        span = {"first_seq": action.first_seq, "last_seq": action.last_seq}
        items.append({**_track(action.track_id), **span, "labels": top})
    return {"kind": "actions", "items": items, **_events(value.events, facts)}


def lines(value: Crossings, facts: NodeFacts) -> Part:
    items = [
        {"name": line.line, "left_to_right": line.left_to_right, "right_to_left": line.right_to_left}
        for line in value.lines
    ]
    return {"kind": "lines", "items": items, **_events(value.events, facts)}


def zones(value: Occupancy, facts: NodeFacts) -> Part:
    items = [
        {"name": zone.zone, "occupants": _occupants(zone), "entries": zone.entries, "exits": zone.exits}
        for zone in value.zones
    ]
    return {"kind": "zones", "items": items, **_events(value.events, facts)}


def _occupants(zone: ZoneState) -> list[Part]:
    dwells = rounded(zone.dwell, 3, "a dwell time")
    return [{"track_id": track, "dwell": dwell} for track, dwell in zip(zone.track_id.tolist(), dwells, strict=True)]


def noted(value: Note, pts: float) -> Part:
    return {"kind": value.kind, **value.data, **({"events": told(value, pts)} if value.events else {})}


def told(value: Note, pts: float) -> list[Part]:
    """Write a note's events; one that does not say when it happened is of the frame's *pts*."""
    return [{"kind": event["kind"], "pts": _number(pts, "pts"), **event} for event in value.events]


def happened(event: Happening, facts: NodeFacts) -> Part:
    """Write one event. *facts* are those of the node that tells of it."""
    kind, special = _SPECIAL[type(event)]
    common = {"kind": kind, "pts": _number(event.pts, "an event's pts"), **_track(event.track_id)}
    return {**common, "label": name_of(facts, event.class_id), "class_id": event.class_id, **special(event)}


def _events(events: Sequence[Happening], facts: NodeFacts) -> Part:
    return {"events": [happened(event, facts) for event in events]} if events else {}


def _track(track_id: int | None) -> Part:
    return {} if track_id is None else {"track_id": track_id}


def _number(value: float, name: str, decimals: int = 3) -> Any:
    return rounded(np.array(value), decimals, name)


def _line_crossed(event: LineCrossed) -> Part:
    return {"line": event.line, "direction": event.direction}


def _zone_entered(event: ZoneEntered) -> Part:
    return {"zone": event.zone}


def _zone_left(event: ZoneLeft) -> Part:
    return {"zone": event.zone, "dwell": _number(event.dwell, "a dwell time")}


def _action_started(event: ActionStarted) -> Part:
    return {"score": _number(event.score, "a score", 4)}


def _action_ended(event: ActionEnded) -> Part:
    return {"duration": _number(event.duration, "a duration")}


# A new kind of event is one function, one row, and its class among those that consumers get.
_SPECIAL: dict[type, tuple[str, Callable[[Any], Part]]] = {
    LineCrossed: ("line_crossed", _line_crossed),
    ZoneEntered: ("zone_entered", _zone_entered),
    ZoneLeft: ("zone_left", _zone_left),
    ActionStarted: ("action_started", _action_started),
    ActionEnded: ("action_ended", _action_ended),
}

"""Flow, lines, zones, actions and events as they travel."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from happenings import ACTIONS, CROSSED, ENCODER, FACTS, FLOW, ZONES, eventful, packet
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp

from engines.types import Float, Flow
from streamer.types import Actions, ActionStarted
from streamer.wire import (
    ActionsResult,
    Encoder,
    FlowResult,
    LineCrossed,
    LinesResult,
    OtherEvent,
    WireError,
    ZoneLeft,
    ZonesResult,
    decode,
    decode_event,
    decode_field,
    encode_field,
)

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "config/schema/result-1.json").read_text())
EVENT_SCHEMA = json.loads((ROOT / "config/schema/event-1.json").read_text())


def valid(data: Any, schema: Any) -> None:
    jsonschema.validate(data, schema, cls=jsonschema.Draft202012Validator)


def test_lines_zones_and_actions_are_written_as_designed() -> None:
    results = json.loads(ENCODER(eventful(10)))["results"]
    crossed = {"kind": "line_crossed", "pts": 0.4, "track_id": 7, "label": "car", "class_id": 1}
    assert results["lines"] == {
        "kind": "lines",
        "items": [{"name": "door", "left_to_right": 2, "right_to_left": 1}],
        "events": [{**crossed, "line": "door", "direction": "left_to_right"}],
    }
    assert results["zones"]["items"] == [
        {
            "name": "yard",
            "occupants": [{"track_id": 3, "dwell": 1.5}, {"track_id": 7, "dwell": 0.0}],
            "entries": 5,
            "exits": 3,
        }
    ]
    assert results["zones"]["events"][0] == {
        "kind": "zone_left",
        "pts": 0.36,
        "track_id": 2,
        "label": "person",
        "class_id": 0,
        "zone": "yard",
        "dwell": 12.346,
    }
    assert results["actions"] == {
        "kind": "actions",
        "items": [{"track_id": 7, "first_seq": 3, "last_seq": 10, "labels": [{"label": "waving", "score": 0.8}]}],
        "events": [
            {"kind": "action_ended", "pts": 0.3, "label": "walking", "class_id": 0, "duration": 2.25},
            {"kind": "action_started", "pts": 0.4, "track_id": 7, "label": "waving", "class_id": 1, "score": 0.8},
        ],
    }


def test_nothing_that_happens_has_no_key() -> None:
    quiet = packet(1, lines=replace(CROSSED, events=()), actions=Actions())
    assert all("events" not in result for result in json.loads(ENCODER(quiet))["results"].values())


def test_consumers_get_types() -> None:
    results = decode(ENCODER(packet(10, lines=CROSSED, zones=ZONES, actions=ACTIONS, flow=FLOW))).results
    lines, zones, actions, flow = (results[name] for name in ("lines", "zones", "actions", "flow"))
    assert isinstance(lines, LinesResult)
    assert isinstance(zones, ZonesResult)
    assert isinstance(actions, ActionsResult)
    assert isinstance(flow, FlowResult)
    assert isinstance(lines.events[0], LineCrossed)
    assert isinstance(zones.events[0], ZoneLeft)
    assert zones.items[0].occupants[0].track_id == 3
    assert flow.seconds == 0.04


def test_each_event_stands_for_itself_as_well() -> None:
    events = [decode_event(data) for data in ENCODER.beside(eventful(10)).events]
    assert [event.node for event in events] == ["lines", "zones", "zones", "actions", "actions"]
    assert {(event.camera, event.seq, event.pts, event.captured_at) for event in events} == {
        ("gate", 10, 0.4, 1_790_000_000.4)
    }
    message = decode(ENCODER(eventful(10)))
    inside = [event for result in message.results.values() for event in getattr(result, "events", ())]
    assert [event.event for event in events] == inside


def test_only_the_nodes_that_are_asked_for_tell() -> None:
    beside = Encoder(FACTS, ["lines"]).beside(packet(1, lines=CROSSED, actions=ACTIONS, flow=FLOW))
    assert [decode_event(data).node for data in beside.events] == ["lines"]
    assert not beside.fields


def test_an_event_of_a_newer_producer_is_kept_as_it_came() -> None:
    data = json.loads(ENCODER.beside(eventful(1)).events[0])
    data["event"] = {"kind": "fell", "pts": 1.0, "height": 2}
    event = decode_event(json.dumps(data)).event
    assert isinstance(event, OtherEvent)
    assert event.model_extra == {"pts": 1.0, "height": 2}


def test_an_event_that_is_none_is_one_sentence() -> None:
    for data in (b"", b"[]", ENCODER(eventful(1))):
        with pytest.raises(WireError, match="event: is not valid"):
            decode_event(data)


def test_what_is_not_finite_never_reaches_json() -> None:
    bad = Actions(events=(ActionStarted(None, 0, float("nan"), 0.5),))
    for write in (ENCODER, ENCODER.beside):
        with pytest.raises(WireError, match="node actions: an event's pts is not finite"):
            write(packet(0, actions=bad))


# --- schemas ---


def test_the_published_schema_of_events_is_up_to_date() -> None:
    command = [sys.executable, "-m", "streamer.wire", "event"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    path = ROOT / "config/schema/event-1.json"
    assert path.read_text() == printed, "run: python -m streamer.wire event > config/schema/event-1.json"


def test_what_is_written_validates() -> None:
    given = packet(3, lines=CROSSED, zones=ZONES, actions=ACTIONS, flow=FLOW, summary=replace(FLOW, seconds=None))
    valid(json.loads(ENCODER(given)), SCHEMA)
    for data in ENCODER.beside(given).events:
        valid(json.loads(data), EVENT_SCHEMA)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda e: e.update(weather="fine"),
        lambda e: e.pop("node"),
        lambda e: e["event"].pop("line"),
        lambda e: e["event"].update(kind=""),
        lambda e: e["event"].update(kind="zone_left"),
        lambda e: e["event"].update(direction="up"),
        lambda e: e["event"].update(track_id=None),
    ],
)
def test_the_schema_of_events_is_strict_with_producers(spoil: Any) -> None:
    event = json.loads(ENCODER.beside(eventful(1)).events[0])
    valid(event, EVENT_SCHEMA)
    spoil(event)
    with pytest.raises(jsonschema.ValidationError):
        valid(event, EVENT_SCHEMA)


# --- whole fields ---


def test_only_a_node_that_is_told_to_publishes_its_field() -> None:
    fields = ENCODER.beside(packet(5, flow=FLOW, summary=FLOW)).fields
    assert list(fields) == ["flow"]
    got = decode_field(fields["flow"])
    assert (got.camera, got.node, got.seq, got.pts, got.size) == ("gate", "flow", 5, 0.2, (160, 90))
    assert got.flow.seconds == 0.04
    np.testing.assert_allclose(got.flow.uv, FLOW.uv, rtol=1e-3, atol=1e-3)


def test_a_field_is_read_without_us() -> None:
    """As config/schema/README.md says it."""
    line, _, body = ENCODER.beside(packet(5, flow=FLOW)).fields["flow"].partition(b"\n")
    header = json.loads(line)
    uv = np.frombuffer(zlib.decompress(body), header["dtype"]).reshape(*header["grid"], 2)
    np.testing.assert_array_equal(uv, FLOW.uv.astype(np.float16))


shapes = st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(2))


@given(stnp.arrays(np.float32, shapes, elements=st.floats(-1e5, 1e5, width=32)))
def test_any_field_comes_back(uv: Float) -> None:
    got = decode_field(encode_field("flow", Flow(uv), packet(0).frame)).flow
    assert got.seconds is None
    np.testing.assert_allclose(got.uv, np.clip(uv, -65504, 65504), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[:-9],
        lambda data: data.replace(b'"grid":[9,16]', b'"grid":[9,15]'),
        lambda data: data.replace(b'"grid":[9,16]', b'"grid":[9,17]'),
        lambda data: data.replace(b'"schema":1', b'"schema":2'),
        lambda data: data.partition(b"\n")[0] + b"\nnonsense",
    ],
)
def test_bytes_that_are_no_field_are_one_sentence(spoil: Any) -> None:
    with pytest.raises(WireError, match=r"^flow field: [^\n]+$"):
        decode_field(spoil(encode_field("flow", FLOW, packet(0).frame)))


def test_a_field_that_is_not_finite_is_refused() -> None:
    with pytest.raises(WireError, match="node flow: a vector is not finite"):
        ENCODER.beside(packet(0, flow=Flow(np.full((2, 2, 2), np.nan, np.float32))))

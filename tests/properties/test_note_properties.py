"""Whatever JSON a note is made of is read back the same; whatever is none is refused where it is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.notes import EVENTS, RESULTS
from streamer.types import Frame, Note, Packet
from streamer.wire import Encoder, OtherEvent, OtherResult, decode, decode_event

SCHEMAS = Path(__file__).resolve().parents[2] / "config/schema"
RESULT, EVENT = (
    jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"{kind}-1.json").read_text()))
    for kind in ("result", "event")
)
FRAME = Frame("gate", 3, 1.25, 1_790_000_000.0, 0, np.zeros((4, 6, 3), np.uint8))

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
data = st.dictionaries(texts.filter(lambda key: key not in ("kind", "events")), values, max_size=5)
kinds = texts.filter(lambda text: text and text not in RESULTS | EVENTS)
events = st.lists(st.builds(lambda kind, more: {**more, "kind": kind}, kinds, data), max_size=3).filter(
    lambda given: all(not isinstance(event.get("pts", 0), str | list | dict | None) for event in given)
)


@settings(deadline=None)  # a busy machine is no fault of the format
@given(kinds, data, events)
def test_what_is_noted_is_read_back(kind: str, noted: dict[str, Any], happened: list[dict[str, Any]]) -> None:
    encode = Encoder({})
    packet = Packet(FRAME, {"mine": Note(kind, noted, happened)})
    RESULT.validate(json.loads(encode(packet)))
    result = decode(encode(packet)).results["mine"]
    assert isinstance(result, OtherResult)
    assert result.kind == kind
    full = [{"pts": 1.25, **event} for event in happened]
    assert result.data == {**noted, **({"events": full} if full else {})}
    told = encode.beside(packet).events
    assert len(told) == len(full)
    for entry, event in zip(told, full, strict=True):
        EVENT.validate(json.loads(entry))
        read = decode_event(entry)
        assert (read.node, read.camera, read.seq) == ("mine", "gate", 3)
        assert isinstance(read.event, OtherEvent)
        assert {"kind": read.event.kind, **read.event.data} == event


def test_numbers_of_numpy_become_plain() -> None:
    note = Note(
        "n", {"a": np.float32(0.5), "b": np.arange(3), "c": (np.bool_(True), np.longdouble(2)), "d": np.int8(-1)}
    )
    assert json.loads(json.dumps(dict(note.data))) == {"a": 0.5, "b": [0, 1, 2], "c": [True, 2.0], "d": -1}


def test_a_note_keeps_what_it_was_given() -> None:
    counts = {"door": 1, "who": [1]}
    note = Note("counts", counts, [counts | {"kind": "came"}])
    counts["door"] = 2
    counts["who"].append(2)  # type: ignore[attr-defined]
    assert note.data == {"door": 1, "who": [1]}
    assert note.events[0]["who"] == [1]
    with pytest.raises(TypeError):
        note.data["door"] = 3  # type: ignore[index]


@pytest.mark.parametrize(
    ("made", "error", "says"),
    [
        (lambda: Note("", {}), TypeError, "needs a kind"),
        (lambda: Note("flow", {}), ValueError, "'flow'.*choose another word"),
        (lambda: Note("n", [1]), TypeError, "note n: is list, but its fields come as a mapping"),  # type: ignore[arg-type]
        (lambda: Note("n", {"kind": 1}), ValueError, "'kind' is written beside the data"),
        (lambda: Note("n", {"events": []}), ValueError, "'events' is written beside the data"),
        (lambda: Note("n", {"a": {"b": [0, float("nan")]}}), ValueError, r"note n\.a\.b\[1\]: nan is not finite"),
        (lambda: Note("n", {"a": np.array([np.inf])}), ValueError, r"note n\.a\[0\]: inf is not finite"),
        (lambda: Note("n", {"a": b"x"}), TypeError, r"note n\.a: bytes has no form in JSON"),
        (lambda: Note("n", {"a": {1, 2}}), TypeError, r"note n\.a: set has no form in JSON"),
        (lambda: Note("n", {"a": {1: 2}}), TypeError, r"note n\.a: key 1 is int.*str\(…\)"),
        (lambda: Note("n", {"a": "\ud800"}), ValueError, r"note n\.a: .* UTF-8"),
        (lambda: Note("n", {}, [{}]), TypeError, r"events\[0\], an event, needs a kind"),
        (lambda: Note("n", {}, [{"kind": "zone_left"}]), ValueError, "zone_left"),
        (lambda: Note("n", {}, [{"kind": "x", "pts": "now"}]), TypeError, r"events\[0\]: pts is in seconds, not str"),
    ],
)
def test_what_is_no_json_is_refused_where_it_is_made(made: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        made()
    assert "\n" not in str(caught.value)

"""Whatever is encoded is read back the same, within the rounding that the format promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp

from engines.types import Detections, Flow, Scores
from streamer.types import Action, Actions, Frame, Packet
from streamer.wire import ActionsResult, DetectionsResult, Encoder, FlowResult, NodeFacts, decode

SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "config/schema/result-1.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
LABELS = tuple(f"class {i}" for i in range(80))

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


def floats(low: float, high: float, shape: Any) -> st.SearchStrategy[npt.NDArray[np.float32]]:
    return stnp.arrays(np.float32, shape, elements=st.floats(low, high, width=32))


@st.composite
def detections(draw: st.DrawFn) -> Detections:
    n = draw(st.integers(0, 12))
    ints = st.integers(0, 2**31 - 1)
    track = draw(st.none() | stnp.arrays(np.int32, n, elements=ints))
    return Detections(
        draw(floats(-8192, 8192, (n, 4))),
        draw(stnp.arrays(np.int32, n, elements=st.integers(-2, 90))),
        draw(floats(0, 1, n)),
        track,
    )


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    shape = draw(st.tuples(st.integers(1, 24), st.integers(1, 24)))
    return Flow(draw(floats(-512, 512, (*shape, 2))))


@st.composite
def actions(draw: st.DrawFn) -> Actions:
    first = draw(st.integers(0, 10**6))
    scores = Scores(draw(floats(0, 1, st.integers(1, 20))))
    track = draw(st.none() | st.integers(0, 10**6))
    return Actions((Action(track, first, first + 15, scores),) * draw(st.integers(0, 2)))


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    height, width = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    frame = Frame(
        draw(names),
        draw(st.integers(0, 2**53)),
        draw(st.floats(0, 1e7)),
        draw(st.floats(0, 4e9)),
        draw(st.integers(0, 2**62)),
        np.zeros((height, width, 3), np.uint8),
    )
    values = draw(st.dictionaries(names, detections() | flows() | actions(), max_size=3))
    return Packet(frame, values).mark("queue", frame.grabbed_ns + draw(st.integers(0, 10**10)))


@settings(deadline=None)  # a busy machine is no fault of the format
@given(packets())
def test_encode_then_decode_gives_the_same(packet: Packet) -> None:
    data = Encoder(dict.fromkeys(packet.values, NodeFacts(LABELS)))(packet)
    VALIDATOR.validate(json.loads(data))
    message, frame = decode(data), packet.frame
    assert (message.camera, message.seq) == (frame.camera, frame.seq)
    assert message.size == frame.image.shape[1::-1]
    assert message.pts == pytest.approx(frame.pts, abs=0.51e-3, rel=0)
    assert message.captured_at == pytest.approx(frame.captured_at, abs=0.51e-3, rel=0)
    assert message.latency_ms["total"] == pytest.approx(message.latency_ms["queue"])
    assert list(message.results) == list(packet.values)
    for node, value in packet.values.items():
        same(message.results[node], value)


def same(result: object, value: object) -> None:
    match result, value:
        case DetectionsResult(), Detections():
            assert [d.class_id for d in result.items] == value.class_id.tolist()
            assert np.allclose(np.array([d.box for d in result.items]).reshape(-1, 4), value.xyxy, atol=0.0051)
            assert np.allclose([d.confidence for d in result.items], value.confidence, atol=0.51e-4)
            tracks = [None] * len(value) if value.track_id is None else value.track_id.tolist()
            assert [d.track_id for d in result.items] == tracks
        case FlowResult(), Flow():
            assert np.allclose(result.mean, value.uv.mean(axis=(0, 1), dtype=np.float64), atol=0.51e-3)
            cells = np.array(result.grid.uv)
            assert len(cells) == 9 * 16
            assert (cells >= value.uv.min(axis=(0, 1)) - 1e-3).all()
            assert (cells <= value.uv.max(axis=(0, 1)) + 1e-3).all()
        case ActionsResult(), Actions():
            for read, action in zip(result.items, value.items, strict=True):
                best = np.sort(action.scores.probs)[::-1][:5]
                assert np.allclose([label.score for label in read.labels], best, atol=0.51e-4)
                assert (read.track_id, read.first_seq, read.last_seq) == (
                    action.track_id, action.first_seq, action.last_seq,
                )  # fmt: skip
        case _:
            pytest.fail(f"{type(value).__name__} came back as {type(result).__name__}")

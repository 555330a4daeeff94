"""The bytes on the wire: exactly as published, refused when they would mislead, read by older and newer consumers."""

from __future__ import annotations

import json
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pycocotools.mask
import pytest

from engines.masks import paint
from engines.regions import Region
from engines.types import Bool, Clip, Detections, Flow, Masks, Scores
from streamer.stats import CameraStats, Percentiles, SinkStats, Stats
from streamer.types import Action, Actions, Frame, Packet, Window, Windows
from streamer.wire import (
    ActionsResult,
    DetectionsResult,
    Encoder,
    EntryId,
    FlowResult,
    NodeFacts,
    OtherResult,
    WireError,
    decode,
    decode_metrics,
    encode_camera,
    encode_metrics,
    entry_id,
)

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "config/schema/result-1.json"
ACTIONS = ("walking", "waving", "sitting")
DOOR = (Region("door", ((0, 0), (0.5, 0), (0.5, 1))), Region("the yard", ((0, 0), (1, 0), (1, 1))))
FACTS = {
    "yolo": NodeFacts(("person", "bicycle")),
    "actions": NodeFacts(ACTIONS),
    "masks": NodeFacts(("person",)),
    "outlines": NodeFacts(("person",), "polygons", DOOR),
    "boxes": NodeFacts(("person",), "none"),
}

FRAME = Frame("gate", 1234, 41.13349, 1_790_000_000.12345, 5_000_000, np.zeros((1080, 1920, 3), np.uint8))
PEOPLE = Detections(
    np.array([[1.234, 2.004, 300.5, 400], [0, -0.001, 1, 1]], np.float32),
    np.array([0, 7], np.int32),
    np.array([0.91004, 1 / 3], np.float32),
)
RIGHT = Flow(np.full((90, 160, 2), [2.0, 0.0], np.float32))
SHAPES = Detections(  # inside, over the border, too thin to be seen
    np.array([[100, 100, 400, 500], [1800.5, 900, 1920, 1080], [5, 5, 5.4, 300]], np.float32),
    np.zeros(3, np.int32),
    np.array([0.9, 0.8, 0.7], np.float32),
    masks=Masks(np.random.default_rng(1).random((3, 28, 28), np.float32)),
    regions=np.array([[True, True], [False, True], [True, False]]),
)
WAVING = Actions((Action(7, 1219, 1234, Scores(np.array([0.1, 0.83, 0.07], np.float32))),))


def packet(**values: object) -> Packet:
    return Packet(FRAME, values)


def encoded(packet: Packet, **kwargs: Any) -> Any:
    return json.loads(Encoder(FACTS, **kwargs)(packet))


def test_a_message_is_written_as_designed() -> None:
    marked = packet(yolo=PEOPLE).mark("queue", 8_100_000).mark("yolo", 20_200_400)
    assert Encoder(FACTS)(marked).decode() == (
        '{"schema":1,"camera":"gate","seq":1234,"pts":41.133,"captured_at":1790000000.123,"size":[1920,1080],'
        '"results":{"yolo":{"kind":"detections","items":['
        '{"box":[1.23,2.0,300.5,400.0],"label":"person","class_id":0,"confidence":0.91},'
        '{"box":[0.0,0.0,1.0,1.0],"label":"7","class_id":7,"confidence":0.3333}]}},'
        '"latency_ms":{"queue":3.1,"yolo":12.1,"total":15.2}}'
    )


def test_tracks_have_ids_and_plain_detections_have_no_such_key() -> None:
    tracked = replace(PEOPLE, track_id=np.array([7, 8], np.int32))
    results = encoded(packet(yolo=PEOPLE, tracks=tracked))["results"]
    assert [item["track_id"] for item in results["tracks"]["items"]] == [7, 8]
    assert not any("track_id" in item or "mask" in item for item in results["yolo"]["items"])


def painted(row: int) -> Bool:
    """What a mask is, pixel by pixel."""
    canvas = np.zeros((1080, 1920), np.bool_)
    shape = SHAPES[row : row + 1]
    assert shape.masks is not None
    for top, left, pixels in paint(shape.masks, shape.xyxy, (1080, 1920)):
        canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return canvas


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools itself
def test_a_mask_is_read_by_what_reads_coco() -> None:
    found = decode(Encoder(FACTS)(packet(masks=SHAPES))).results["masks"]
    assert isinstance(found, DetectionsResult)
    for row, item in enumerate(found.items):
        assert item.mask is not None
        assert item.mask.size == (1080, 1920)
        assert (pycocotools.mask.decode(item.mask.model_dump()).astype(bool) == painted(row)).all()
        assert item.polygons is None
        assert item.regions is None  # this node has none, whatever its value says


def test_outlines_instead_of_masks_when_asked_for() -> None:
    found = decode(Encoder(FACTS)(packet(outlines=SHAPES))).results["outlines"]
    assert isinstance(found, DetectionsResult)
    for row, item in enumerate(found.items):
        assert item.mask is None
        assert item.polygons is not None
        drawn = np.zeros(FRAME.image.shape[:2], np.uint8)
        for line in item.polygons:
            cv2.fillPoly(drawn, [np.array(line).astype(np.int32)], 1)
        missing = painted(row) & (drawn == 0)  # parts no wider than a pixel, as the third object is
        assert row == 2 or missing.sum() <= 0.02 * painted(row).sum()
    assert [item.regions for item in found.items] == [("door", "the yard"), ("the yard",), ("door",)]


def test_masks_stay_home_when_nobody_wants_them() -> None:
    (item, *_) = encoded(packet(boxes=SHAPES))["results"]["boxes"]["items"]
    assert set(item) == {"box", "label", "class_id", "confidence"}


@pytest.mark.parametrize("node", ["masks", "outlines", "boxes", "yolo"])
def test_nothing_found_is_an_empty_list_whatever_the_node(node: str) -> None:
    nothing = replace(
        Detections.empty(), masks=Masks(np.zeros((0, 28, 28), np.float32)), regions=np.zeros((0, 2), bool)
    )
    for value in (Detections.empty(), nothing, SHAPES[:0]):
        assert encoded(packet(**{node: value}))["results"] == {node: {"kind": "detections", "items": []}}


def test_several_sinks_cost_one_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, given = Encoder(FACTS), packet(masks=SHAPES)
    first = encoder(given)
    monkeypatch.setattr("engines.masks.encode_masks", None)
    assert encoder(given) is first
    assert encoder(packet(yolo=PEOPLE)) != first  # another packet is another message, though of the same frame


def test_a_written_packet_is_not_kept_alive() -> None:
    given = packet(masks=SHAPES)
    encoder, gone = Encoder(FACTS), weakref.ref(given)
    encoder(given)
    del given
    assert gone() is None


def test_results_stand_in_graph_order_whatever_order_is_asked_for() -> None:
    message = encoded(packet(yolo=PEOPLE, flow=RIGHT, actions=WAVING), nodes=["actions", "yolo", "absent"])
    assert list(message["results"]) == ["yolo", "actions"]


def test_a_flow_is_summed_up() -> None:
    uv = np.zeros((90, 160, 2), np.float32)
    uv[:10, :10] = [3, -4]  # the first of 9 x 16 cells
    result = encoded(packet(flow=Flow(uv)))["results"]["flow"]
    assert result["grid"]["size"] == [9, 16]
    assert result["grid"]["uv"][0] == [3, -4]
    assert result["grid"]["uv"][1:] == [[0, 0]] * 143
    assert result["mean"] == pytest.approx([3 / 144, -4 / 144], abs=1e-3)
    assert result["magnitude"] == {"mean": pytest.approx(5 / 144, abs=1e-3), "p95": 0}


@pytest.mark.parametrize("shape", [(5, 3), (1, 1), (101, 33)])
def test_the_grid_keeps_its_size_for_any_flow(shape: tuple[int, int]) -> None:
    grid = encoded(packet(flow=Flow(np.full((*shape, 2), 1.5, np.float32))))["results"]["flow"]["grid"]
    assert grid == {"size": [9, 16], "uv": [[1.5, 1.5]] * 144}


def test_actions_name_the_likeliest_first() -> None:
    (action,) = encoded(packet(actions=WAVING))["results"]["actions"]["items"]
    assert action["labels"][0] == {"label": "waving", "score": 0.83}
    assert [label["label"] for label in action["labels"]] == ["waving", "walking", "sitting"]
    assert (action["track_id"], action["first_seq"], action["last_seq"]) == (7, 1219, 1234)


def test_a_value_without_a_form_is_refused_by_name() -> None:
    with pytest.raises(WireError, match="node odd: str has no form on the wire"):
        encoded(packet(odd="value"), nodes=["odd"])


def test_what_has_no_form_stays_home_unless_somebody_asks_for_it() -> None:
    assert encoded(packet(yolo=PEOPLE, odd="value"))["results"].keys() == {"yolo"}


def test_pixels_stay_home_unless_somebody_asks_for_them() -> None:
    clips = Windows((Window(None, 0, 1, Clip(np.zeros((2, 4, 4, 3), np.uint8))),))
    assert encoded(packet(yolo=PEOPLE, clips=clips))["results"].keys() == {"yolo"}
    with pytest.raises(WireError, match="node clips: Windows"):
        encoded(packet(clips=clips), nodes=["clips"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_never_reaches_json(bad: float) -> None:
    boxes = Detections(np.array([[0, 0, bad, 1]], np.float32), PEOPLE.class_id[:1], PEOPLE.confidence[:1])
    scores = Detections(PEOPLE.xyxy[:1], PEOPLE.class_id[:1], np.array([bad], np.float32))
    flow = Flow(np.full((9, 16, 2), bad, np.float32))
    for value in (boxes, scores, flow):
        with pytest.raises(WireError, match=r"node yolo: .* is not finite"):
            encoded(packet(yolo=value))
    with pytest.raises(WireError, match="pts"):
        encoded(Packet(replace(FRAME, pts=bad)))


def test_consumers_get_types() -> None:
    message = decode(Encoder(FACTS)(packet(yolo=PEOPLE, flow=RIGHT, actions=WAVING)))
    found, flow, actions = message.results.values()
    assert isinstance(found, DetectionsResult)
    assert isinstance(flow, FlowResult)
    assert isinstance(actions, ActionsResult)
    assert found.items[0].label == "person"
    assert found.items[0].track_id is None
    assert flow.magnitude.p95 == 2.0
    assert actions.items[0].labels[0].label == "waving"
    assert (message.version, message.size, message.missed) == (1, (1920, 1080), 0)
    with pytest.raises(ValueError, match="frozen"):
        message.seq = 3


def test_a_consumer_survives_a_newer_producer() -> None:
    message = encoded(packet(yolo=PEOPLE))
    message["weather"] = "fine"
    message["results"]["yolo"]["items"][0]["colour"] = "red"
    message["results"]["pose"] = {"kind": "keypoints", "items": [1, 2]}
    read = decode(json.dumps(message))
    pose = read.results["pose"]
    assert isinstance(pose, OtherResult)
    assert pose.kind == "keypoints"
    assert pose.model_extra == {"items": [1, 2]}
    assert isinstance(read.results["yolo"], DetectionsResult)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is not valid"),
        (b"\xff\xfe", "is not valid"),
        (b"[]", "is not valid"),
        (b"{}", "at schema"),
        (b'{"schema":2,"camera":"gate"}', "has schema 2, but this streamer reads schema 1"),
        (Encoder(FACTS)(packet(yolo=PEOPLE)).replace(b'"box"', b'"bax"'), r"results\.yolo\..*box"),
    ],
)
def test_bytes_that_are_no_message_are_one_clear_sentence(data: bytes, says: str) -> None:
    with pytest.raises(WireError, match=says) as caught:
        decode(data)
    assert "\n" not in str(caught.value)


# --- the published schema ---


def test_the_published_schema_is_up_to_date() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "streamer.wire"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert SCHEMA.read_text() == printed, f"run: python -m streamer.wire > {SCHEMA.relative_to(ROOT)}"


def test_what_is_encoded_validates() -> None:
    tracked = replace(PEOPLE, track_id=np.array([7, 8], np.int32))
    full = packet(
        yolo=PEOPLE, tracks=tracked, none=Detections.empty(), flow=RIGHT, actions=WAVING,
        masks=SHAPES, outlines=SHAPES, boxes=SHAPES,
    )  # fmt: skip
    message = encoded(full.mark("queue", 9_000_000))
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(message, schema, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: m.update(weather="fine"),
        lambda m: m.pop("pts"),
        lambda m: m.update(schema=2),
        lambda m: m["results"]["yolo"].update(kind=""),
        lambda m: m["results"]["yolo"].update(kind="flow"),
        lambda m: m["results"]["yolo"]["items"][0].update(track_id=None),
        lambda m: m["results"]["yolo"]["items"][0].update(colour="red"),
        lambda m: m["results"]["yolo"]["items"][0].update(confidence=1.5),
        lambda m: m["results"]["yolo"]["items"][0].update(mask=None),
        lambda m: m["results"]["yolo"]["items"][0].update(mask={"size": [1080, 1920]}),
        lambda m: m["results"]["yolo"]["items"][0].update(polygons=[[[0, 0], [1, 1]]]),
        lambda m: m["results"]["yolo"]["items"][0].update(regions=[7]),
        lambda m: m["results"]["yolo"]["items"][0]["box"].pop(),
        lambda m: m.update(missed=3),
    ],
)
def test_the_schema_is_strict_with_producers(spoil: Any) -> None:
    message = encoded(packet(yolo=PEOPLE))
    spoil(message)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(message, json.loads(SCHEMA.read_text()), cls=jsonschema.Draft202012Validator)


# --- ids and figures ---


def test_an_id_is_the_same_from_the_packet_and_from_its_message() -> None:
    for captured_at in (1_790_000_000.0005, 1_790_000_000.0015, 1_790_000_000.12345, 0.0, 1.0005, 2.0015):
        frame = replace(FRAME, captured_at=captured_at)
        message = decode(Encoder({})(Packet(frame)))
        assert entry_id(message.captured_at, message.seq) == entry_id(captured_at, frame.seq)


def test_ids_compare_as_redis_compares_them() -> None:
    assert EntryId.parse("9-10") > EntryId.parse(b"9-9")
    assert EntryId.parse("10-0") > EntryId.parse("9-99")
    assert str(EntryId(9, 9).next()) == "9-10"
    assert entry_id(0.0, 0) > EntryId(0, 0), "Redis refuses 0-0"


def test_figures_come_back_typed() -> None:
    camera = CameraStats(
        "running", None, 25.0, 24.5, 100, 98, {"late": 2}, 0, 1, Percentiles(3.0, 5.0, 9.0), {"person": 2}
    )
    stats = Stats(1_790_000_000.5, {"gate": camera}, {"redis": SinkStats("away", 3)})
    read = decode_metrics(encode_metrics(stats))
    assert read.at == stats.at
    assert read.cameras["gate"].latency_ms is not None
    assert read.cameras["gate"].latency_ms.p99 == 9.0
    assert read.cameras["gate"].dropped == {"late": 2}
    assert (read.sinks["redis"].error, read.sinks["redis"].dropped) == ("away", 3)
    assert json.loads(encode_camera(camera, stats.at))["fps_in"] == 25.0
    with pytest.raises(WireError, match="metrics"):
        decode_metrics(b"{}")

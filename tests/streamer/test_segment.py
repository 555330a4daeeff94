"""Nodes that give masks, from the file that asks for them to Redis, JSON Lines and video; however much they find."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnx
import pycocotools.mask
import pytest
import redis
from bodies import Body, make
from redisworld import QUICK
from videos import Clip, write
from worlds import Script

from engines.boxes import Suppression
from engines.decoders import DetectOptions
from engines.decoders.instances import DecodeInstances
from engines.model import Model
from engines.preprocess import Preprocess, PreprocessSpec
from engines.regions import Region
from engines.runtimes.fake import FakeRuntime
from engines.types import Array, Detections, Image, TensorSpec
from engines.zoo import ignore as no_progress
from streamer import build, config
from streamer.cli import main
from streamer.errors import InputError
from streamer.pipeline import Pipeline
from streamer.sinks.base import Sink
from streamer.sinks.jsonl import JsonlSink
from streamer.sinks.redis import RedisOptions, RedisSink
from streamer.sinks.video import VideoSink
from streamer.stages.every import every
from streamer.stages.infer import Detect
from streamer.types import Frame, Packet, Port, RawFrame
from streamer.wire import DetectionsResult, Encoder, NodeFacts, decode

CANDIDATES = 300
COUNTS = (0, 300, 1, 0, 57, 300, 2)  # objects in frame after frame
SIZE = (64, 96)
LABELS = ("a", "b", "c")


@pytest.fixture
def segmenter(tmp_path: Path) -> Path:
    """The manifest of a network with random weights, in YOLOv8's layout for masks."""
    onnx.save(make(Body("yolov8", size=SIZE, extra=("masks",))), str(tmp_path / "seg.onnx"))
    return described(tmp_path / "seg.yaml", "segment", "yolov8-seg")


def described(path: Path, task: str, decoder: str) -> Path:
    path.write_text(
        f"name: {path.stem}\ntask: {task}\nlabels: [{', '.join(LABELS)}]\n"
        f"preprocess: {{size: [{SIZE[0]}, {SIZE[1]}], std: [255, 255, 255]}}\n"
        f"decoder: {decoder}\nweights: {{onnx: {{file: seg.onnx}}}}\n"
    )
    return path


def pipeline_file(folder: Path, **node: object) -> Path:
    path = folder / "p.yaml"
    path.write_text("nodes:\n  found:\n" + "".join(f"    {key}: {value}\n" for key, value in node.items()))
    return path


def read(path: Path) -> list[DetectionsResult]:
    results = [decode(line).results.get("found") for line in path.read_bytes().splitlines()]
    assert all(isinstance(result, DetectionsResult) for result in results if result is not None)
    return [result for result in results if isinstance(result, DetectionsResult)]


# --- however many objects ---


def finds(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
    """Find as many objects as the picture is bright, somewhere; all candidates have boxes and masks."""
    frames = feeds["frames"]
    rng, rows = np.random.default_rng(0), len(frames)
    start = rng.uniform(-10, 60, (rows, CANDIDATES, 2))
    boxes = np.concatenate([start, start + rng.uniform(11, 60, start.shape)], axis=2)
    counts = np.array([COUNTS[int(frame[0, 0, 0])] for frame in frames])
    there = np.arange(CANDIDATES) < counts[:, None]
    return {
        "boxes": boxes.astype(np.float32),
        "scores": np.where(there, np.linspace(0.9, 0.4, CANDIDATES), 0).astype(np.float32),
        "classes": rng.integers(0, 3, there.shape).astype(np.int32),
        "masks": rng.random((rows, CANDIDATES, 28, 28), np.float32),
    }


def fake_model(options: DetectOptions) -> Model[Image, Detections]:
    inputs = (TensorSpec("frames", np.dtype(np.uint8), (None, *SIZE, 3)),)
    runtime = FakeRuntime(finds, inputs)
    preprocess = Preprocess(PreprocessSpec(SIZE), runtime)
    return Model("fake", LABELS, preprocess, runtime, DecodeInstances(3, options, SIZE))


def picture(index: int) -> RawFrame:
    return RawFrame(index / 10, lambda: np.full((*SIZE, 3), index, np.uint8))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools itself
@pytest.mark.parametrize("form", ["rle", "polygons"])
def test_any_number_of_objects_goes_everywhere(tmp_path: Path, redis_url: str, form: Any) -> None:
    everywhere = Region("all", ((0, 0), (1, 0), (1, 1), (0, 1)))
    options = DetectOptions(0.3, Suppression("none"), regions=(everywhere,))
    facts = {"found": NodeFacts(LABELS, form, options.regions)}
    encode = Encoder(facts)
    sinks: list[Sink] = [
        JsonlSink(tmp_path / "a.jsonl", encode),
        VideoSink(tmp_path / "a.mp4", "gate", facts),
        RedisSink(redis_url, encode, RedisOptions.lossless(**QUICK)),
    ]
    stage = Detect(fake_model(options), Port("found", Detections))
    try:
        Pipeline([Script("gate", [[picture(i) for i in range(len(COUNTS))]])], [stage], sinks).run()
    finally:
        for sink in sinks:
            sink.close()
    results = read(tmp_path / "a.jsonl")
    assert [len(result.items) for result in results] == list(COUNTS)
    items = [item for result in results for item in result.items]
    assert all(item.regions == ("all",) for item in items)
    if form == "rle":
        masks = [item.mask for item in items if item.mask is not None]
        assert {pycocotools.mask.decode(mask.model_dump()).shape for mask in masks} == {SIZE}
        assert len(masks) == sum(COUNTS)
    else:
        assert all(item.polygons is not None for item in items)
    with redis.Redis.from_url(redis_url) as client:
        entries = client.xrange("streamer:results:gate")
    assert [fields[b"json"] for _, fields in entries] == (tmp_path / "a.jsonl").read_bytes().splitlines()
    assert frames_of(tmp_path / "a.mp4") == len(COUNTS)


def frames_of(video: Path) -> int:
    with av.open(str(video)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_frames_that_are_not_looked_at_have_no_result(tmp_path: Path) -> None:
    stage = every(3, Detect(fake_model(DetectOptions(0.3, Suppression("none"))), Port("found", Detections)))
    sink = JsonlSink(tmp_path / "a.jsonl", Encoder({"found": NodeFacts(LABELS)}))
    Pipeline([Script("gate", [[picture(i) for i in range(len(COUNTS))]])], [stage], [sink]).run()
    sink.close()
    messages = [json.loads(line) for line in (tmp_path / "a.jsonl").read_bytes().splitlines()]
    found = {m["seq"]: len(m["results"]["found"]["items"]) for m in messages if "found" in m["results"]}
    assert found == {0: COUNTS[0], 3: COUNTS[3], 6: COUNTS[6]}
    assert len(messages) == len(COUNTS)


# --- from the command line ---


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write(tmp_path / "clip.mp4", Clip(frames=12))


def test_a_model_by_name_makes_the_node_that_it_is_for(segmenter: Path, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["process", str(clip), "--out", str(out), "--annotate", "--model", str(segmenter)]
    assert main([*command, "--set", "nodes.segment.confidence=0.1"]) == 0
    messages = [decode(line) for line in (out / "clip.jsonl").read_bytes().splitlines()]
    assert len(messages) == frames_of(out / "clip.mp4") == 12
    for message in messages:
        (result,) = message.results.values()
        assert isinstance(result, DetectionsResult)
        assert result.items
        assert all(item.mask is not None and item.mask.size == (96, 128) for item in result.items)


@pytest.mark.parametrize(("model", "says"), [("yolox-nan", "--model: there is no model 'yolox-nan'"), (None, "flow")])
def test_a_model_that_makes_no_node(
    model: str | None, says: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = model or str(described(tmp_path / "flow.yaml", "flow", "yolox"))
    assert main(["process", str(clip), "--out", str(tmp_path / "out"), "--model", name]) == 2
    assert says in capsys.readouterr().err


def test_every_option_reaches_what_works(segmenter: Path, clip: Path, tmp_path: Path) -> None:
    options = {
        "kind": "segment",
        "model": segmenter,
        "confidence": 0.1,
        "nms": "soft-gaussian",
        "agnostic": "true",
        "iou": 0.3,
        "classes": "[b, c]",
        "min_size": 10,
        "max_detections": 6,
        "regions": "{left: [[0, 0], [0.5, 0], [0.5, 1], [0, 1]], low: [[0, 48], [128, 48], [128, 96], [0, 96]]}",
        "every": 4,
        "tiles": "{grid: 2x2, overlap: 0.25}",
        "masks": "polygons",
    }
    path = pipeline_file(tmp_path, **options)
    out = tmp_path / "all.jsonl"
    sets = ["--set", f"cameras.file.url={clip}", "--set", f"publish=[{{kind: jsonl, path: {out}}}]"]
    assert main(["run", str(path), *sets]) == 0
    results = read(out)
    assert len(results) == 3  # of 12 frames
    items = [item for result in results for item in result.items]
    assert items
    assert max(len(result.items) for result in results) <= 6
    assert {item.label for item in items} <= {"b", "c"}
    for item in items:
        x1, y1, x2, y2 = item.box
        assert min(x2 - x1, y2 - y1) >= 9.98
        assert item.polygons is not None
        assert item.mask is None
        assert set(item.regions or ()) == {n for n, there in (("left", x1 + x2 <= 128), ("low", y2 >= 48)) if there}


def test_a_detect_node_takes_a_segmenter_and_leaves_its_masks_out(segmenter: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(2).integers(0, 256, (96, 128, 3), np.uint8)
    found = {}
    for kind in ("detect", "segment"):
        settings = config.read(pipeline_file(tmp_path, kind=kind, model=segmenter, confidence=0.1))
        with build.open_graph(settings, "latency", no_progress) as graph:
            (packet,) = graph.stages[0].process([Packet(Frame("gate", 0, 0.0, 0.0, 0, image))])
        found[kind] = packet.get(Port("found", Detections))
    boxes, masks = found["detect"], found["segment"]
    assert boxes is not None
    assert masks is not None
    assert boxes.masks is None
    assert masks.masks is not None
    assert np.array_equal(boxes.xyxy, masks.xyxy)
    assert len(boxes)


def test_check_says_what_a_node_does(segmenter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = pipeline_file(tmp_path, kind="segment", model=segmenter, every=3, tiles="1x2")
    assert main(["check", str(path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "every 3rd frame" in shown
    assert "tiles 1x2" in shown


@pytest.mark.parametrize(
    ("kind", "model", "says"),
    [
        ("segment", lambda _: "yolox-nano", r"p\.yaml:4: nodes\.found\.model: yolox-nano gives no masks; name one"),
        (
            "detect",
            lambda f: described(f / "flow.yaml", "flow", "yolox"),
            r"p\.yaml:4: .*flow is a model for flow; name",
        ),
        (
            "segment",
            lambda f: described(f / "acts.yaml", "recognise", "yolox"),
            r"p\.yaml:4: .*is a model for recognise",
        ),
        ("detect", lambda _: "yolox-nanno", r"p\.yaml:4: nodes\.found\.model: .*did you mean 'yolox-nano'\?"),
    ],
)
def test_a_model_that_does_not_suit_its_node(
    tmp_path: Path, kind: str, model: Callable[[Path], object], says: str
) -> None:
    with pytest.raises(InputError, match=says) as caught:
        build.find_manifests(config.read(pipeline_file(tmp_path, kind=kind, model=model(tmp_path))))
    assert "\n" not in str(caught.value)


def test_a_class_that_the_model_lacks(tmp_path: Path) -> None:
    settings = config.read(pipeline_file(tmp_path, kind="detect", model="yolox-nano", classes="[persn]"))
    with pytest.raises(InputError, match=r"p\.yaml:5: nodes\.found\.classes: .*did you mean 'person'\?"):
        build.find_manifests(settings)

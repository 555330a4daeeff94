from __future__ import annotations

from pathlib import Path

import pytest

from engines.manifest import config_dir
from engines.tiles import Tiling
from streamer import config
from streamer.errors import ConfigError, GraphError, InputError

GOOD = """\
cameras:
  gate:   {url: "rtsp://10.0.0.5/stream1", reconnect: {max_delay: 20s}}
  garage: {url: "file:///data/garage.mp4"}
nodes:
  yolo: {kind: detect, model: yolox-nano, confidence: 0.3}
publish:
  - {kind: redis, url: "${REDIS_URL:-redis://localhost:6379/0}", nodes: [yolo]}
runtime: {prefer: [openvino], precision: fp32}
"""


def parse(text: str, *overrides: str, **environ: str) -> config.Pipeline:
    return config.parse(text, "p.yaml", overrides, environ)


def faults(text: str, *overrides: str, **environ: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        parse(text, *overrides, **environ)
    return str(caught.value).splitlines()


def test_a_good_file() -> None:
    pipeline = parse(GOOD)
    assert pipeline.cameras["gate"].reconnect.max_delay == 20.0
    assert pipeline.runtime.precision == "fp32"
    (redis,) = pipeline.publish
    assert isinstance(redis, config.Redis)
    assert redis.url == "redis://localhost:6379/0"
    yolo = pipeline.nodes["yolo"]
    assert isinstance(yolo, config.Detect)
    assert yolo.confidence == 0.3


def test_environment_fills_in_and_keeps_yaml_types() -> None:
    text = "nodes: {yolo: {kind: detect, model: m, confidence: '${CONF:-0.5}'}}\nlimits: {batch: '${BATCH}'}"
    pipeline = parse(text, CONF="0.7", BATCH="4")
    yolo = pipeline.nodes["yolo"]
    assert isinstance(yolo, config.Detect)
    assert (yolo.confidence, pipeline.limits.batch) == (0.7, 4)


def test_an_unset_variable_without_default_names_its_line() -> None:
    (fault,) = faults("cameras:\n  gate: {url: '${CAMERA}'}")
    assert fault.startswith("p.yaml:2: cameras.gate.url: ")
    assert "CAMERA is not set" in fault


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("confidence: 0.3", "confidense: 0.3", 5, ["nodes.yolo.confidense", "did you mean 'confidence'?"]),
        ("confidence: 0.3", "confidence: high", 5, ["nodes.yolo.confidence"]),
        ("confidence: 0.3", "confidence: 1.5", 5, ["nodes.yolo.confidence"]),
        ("kind: detect", "kind: detct", 5, ["nodes.yolo.kind", "'detct'", "did you mean 'detect'?"]),
        ("kind: detect, ", "", 5, ["nodes.yolo", "needs a kind"]),
        ("model: yolox-nano, ", "", 5, ["nodes.yolo", "model"]),
        ("max_delay: 20s", "max_delay: 20", 2, ["cameras.gate.reconnect.max_delay", "unit"]),
        ("rtsp://10", "rtps://10", 2, ["cameras.gate.url", "rtsp"]),
        ("nodes: [yolo]", "nodes: [yola]", 7, ["publish", "'yola' is no node", "did you mean 'yolo'?"]),
        ("precision: fp32", "precision: fp23", 8, ["runtime.precision"]),
        ("[openvino]", "[openvimo]", 8, ["runtime.prefer", "'openvimo'", "did you mean 'openvino'?"]),
        ("runtime:", "runtimes:", 8, ["runtimes", "did you mean 'runtime'?"]),
        ("  gate: ", "  'g te': ", 2, ["cameras.g te", "is not a name"]),
        ("  yolo: ", "  total: ", 5, ["nodes.total"]),
        ("cameras:\n", "cameras: 5\nx:\n", 1, ["cameras"]),
    ],
)
def test_a_fault_is_one_line_that_says_where(old: str, new: str, line: int, words: list[str]) -> None:
    found = faults(GOOD.replace(old, new, 1))
    assert any(f.startswith(f"p.yaml:{line}: ") and all(word in f for word in words) for f in found), found


def test_every_fault_is_found_at_once() -> None:
    bad = GOOD.replace("confidence: 0.3", "confidense: 0.3").replace("rtsp://", "rtps://").replace("fp32", "fp23")
    assert [f.split(":")[1] for f in faults(bad)] == ["2", "5", "8"]


EVERYTHING = """\
nodes:
  masks:
    kind: segment
    model: maskrcnn-r50
    masks: polygons
    nms: soft-gaussian
    agnostic: true
    min_size: 12
    every: 5
    tiles: {grid: 2x3, overlap: 0.25, whole: false}
    regions: {door: [[0.1, 0.2], [0.5, 0.2], [0.3, 1]], "the yard": [[0, 0], [1919, 0], [0, 1079.5]]}
  boxes: {kind: detect, model: yolox-s, tiles: 4x1}
  plain: {kind: detect, model: yolox-s, tiles: null}
"""


def test_every_option_of_a_node_that_finds_objects() -> None:
    nodes = parse(EVERYTHING).nodes
    masks, boxes = nodes["masks"], nodes["boxes"]
    assert isinstance(masks, config.Segment)
    assert isinstance(boxes, config.Detect)
    assert (masks.masks, masks.nms, masks.agnostic, masks.min_size, masks.every) == (
        "polygons", "soft-gaussian", True, 12, 5,
    )  # fmt: skip
    assert masks.regions["door"] == ((0.1, 0.2), (0.5, 0.2), (0.3, 1))
    assert masks.tiles is not None
    assert boxes.tiles is not None
    assert masks.tiles.tiling() == Tiling(2, 3, 0.25, whole=False)
    assert boxes.tiles.tiling() == Tiling(4, 1, 0.2, whole=True)
    assert [node.summary() for node in nodes.values()] == [
        "segment maskrcnn-r50, every 5th frame, tiles 2x3, in door, the yard",
        "detect yolox-s, tiles 4x1",
        "detect yolox-s",
    ]


@pytest.mark.parametrize(
    ("option", "where", "words"),
    [
        ("regions: {door: [[0, 0], [1, 1]]}", "regions.door", ["three points or more, not 2"]),
        ("regions: {door: [[0.1, 0.1], [0.9, 1.2], [0.1, 0.9]]}", "regions.door", ["0.1 is a share", "1.2 a pixel"]),
        ("regions: {door: [[0, 0], [1, 1.5], [1, 0]]}", "regions.door", ["1.5 is more than 1", "pixels", "0.75"]),
        ("regions: {door: [[0, 0], [-5, 90], [80, 0]]}", "regions.door", ["-5 lies outside the image"]),
        ("regions: {door: [[0, 0], [50, 50], [90, 90]]}", "regions.door", ["has no area"]),
        ("regions: {door: [[0, 0], [1, 0, 1], [1, 1]]}", "regions.door[1]", ["at most 2"]),
        ("regions: {door: [[0, 0], [1, .nan], [1, 1]]}", "regions.door[1][1]", ["finite"]),
        ("regions: {'': [[0, 0], [1, 0], [1, 1]]}", "regions.", ["at least 1 character"]),
        ("regions: [[0, 0], [1, 0], [1, 1]]", "regions", ["a mapping, not a list"]),
        *[(f"tiles: {t}", "tiles", ["8x8", "2x2"]) for t in ("0x2", "9x99", "1x1", "2", "2x", "x2", "-1x2", "[2, 2]")],
        ("tiles: {grid: 1x9}", "tiles.grid", ["8x8"]),
        ("tiles: {gird: 2x2}", "tiles.gird", ["did you mean 'grid'?"]),
        ("tiles: {grid: 2x2, overlap: 0.9}", "tiles.overlap", ["0.5"]),
        ("every: 0", "every", ["greater than 0, not 0"]),
        ("every: 2.5", "every", ["a whole number, not 2.5"]),
        ("evry: 2", "evry", ["did you mean 'every'?"]),
        ("nms: softt", "nms", ["'soft-linear', 'soft-gaussian'", "not 'softt'"]),
        ("nms: adaptiv", "nms", ["did you mean 'adaptive'?"]),
        ("masks: polygon", "masks", ["did you mean 'polygons'?"]),
        ("min_size: -1", "min_size", ["not -1"]),
    ],
)
def test_a_wrong_option_is_one_line(option: str, where: str, words: list[str]) -> None:
    (fault,) = [f for f in faults(f"nodes:\n  m:\n    kind: segment\n    model: m\n    {option}") if "missing" not in f]
    assert fault.startswith(f"p.yaml:5: nodes.m.{where}: ")
    assert all(word in fault for word in words), fault


@pytest.mark.parametrize(
    "text",
    [
        "cameras: &a {g: *a}",
        "cameras: {g: {url: !!bool x}}",
        "cameras: !!timestamp x",
        "limits: {batch: '${X:-[}'}",
        "limits: {batch: '${X:-2024-13-45}'}",
        "cameras: {g: {url: 'synthetic://', open_timeout: 0s}}",
        "cameras: {g: {url: 'synthetic://', reconnect: {delay: 60s}}}",
    ],
)
def test_odd_yaml_is_wrong_input_too(text: str) -> None:
    assert faults(text)


def test_text_that_is_not_yaml() -> None:
    (fault,) = faults("nodes: {yolo: [}")
    assert fault.startswith("p.yaml:1")


def test_an_override_reaches_any_value() -> None:
    pipeline = parse(
        GOOD,
        "cameras.gate.url=rtsp://other/1",
        "cameras.roof.url=synthetic://?fps=5",
        "nodes.yolo.confidence=0.6",
        "publish.0.prefix=x:",
        "runtime.prefer=[onnxruntime]",
    )
    assert pipeline.cameras["gate"].url == "rtsp://other/1"
    assert pipeline.cameras["roof"].url == "synthetic://?fps=5"
    assert pipeline.runtime.prefer == ("onnxruntime",)
    (redis,) = pipeline.publish
    assert isinstance(redis, config.Redis)
    assert redis.prefix == "x:"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("nodes.yolo.confidense=0.6", ["--set nodes.yolo.confidense", "did you mean 'confidence'?"]),
        ("nodes.yolo.confidence=lots", ["--set nodes.yolo.confidence"]),
        ("nodes.yolo.confidence", ["KEY=VALUE"]),
        ("publish.7.prefix=x", ["--set publish.7.prefix", "list of 1"]),
        ("nodes.yolo.model.name=x", ["--set nodes.yolo.model.name", "plain value"]),
        ("cameras.gate.url=ftp://x", ["--set cameras.gate.url"]),
        ("camera.gate.url=x", ["--set camera", "did you mean 'cameras'?"]),
        ("cameras.gate.reconect.delay=5s", ["--set cameras.gate.reconect", "did you mean 'reconnect'?"]),
    ],
)
def test_a_fault_in_an_override_names_the_override(override: str, words: list[str]) -> None:
    found = faults(GOOD, override)
    assert any(all(word in f for word in words) for f in found), found


def test_no_message_repeats_a_password() -> None:
    for text in (
        GOOD.replace("rtsp://10", "rtps://admin:hunter2@10"),
        GOOD.replace("${REDIS_URL:-redis://localhost:6379/0}", "redis://:hunter2@host/0").replace("yolo]", "yola]"),
    ):
        assert "hunter2" not in "\n".join(faults(text))


@pytest.mark.parametrize("path", sorted((config_dir() / "pipelines").glob("*.yaml")), ids=lambda path: path.stem)
def test_pipelines_that_come_with_us(path: Path) -> None:
    assert config.read(path, environ={}).nodes


def test_a_missing_file() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        config.read(Path("nowhere.yaml"))


def test_nodes_come_in_graph_order_and_cycles_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Copy(config.Node):
        of: str
        value = config.Detect.value

        def sources(self) -> dict[str, type]:
            return {self.of: config.Detect.value}

    monkeypatch.setitem(config.NODES, "copy", Copy)
    nodes = "nodes:\n  b: {kind: copy, of: a}\n  a: {kind: copy, of: yolo}\n  yolo: {kind: detect, model: m}\n"
    assert list(parse(nodes).nodes) == ["yolo", "a", "b"]
    with pytest.raises(GraphError, match=r"^p.yaml:1: nodes: .*cycle: "):
        parse(nodes.replace("of: yolo", "of: b"))

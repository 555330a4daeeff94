"""Packages that add sources, nodes, sinks and decoders: the example installed for real, and broken ones."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import save
from onnx import TensorProto, helper, numpy_helper

from engines.decoders import DetectOptions
from engines.decoders.own import Candidates, DecodeOwn
from engines.errors import BuildError, ManifestError, ModelError
from engines.manifest import config_dir, read
from engines.outputs import OwnDecoder
from engines.types import Array, Geometry
from streamer import config
from streamer.cli import main
from streamer.errors import ConfigError
from streamer.sources import open_source, parse_url
from streamer.wire import OtherEvent, decode_event

EXAMPLE = config_dir() / "examples" / "plugin"
PLACE = Geometry((64, 64), (1.0, 1.0), (0.0, 0.0))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the example into a folder of its own."""
    if find_spec("setuptools") is None:
        pytest.skip("there is no setuptools to build the example with; get it with: pip install setuptools")
    source, site = tmp_path_factory.mktemp("source") / "plugin", tmp_path_factory.mktemp("site")
    shutil.copytree(EXAMPLE, source)  # for building writes into it
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True, capture_output=True)
    return site


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "lampwatch", raising=False)


def package(folder: Path, name: str, code: str, entry_points: str) -> None:
    """Put a package of one module where pip would: *entry_points* are those of its metadata."""
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(entry_points)


def heat_map(folder: Path) -> Path:
    """Write a network that gives the brightness of each 8 x 8 cell, and its manifest."""
    weights = [numpy_helper.from_array(np.full((1, 3, 1, 1), 1 / 765, np.float32), "mean")]
    nodes = [
        helper.make_node("AveragePool", ["images"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Conv", ["cells", "mean"], ["heat"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 64, 64])
    heat = helper.make_tensor_value_info("heat", TensorProto.FLOAT, ["n", 1, 8, 8])
    save(helper.make_graph(nodes, "heat", [images], [heat], weights), folder / "heat.onnx")
    path = folder / "heat.yaml"
    path.write_text(
        "name: heat\ntask: detect\nlabels: [spot]\npreprocess: {size: [64, 64]}\ndecoder: {kind: heat, cell: 8}\n"
        "weights: {onnx: {file: heat.onnx}}\n"
    )
    return path


PIPELINE = """\
cameras:
  lamp: {{url: "blink://?frames=17"}}
nodes:
  spots: {{kind: detect, model: {model}, confidence: 0.5}}
  lamp: {{kind: lamp, reads: [spots], options: {{least: 1}}}}
publish:
  - {{kind: alerts, path: {folder}/alerts.jsonl}}
runtime: {{prefer: [onnxruntime], precision: fp32}}
"""


@pytest.mark.usefixtures("installed")
def test_the_example_adds_a_source_a_node_a_sink_and_a_decoder(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(PIPELINE.format(model=heat_map(tmp_path), folder=tmp_path))
    assert main(["run", str(file)]) == 0
    told = [decode_event(line) for line in (tmp_path / "alerts.jsonl").read_bytes().splitlines()]
    assert all(isinstance(each.event, OtherEvent) and each.node == "lamp" for each in told)
    assert [(each.event.kind, each.seq, each.pts) for each in told] == [
        ("lamp_on", 0, 0.0),
        ("lamp_off", 5, 0.5),
        ("lamp_on", 10, 1.0),
        ("lamp_off", 15, 1.5),
    ]


@pytest.mark.usefixtures("installed")
def test_check_opens_it_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(PIPELINE.format(model=heat_map(tmp_path), folder=tmp_path))
    assert main(["check", str(file)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "64 x 64" in shown
    assert "python Lamp on spots" in shown


@pytest.mark.usefixtures("installed")
def test_nothing_is_imported_before_it_is_named() -> None:
    config.parse("cameras: {a: {url: 'synthetic://'}}\nnodes: {f: {kind: flow, model: dis}}", "p.yaml", (), {})
    assert "lampwatch" not in sys.modules
    assert parse_url("blink://?frames=3").settings == {"frames": "3"}
    assert "lampwatch" not in sys.modules, "a URL is understood without it"
    assert open_source("gate", "blink://?frames=3").camera == "gate"
    assert "lampwatch" in sys.modules


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nodes: {l: {kind: lmap}}", ["'lmap' is no kind of nodes (did you mean 'lamp'?)", "lamp, lines"]),
        ("nodes: {l: {kind: lamp}}", ["nodes.l.reads: names 0, but Lamp expects 1"]),
        ("nodes: {l: {kind: lamp, reads: [y], options: {last: 2}}}", ["options.last", "did you mean 'least'?"]),
        ("publish: [{kind: alert}]", ["'alert' is no kind of publish (did you mean 'alerts'?)"]),
        ("publish: [{kind: alerts, pth: x}]", ["publish[0].pth: unknown key (did you mean 'path'?)"]),
        ("cameras: {a: {url: 'blnk://'}}", ["blnk:// is no kind of source"]),
    ],
)
def test_a_fault_is_one_line_as_if_it_had_come_with_us(text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, "p.yaml", (), {})
    assert any(all(word in line for word in words) for line in str(caught.value).splitlines()), caught.value


BROKEN = """\
[streamer.nodes]
gone = broken_one:Gone
bare = broken_one:Bare
shut = broken_one:Shut
number = broken_one:NUMBER
raises = broken_two:Anything
lines = broken_one:Gone

[streamer.sinks]
bare = broken_one:Bare

[streamer.sources]
gone = broken_one:gone

[streamer.decoders]
gone = broken_one:Gone
"""
CODE = """\
from streamer.config import Node
NUMBER = 7
class Bare: ...
class Shut(Node):
    value = int
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nodes: {x: {kind: gone}}", r"'gone' comes with broken_one 0\.1, which cannot be imported \(AttributeError: "),
        ("nodes: {x: {kind: raises}}", r"broken_one 0\.1, which cannot be imported \(RuntimeError: no licence\); mend"),
        ("nodes: {x: {kind: bare}}", r"broken_one 0\.1, but Bare does not say what it returns.*mend that package"),
        ("nodes: {x: {kind: shut}}", r"broken_one 0\.1, but Shut has no method 'open'"),
        ("nodes: {x: {kind: number}}", r"broken_one 0\.1, but it is int and no class"),
        ("publish: [{kind: bare}]", r"broken_one 0\.1, but it is no subclass of streamer\.config\.Publish"),
    ],
)
def test_a_broken_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str) -> None:
    package(tmp_path, "broken_one", CODE, BROKEN)
    (tmp_path / "broken_two.py").write_text("raise RuntimeError('no licence')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "broken_one", raising=False)
    with pytest.raises(ConfigError, match=rf"^p\.yaml:1: (nodes\.x|publish\[0\])\.kind: .*{says}") as caught:
        config.parse(text, "p.yaml", (), {})
    assert "\n" not in str(caught.value)
    config.parse("nodes: {f: {kind: flow, model: dis}}", "p.yaml", (), {})  # nobody else minds


def test_a_broken_source_and_decoder_are_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "broken_one", CODE, BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"broken_one 0\.1, which cannot be imported"):
        open_source("gate", "gone://x")
    path = heat_map(tmp_path)
    path.write_text(path.read_text().replace("{kind: heat, cell: 8}", "gone"))
    with pytest.raises(ManifestError, match=r"heat\.yaml:5: decoder.*broken_one 0\.1, which cannot be imported"):
        read(path)


def test_ours_come_first_and_two_of_a_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "broken_one", CODE, BROKEN)
    package(tmp_path, "other", "class Gone: ...", "[streamer.nodes]\ngone = other:Gone\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"nodes\.x\.tracks: is missing"):  # ours, not theirs
        config.parse("nodes: {x: {kind: lines}}", "p.yaml", (), {})
    with pytest.raises(
        ConfigError, match=r"broken_one 0\.1 and other 0\.1 both offer 'gone' as one of streamer\.nodes"
    ):
        config.parse("nodes: {x: {kind: gone}}", "p.yaml", (), {})


# --- nodes that bring their own settings ---

NODE = """\
from typing import Literal
from streamer.config import Node
from streamer.types import Note, Port

class Clock(Node):
    kind: Literal["clock"]
    step: int = 1
    value = Note
    def open(self, name):
        return Tick(Port(name, Note), self.step)

class Tick:
    reads = ()
    def __init__(self, writes, step):
        self.writes, self.step = writes, step
    def process(self, packets):
        return [p.put(self.writes, Note("tick", {"at": p.frame.seq * self.step})) for p in packets]
    def forget(self, camera): ...
    def close(self): ...
"""


def test_a_node_may_bring_settings_and_a_stage_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "ticking", NODE, "[streamer.nodes]\nclock = ticking:Clock\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "p.yaml"
    file.write_text(
        "cameras: {gate: {url: 'synthetic://?frames=3'}}\nnodes: {t: {kind: clock, step: 5}}\n"
        f"publish: [{{kind: jsonl, path: {tmp_path}/out.jsonl}}]\n"
    )
    assert main(["run", str(file)]) == 0
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [f'"t":{{"kind":"tick","at":{at}}}' in line for at, line in zip((0, 5, 10), lines, strict=True)] == [
        True
    ] * 3
    with pytest.raises(ConfigError, match=r"nodes\.t\.stp: unknown key \(did you mean 'step'\?\)"):
        config.parse("nodes: {t: {kind: clock, stp: 5}}", "p.yaml", (), {})


# --- decoders ---


class Given:
    """What a package's decoder is; it answers as it was told."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def __call__(self, outputs: object) -> list[Candidates]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[return-value]  # that is what is tested


def row(count: int, **other: Array) -> Candidates:
    boxes = np.tile([[1.0, 1, 9, 9]], (count, 1))
    told = {"boxes": boxes, "scores": np.full(count, 0.9), "classes": np.zeros(count)}
    return Candidates(**{**told, **other})


def test_candidates_become_detections() -> None:
    decode = DecodeOwn(Given([row(2), row(0)]), "decoder x", 1, DetectOptions())
    first, second = decode({}, [PLACE, PLACE])
    assert (len(first), len(second)) == (1, 0), "two boxes on one spot are one object"
    assert first.xyxy.tolist() == [[1, 1, 9, 9]]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ([], "decoder x gives candidates of 0 images, but was given 1"),
        ([row(2, scores=np.ones(3))], r"decoder x gives boxes \(2, 4\), scores \(3,\) and classes \(2,\)"),
        ([row(2, boxes=np.ones((2, 5)))], r"boxes \(2, 5\)"),
        ([row(1, classes=np.ones(1))], "the network found class 1, but its manifest has 1 labels"),
        (KeyError("heat"), r"decoder x failed \(KeyError: 'heat'\); mend that package"),
        (None, r"decoder x failed \(TypeError"),
    ],
)
def test_what_a_decoder_does_wrong_is_said(answer: object, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        DecodeOwn(Given(answer), "decoder x", 1, DetectOptions())({}, [PLACE])


@pytest.mark.usefixtures("installed")
def test_a_manifest_names_a_decoder_as_it_names_ours(tmp_path: Path) -> None:
    path = heat_map(tmp_path)
    assert read(path).decoder == OwnDecoder(kind="own", name="heat", options={"cell": 8})
    path.write_text(path.read_text().replace("{kind: heat, cell: 8}", "{kind: own, name: absent}"))
    with pytest.raises(ManifestError, match=r"heat\.yaml:5: decoder: no package offers a decoder 'absent'"):
        read(path)


@pytest.mark.usefixtures("installed")
def test_what_a_decoder_cannot_do_is_said_when_the_graph_is_made(tmp_path: Path) -> None:
    from engines.build.base import Recipe
    from engines.build.fold import fold

    manifest = read(heat_map(tmp_path))
    body = onnx.load(tmp_path / "heat.onnx")
    graph = fold(body, manifest, Recipe())
    assert [output.name for output in graph.graph.output] == ["heat"]
    with pytest.raises(BuildError, match="its task is detect"):
        fold(body, manifest.model_copy(update={"task": "segment"}), Recipe())

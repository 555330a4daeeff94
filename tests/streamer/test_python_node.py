"""Code of the user's own in the graph: checked like any node, and run as any node."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from worlds import Brightness, counting

from engines.types import Detections
from engines.zoo import ignore as no_progress
from streamer import build, config
from streamer.build.openers import OPENERS, Opened
from streamer.cli import main
from streamer.errors import InputError
from streamer.pipeline import Pipeline
from streamer.sinks.memory import MemorySink
from streamer.types import Crossings, Note, Packet, Port

CODE = """\
from __future__ import annotations
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar
import numpy as np
from engines.types import Detections, Flow
from streamer.types import Frame, Note, Packet, Port

class Count:
    reads = (Detections,)
    writes = Note
    def __init__(self, label: str, start: int = 0, *, folder: Path = Path()) -> None:
        self.label, self.seen, self.folder = label, start, folder
    def __call__(self, frame: Frame, found: Detections | None) -> Note | None:
        self.seen += 1
        return Note("count", {self.label: self.seen, "found": 0 if found is None else len(found)})
    def forget(self) -> None:
        self.seen = 0

@dataclass
class Look:
    reads: ClassVar = ()
    writes: ClassVar = Detections
    labels: ClassVar = ("cat",)
    many: int = 1
    def __call__(self, frame: Frame) -> Detections:
        return Detections.empty()

class Batch:
    reads = (Detections,)
    writes = Note
    def __init__(self, reads: tuple[Port[Any], ...], writes: Port[Note], name: str = "b") -> None:
        self.found, self.out, self.name = *reads, writes, name
    def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        return [p.put(self.out, Note("batch", {"of": len(packets), "name": self.name})) for p in packets]

class NoWrites:
    def __call__(self, frame): ...

class NoCall:
    writes = Note

class Deaf:
    reads = (Detections,)
    writes = Note
    def __call__(self, frame): ...

class Single:
    reads = Detections
    writes = Note
    def __call__(self, frame, found): ...

class NoPorts:
    writes = Note
    def process(self, packets): ...

class Picky:
    writes = Note
    def __init__(self, path: str = "") -> None:
        raise FileNotFoundError(f"no such model: {path}")
    def __call__(self, frame): ...

class Tracker:
    reads = (Detections,)
    writes = Detections
    def __init__(self, numbers: bool = True) -> None:
        self.numbers = numbers
    def __call__(self, frame, found):
        return replace(found, track_id=np.arange(len(found), dtype=np.int32)) if self.numbers else found

class Fails:
    writes = Note
    def __call__(self, frame):
        raise RuntimeError("not today")

class Own:
    writes = Picky
    def __call__(self, frame): ...

def function(frame): ...
"""

NODES = """\
nodes:
  yolo: {kind: detect, model: yolox-nano}
  mine: {kind: python, CLASS}
"""
MINE = 'class: "code.py:Count", reads: [yolo], options: {label: n}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "code.py").write_text(CODE)
    return tmp_path


def parse(folder: Path, told: str, more: str = "") -> config.Pipeline:
    return config.parse(NODES.replace("CLASS", told) + more, str(folder / "p.yaml"), (), {})


def node(folder: Path, told: str) -> config.Python:
    found = parse(folder, told).nodes["mine"]
    assert isinstance(found, config.Python)
    return found


def faults(folder: Path, told: str, more: str = "") -> list[str]:
    with pytest.raises(InputError) as caught:
        build.find_facts(parse(folder, told, more))
    return [line.removeprefix(f"{folder}{os.sep}") for line in str(caught.value).splitlines()]


# --- read and checked ---


def test_a_good_node(folder: Path) -> None:
    mine = node(folder, f"{MINE}, every: 2, optional: true")
    assert mine.value is Note
    assert mine.sources() == {"yolo": Detections}
    assert mine.arguments() == {"label": "n"}
    assert mine.summary() == "python Count on yolo, every 2nd frame"
    assert mine == node(folder, f"{MINE}, every: 2, optional: true"), "a file that was read again is no other pipeline"
    assert mine != node(folder, f"{MINE}, every: 3, optional: true")


def test_a_file_is_found_from_anywhere_and_leaves_the_path_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = [*sys.path]
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert node(folder, MINE).made.__name__ == "Count"
    assert sys.path == before
    assert "code" not in sys.modules or "Count" not in vars(sys.modules["code"])


def test_a_module_is_imported_as_python_does(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "their_package").mkdir()
    (folder / "their_package" / "stages.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(folder))
    assert node(folder, MINE.replace("code.py", "their_package.stages")).made.__module__ == "their_package.stages"


def test_options_come_in_the_types_that_the_class_asks_for(folder: Path) -> None:
    mine = node(folder, MINE.replace("label: n", "label: n, folder: /tmp/x, start: 3"))
    assert mine.arguments() == {"label": "n", "folder": Path("/tmp/x"), "start": 3}


@pytest.mark.parametrize(
    ("told", "where", "words"),
    [
        ("", "nodes.mine.class", ["is missing"]),
        ("class: Count", "nodes.mine.class", ["names no class", "package.module:Class", "file.py:Class"]),
        ('class: "code.py:Cuont"', "nodes.mine.class", ["code.py has no class 'Cuont'", "did you mean 'Count'?"]),
        ('class: "cod.py:Count"', "nodes.mine.class", ["there is no file", "cod.py"]),
        ('class: "code.py:function"', "nodes.mine.class", ["function in code.py is no class"]),
        ('class: "beside:Count"', "nodes.mine.class", ["there is no module 'beside'", "write beside.py:Count"]),
        ('class: "no_such.stages:Count"', "nodes.mine.class", ["there is no module 'no_such'", "install it, or write"]),
        ('class: "broken.py:Count"', "nodes.mine.class", ["broken.py cannot be imported", "NameError", "broken.py:2"]),
        ('class: "syntax.py:Count"', "nodes.mine.class", ["syntax.py cannot be imported", "SyntaxError", "line 1"]),
        ('class: "needs.py:Count"', "nodes.mine.class", ["needs.py cannot be imported", "'absent'", "needs.py:1"]),
        ('class: "code.py:NoWrites"', "nodes.mine.class", ["NoWrites does not say", "writes = Note"]),
        ('class: "code.py:NoCall"', "nodes.mine.class", ["NoCall has no __call__", "process(packets)"]),
        ('class: "code.py:Deaf"', "nodes.mine.class", ["Deaf.__call__ is given the frame, and a value", "too many"]),
        ('class: "code.py:Single"', "nodes.mine.class", ["Single.reads must be a tuple", "reads = (Detections,)"]),
        ('class: "code.py:NoPorts"', "nodes.mine.class", ["NoPorts takes packets", "add 'reads'"]),
        (f"{MINE}, evry: 2", "nodes.mine.evry", ["did you mean 'every'?"]),
        (MINE.replace("label", "lable"), "nodes.mine.options.lable", ["unknown key", "did you mean 'label'?"]),
        (MINE.replace("label: n", ""), "nodes.mine.options.label", ["is missing"]),
        (MINE.replace("label: n", "label: n, start: soon"), "nodes.mine.options.start", ["a whole number, not 'soon'"]),
        (MINE.replace("[yolo]", "[yola]"), "nodes.mine", ["reads 'yola'", "did you mean 'yolo'?"]),
        (MINE.replace("[yolo]", "[]"), "nodes.mine.reads", ["names 0, but Count expects 1 (Detections)"]),
        ('class: "code.py:Look", reads: [yolo]', "nodes.mine.reads", ["names 1, but Look expects none"]),
        ('class: "code.py:Batch", reads: [yolo], options: {reads: 1}', "nodes.mine.options.reads", ["unknown key"]),
    ],
)
def test_a_fault_is_one_line_that_says_where(folder: Path, told: str, where: str, words: list[str]) -> None:
    for name, code in {"beside": "", "broken": "\nCount", "syntax": "class", "needs": "import absent"}.items():
        (folder / f"{name}.py").write_text(code)
    found = faults(folder, told)
    (fault,) = [line for line in found if where in line] or found
    assert fault.startswith(f"p.yaml:3: {where}: ")
    assert all(word in fault for word in words), fault


def test_who_reads_it_is_checked_against_what_it_writes(folder: Path) -> None:
    (fault,) = faults(
        folder, MINE, "  after: {kind: python, class: 'code.py:Count', reads: [mine], options: {label: a}}\n"
    )
    assert fault == "p.yaml:4: nodes.after: reads Detections from 'mine', which writes Note"
    (fault,) = faults(folder, MINE, "  tracks: {kind: track, detections: mine}\n")
    assert fault.endswith("nodes.tracks: reads Detections from 'mine', which writes Note")


def test_what_has_no_form_on_the_wire_cannot_be_published(folder: Path) -> None:
    publish = "publish:\n  - {kind: jsonl, path: x.jsonl, nodes: [yolo, mine]}\n"
    (fault,) = faults(folder, 'class: "code.py:Own"', publish)
    assert fault.startswith("p.yaml:5: publish[0].nodes[1]: mine writes Picky, which has no form on the wire")


def test_labels_are_its_own_or_those_of_what_it_reads(folder: Path) -> None:
    facts = build.find_facts(parse(folder, 'class: "code.py:Look"', "  t: {kind: track, detections: mine}\n"))
    assert facts["mine"].labels == facts["t"].labels == ("cat",)
    assert build.find_facts(parse(folder, MINE))["mine"].labels[:2] == ("person", "bicycle")


# --- opened and run ---


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find boxes by brightness wherever a detector is named."""

    def opened(name: str, *_: object) -> Opened:
        return Opened(Brightness(Port(name, Detections)), "test")

    monkeypatch.setitem(OPENERS, config.Detect, opened)  # type: ignore[misc]  # its keys are classes


def run(settings: config.Pipeline, *cameras: str, frames: int = 4) -> list[Packet]:
    memory = MemorySink()
    with build.open_graph(settings, "throughput", no_progress) as graph:
        Pipeline([counting(camera, frames) for camera in cameras], graph.stages, [memory]).run()
    return memory.packets


def told(packets: Sequence[Packet], camera: str) -> list[Any]:
    values = [packet.values.get("mine") for packet in packets if packet.frame.camera == camera]
    return [dict(value.data) if isinstance(value, Note) else value for value in values]


@pytest.mark.usefixtures("no_model")
def test_each_camera_has_an_object_of_its_own(folder: Path) -> None:
    packets = run(parse(folder, MINE.replace("n}", "n, start: 10}")), "gate", "yard")
    for camera in ("gate", "yard"):
        assert told(packets, camera) == [{"n": 11 + i, "found": 1} for i in range(4)]


@pytest.mark.usefixtures("no_model")
def test_every_looks_at_some_frames_only(folder: Path) -> None:
    found = told(run(parse(folder, f"{MINE}, every: 2"), "gate"), "gate")
    assert found == [{"n": 1, "found": 1}, None, {"n": 2, "found": 1}, None]


@pytest.mark.usefixtures("no_model")
def test_a_class_that_takes_batches_gets_packets(folder: Path) -> None:
    packets = run(parse(folder, 'class: "code.py:Batch", reads: [yolo], options: {name: x}'), "gate", "yard")
    assert len(packets) == 8
    assert all(one["name"] == "x" for one in told(packets, "gate") + told(packets, "yard"))


@pytest.mark.usefixtures("no_model")
def test_what_cannot_be_made_is_said_before_anything_starts(folder: Path) -> None:
    settings = parse(folder, 'class: "code.py:Picky", options: {path: a.onnx}')
    with pytest.raises(InputError, match=r"p.yaml:3: nodes.mine: Picky cannot be made \(FileNotFoundError: .*a.onnx"):
        run(settings, "gate")


@pytest.mark.usefixtures("no_model")
def test_an_optional_one_that_cannot_be_made_is_left_out(folder: Path) -> None:
    packets = run(parse(folder, 'class: "code.py:Picky", optional: true'), "gate")
    assert all(packet.values.keys() == {"yolo"} for packet in packets)


LINES = "  doors: {kind: lines, tracks: mine, lines: {door: [[0.5, 1], [0.5, 0]]}}\n"


@pytest.mark.usefixtures("no_model")
def test_a_tracker_of_ones_own_is_one(folder: Path) -> None:
    packets = run(parse(folder, 'class: "code.py:Tracker", reads: [yolo]', LINES), "gate")
    assert all(isinstance(packet.values["doors"], Crossings) for packet in packets)


@pytest.mark.usefixtures("no_model")
def test_a_tracker_that_numbers_nothing(folder: Path) -> None:
    with pytest.raises(ValueError, match="track"):
        run(parse(folder, 'class: "code.py:Tracker", reads: [yolo], options: {numbers: false}', LINES), "gate")


@pytest.mark.usefixtures("no_model")
def test_an_optional_one_that_fails_rests_and_the_others_go_on(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    packets = run(parse(folder, 'class: "code.py:Fails", optional: true'), "gate")
    assert all(packet.values.keys() == {"yolo"} for packet in packets)
    assert len(packets) == 4
    assert "node mine rests for half a minute: RuntimeError: not today (code.py:" in caplog.text


@pytest.mark.usefixtures("no_model")
def test_one_that_fails_ends_the_run(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="not today") as caught:
        run(parse(folder, 'class: "code.py:Fails"'), "gate")
    assert caught.value.__notes__ == ["in node mine: Fails, frame 0 of camera gate"]


def test_what_goes_wrong_in_ones_own_code_is_said_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.py").write_text("class Own:\n    writes = dict\n    def __call__(self, frame): return {}['no']\n")
    (tmp_path / "p.yaml").write_text(
        "cameras: {a: {url: 'synthetic://?frames=3'}}\nnodes: {mine: {kind: python, class: 'own.py:Own'}}\n"
    )
    assert main(["run", str(tmp_path / "p.yaml")]) == 1
    said = capsys.readouterr().err
    assert "in node mine: Own, frame 0 of camera a: KeyError: 'no'" in said
    assert "own.py:3)" in said
    assert said.count("in node mine") == 1
    assert "internal error" not in said


def test_a_node_that_would_end_the_process_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.py").write_text(
        "import sys\nclass Own:\n    writes = dict\n    def __call__(self, frame): sys.exit(3)\n"
    )
    (tmp_path / "p.yaml").write_text(
        "cameras: {a: {url: 'synthetic://?frames=3'}}\nnodes: {mine: {kind: python, class: 'own.py:Own'}}\n"
    )
    assert main(["run", str(tmp_path / "p.yaml")]) == 1
    assert "Own called sys.exit(3), frame 0 of camera a" in capsys.readouterr().err

"""Nodes about motion in a pipeline file: every fault is one line that says where, before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.manifest import config_dir, find, names
from engines.track.lines import Line
from streamer import build, config
from streamer.build.clips import plan_clips
from streamer.errors import InputError
from streamer.stages.clips import ClipOptions

GOOD = """\
nodes:
  yolo: {kind: detect, model: yolox-nano, confidence: 0.1}
  tracks: {kind: track, detections: yolo}
  doors: {kind: lines, tracks: tracks, lines: {door: [[0.5, 1], [0.5, 0]]}}
  places: {kind: zones, tracks: tracks, zones: {yard: [[0, 0], [1, 0], [1, 1]]}}
  flow: {kind: flow, model: dis}
  clips: {kind: clips, around: tracks, flow: flow}
  actions: {kind: recognise, model: MODEL, clips: clips}
"""


def recogniser(path: Path, length: int = 16, fps: float = 15, size: str = "[112, 112]", sees: str = "rgb") -> Path:
    path.write_text(
        f"name: {path.stem}\ntask: recognise\nlabels: [walking, waving]\n"
        f"preprocess: {{size: {size}, resize: stretch}}\ndecoder: actions\n"
        f"clip: {{length: {length}, fps: {fps}, input: {sees}}}\nweights: {{onnx: {{file: none.onnx}}}}\n"
    )
    return path


def parse(folder: Path, text: str = GOOD, **nodes: str) -> config.Pipeline:
    """Read the good file with some of its nodes written anew, or more of them."""
    lines = [line for line in text.splitlines() if line.split(":")[0].strip() not in nodes]
    lines += [f"  {name}: {{{told}}}" for name, told in nodes.items() if told]
    default = folder / "r3d.yaml"
    if not default.exists():
        recogniser(default)
    return config.parse("\n".join(lines).replace("MODEL", str(default)), "p.yaml", (), {})


def fault(folder: Path, **nodes: str) -> str:
    with pytest.raises(InputError) as caught:
        plan(folder, **nodes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def plan(folder: Path, **nodes: str) -> ClipOptions:
    settings = parse(folder, **nodes)
    return plan_clips(settings, build.find_manifests(settings))["clips"]


def test_a_good_file(tmp_path: Path) -> None:
    settings = parse(tmp_path)
    assert list(settings.nodes)[-1] == "actions"
    assert {name: node.summary() for name, node in settings.nodes.items()} == {
        "yolo": "detect yolox-nano",
        "tracks": "track yolo",
        "doors": "lines door on tracks",
        "places": "zones yard on tracks",
        "flow": "flow dis",
        "clips": "clips around tracks",
        "actions": f"recognise {tmp_path / 'r3d.yaml'} in clips",
    }


def test_what_is_known_of_each_node(tmp_path: Path) -> None:
    facts = build.find_facts(parse(tmp_path, flow="kind: flow, model: dis, field: true"))
    people = facts["yolo"].labels
    assert len(people) == 80
    assert [facts[name].labels for name in ("tracks", "doors", "places")] == [people] * 3
    assert facts["actions"].labels == ("walking", "waving")
    assert facts["doors"].lines == (Line("door", (0.5, 1), (0.5, 0)),)
    assert [zone.name for zone in facts["places"].zones] == ["yard"]
    assert facts["flow"].field


@pytest.mark.parametrize(
    ("node", "told", "words"),
    [
        ("doors", "kind: lines, tracks: yolo, lines: {door: [[0, 0], [1, 1]]}", ["doors.tracks", "name tracks"]),
        ("clips", "kind: clips, around: yolo", ["clips.around", "'yolo' does not number its objects; name tracks"]),
        ("clips", "kind: clips, around: trakcs", ["'trakcs'", "did you mean 'tracks'?"]),
        ("clips", "kind: clips, around: tracks, flow: tracks", ["reads Flow from 'tracks'"]),
        ("actions", "kind: recognise, model: MODEL, clips: flow", ["reads Windows from 'flow'"]),
        ("actions", "kind: recognise, model: MODEL, clips: clips, start: 0.2", ["stop 0.3 lies above start 0.2"]),
        ("tracks", "kind: track, detections: yolo, low: 0.7", ["low 0.7, high 0.5 and start 0.6 must rise"]),
        (
            "doors",
            "kind: lines, tracks: tracks, memory: 1s, lines: {a: [[0, 0], [1, 1]]}",
            ["doors.memory", "1 s must be more than the 2 s of tracks"],
        ),
        ("doors", "kind: lines, tracks: tracks, lines: {}", ["doors.lines"]),
        ("doors", "kind: lines, tracks: tracks, lines: {a: [[0, 0], [1, 1], [1, 0]]}", ["two points, not 3"]),
        ("doors", "kind: lines, tracks: tracks, lines: {a: [[5, 5], [5, 5]]}", ["begins where it ends"]),
        ("doors", "kind: lines, tracks: tracks, lines: {a: [[0.5, 0], [200, 100]]}", ["0.5 is a share"]),
        ("places", "kind: zones, tracks: tracks, zones: {a: [[0, 0], [1, 1]]}", ["three points or more"]),
        ("flow", "kind: flow, model: dis, every: 0", ["flow.every"]),
        ("flow", "kind: flow, model: dis, feild: true", ["did you mean 'field'?"]),
        ("flow", "kind: flow, model: yolox-nano", ["flow.model", "is a model for detect; name one that a flow node"]),
        ("actions", "kind: recognise, model: yolox-nano, clips: clips", ["actions.model", "is a model for detect"]),
        (
            "clips",
            "kind: clips, size: [64, 64]",
            ["nodes.clips", "size 64x64 is not the 112x112 that actions looks at"],
        ),
        ("clips", "kind: clips, length: 8", ["nodes.clips", "length 8 is less than the 16 samples that actions"]),
        ("clips", "kind: clips, margin: -1", ["clips.margin"]),
    ],
)
def test_a_fault_is_one_line_that_says_where(tmp_path: Path, node: str, told: str, words: list[str]) -> None:
    said = fault(tmp_path, **{node: told})
    assert said.startswith("p.yaml:")
    assert all(word in said for word in words), said


def test_without_a_tracker_the_remedy_is_to_add_one(tmp_path: Path) -> None:
    said = fault(tmp_path, tracks="", doors="", places="", clips="kind: clips, around: yolo")
    assert "add a node {kind: track, detections: yolo} and name that" in said


# --- what clips are ---


def test_clips_are_what_their_reader_wants(tmp_path: Path) -> None:
    got = plan(tmp_path)
    assert (got.length, got.stride, got.fps, got.size, got.gap) == (16, 8, 15.0, (112, 112), 4)


def test_what_the_file_says_goes_before(tmp_path: Path) -> None:
    told = "kind: clips, length: 32, stride: 3, fps: 10, gap: 2, tracks: 5, smooth: null, margin: 0.5, fit: stretch"
    got = plan(tmp_path, clips=told)
    assert got == ClipOptions(32, 3, 10.0, (112, 112), 0.5, 0.0, 2, 5, "stretch")


def test_two_models_share_the_longer_clips(tmp_path: Path) -> None:
    long = recogniser(tmp_path / "long.yaml", length=64)
    assert plan(tmp_path, more=f"kind: recognise, model: {long}, clips: clips").length == 64


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"fps": 25}, "more and actions want clips of 25 and 15 samples a second; give each clips of its own"),
        ({"size": "[224, 224]"}, "more and actions want clips of 224x224 and 112x112 pixels"),
    ],
)
def test_models_that_want_different_clips(tmp_path: Path, other: dict[str, object], words: str) -> None:
    model = recogniser(tmp_path / "other.yaml", **other)  # type: ignore[arg-type]  # of each parameter its own
    assert words in fault(tmp_path, more=f"kind: recognise, model: {model}, clips: clips")


def test_a_model_of_motion_needs_flow(tmp_path: Path) -> None:
    model = recogniser(tmp_path / "i3d.yaml", sees="flow")
    actions = f"kind: recognise, model: {model}, clips: clips"
    assert plan(tmp_path, actions=actions).length == 16
    said = fault(tmp_path, actions=actions, clips="kind: clips, around: tracks")
    assert said.endswith("actions looks at motion, but these clips have none; name a flow node with 'flow'")


def test_clips_that_nobody_reads_must_say_what_they_are(tmp_path: Path) -> None:
    assert "give length, fps and size" in fault(tmp_path, actions="")
    assert plan(tmp_path, actions="", clips="kind: clips, length: 5, fps: 5, size: [8, 8]").stride == 2


RECOGNISERS = [name for name in names() if find(name).task == "recognise"]


@pytest.mark.parametrize("model", RECOGNISERS)
def test_every_recogniser_that_comes_with_us_finds_its_clips(model: str, tmp_path: Path) -> None:
    got = plan(tmp_path, flow="kind: flow, model: flownets", actions=f"kind: recognise, model: {model}, clips: clips")
    assert min(got.length, got.stride, got.gap, got.fps, *got.size) >= 1


def test_the_pipeline_that_comes_with_us_fits_together() -> None:
    settings = config.read(config_dir() / "pipelines/actions.yaml", environ={})
    assert plan_clips(settings, build.find_manifests(settings))["clips"].length == 16


def test_a_node_that_reads_what_it_cannot_is_told_at_its_own_line(tmp_path: Path) -> None:
    assert fault(tmp_path, clips="kind: clips, flow: yolo") == (
        "p.yaml:8: nodes.clips: reads Flow from 'yolo', which writes Detections"
    )
    told = fault(tmp_path, tracks="kind: track, detections: yoloo", doors="", places="", clips="", actions="")
    assert told.endswith(": nodes.tracks: reads 'yoloo', which no node writes; did you mean 'yolo'?")


def test_classical_flow_takes_no_weights(tmp_path: Path) -> None:
    told = fault(tmp_path, flow="kind: flow, model: dis, weights: mine.onnx")
    assert told.endswith(": nodes.flow.weights: dis has no weights; leave it out")

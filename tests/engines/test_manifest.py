"""Manifests: those that come with us are right, and those of users are told what is wrong with them."""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

import engines
from engines.errors import ManifestError
from engines.manifest import Manifest, config_dir, find, find_streams, names, read
from engines.outputs import FusionDecoder, YoloxDecoder
from engines.recognition import ClipSpec, clip_spec

REPO = Path(__file__).resolve().parents[2]
NANO = REPO / "config/models/yolox-nano.yaml"
KINDS = (
    "'yolox', 'yolov5', 'yolov8', 'yolov10', 'yolov8-seg', 'ssd', 'retinanet', 'rcnn', 'torchvision-maskrcnn', 'flow', "
)
KINDS += "'actions', 'fusion', 'own'"
GOOD = """\
name: mine
task: detect
labels: [cat, dog]
preprocess: {size: [320, 640]}
decoder: yolox
weights: {onnx: {file: mine.onnx}}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def refusal(folder: Path, text: str) -> list[str]:
    """The faults of a manifest, less the name of its folder."""
    with pytest.raises(ManifestError) as caught:
        read(write(folder, text))
    return [line.removeprefix(f"{folder}/") for line in str(caught.value).splitlines()]


# Whose files nobody publishes with both an address and a checksum; and those that users train themselves.
BY_HAND = {"flownets", "flownets-bn", "flownetc", "c3d", "i3d-flow"}
BROUGHT = {"vgg16-spatial", "vgg16-temporal"}
OURS = {name for name in names() if name.endswith("-pico")}  # trained here, and shipped beside their manifests


@pytest.mark.parametrize("name", names())
def test_what_comes_with_us_is_whole(name: str) -> None:
    manifest = find(name)
    assert manifest.name == name
    assert len(set(manifest.labels)) == len(manifest.labels)
    if isinstance(manifest.decoder, FusionDecoder):
        assert [part.name for part in find_streams(manifest)] == [stream.model for stream in manifest.decoder.streams]
        return
    weights = manifest.weights.file
    assert (weights.url is None) == (name in BY_HAND | BROUGHT | OURS)
    assert (weights.page is None) == (name not in BY_HAND)
    assert weights.sha256 or weights.url is None
    assert weights.licence or name in BROUGHT | OURS


@pytest.mark.parametrize("path", sorted((REPO / "config/models").glob("*.yaml")), ids=lambda path: path.stem)
def test_weights_without_an_address_have_a_comment_that_says_why(path: Path) -> None:
    lines = path.read_text().splitlines()
    if "checkpoint:" in path.read_text() and not any(line.lstrip().startswith("url:") for line in lines):
        assert lines[lines.index("  checkpoint:") + 1].lstrip().startswith("# ")


def test_actions_have_the_order_of_the_checkpoints() -> None:
    """As torchvision, pyslowfast's kinetics_classnames.json, c3d-pytorch's labels.txt and UCF101's classInd.txt say."""
    kinetics = find("r3d-18").labels
    assert len(kinetics) == 400
    assert list(kinetics) == sorted(kinetics)
    assert all(find(name).labels == kinetics for name in ("mc3-18", "r2plus1d-18", "slowfast-r50", "two-stream-i3d"))
    told = {"abseiling": 0, "hockey stop": 154, "playing cricket": 227, "sharpening knives": 290, "zumba": 399}
    assert {name: kinetics.index(name) for name in told} == told
    sports, ucf = find("c3d").labels, find("two-stream-vgg16").labels
    assert (len(sports), sports[0], sports.index("tennis"), sports[-1]) == (487, "boomerang", 54, "model aircraft")
    assert (len(ucf), ucf[0], ucf[36], ucf[-1]) == (101, "ApplyEyeMakeup", "HandstandPushups", "YoYo")


@pytest.mark.parametrize(
    ("name", "spec", "weights"),
    [
        ("two-stream-i3d", ClipSpec(64, 25.0, (224, 224), frozenset({"rgb", "flow"})), [1.0, 1.0]),
        ("two-stream-vgg16", ClipSpec(10, 25.0, (224, 224), frozenset({"rgb", "flow"})), [1.0, 1.5]),
    ],
)
def test_two_streams_are_one_model(name: str, spec: ClipSpec, weights: list[float]) -> None:
    manifest = find(name)
    assert clip_spec(manifest) == spec
    assert isinstance(manifest.decoder, FusionDecoder)
    assert [stream.weight for stream in manifest.decoder.streams] == weights
    with pytest.raises(ManifestError, match="no weights of its own"):
        assert manifest.weights.file


def test_yolox_nano_is_what_its_authors_published() -> None:
    nano = find("yolox-nano")
    assert (nano.task, nano.decoder) == ("detect", YoloxDecoder(kind="yolox", strides=(8, 16, 32)))
    assert (nano.preprocess.size, nano.preprocess.align, nano.preprocess.channels) == ((416, 416), "top-left", "bgr")
    assert len(nano.labels) == 80
    assert [nano.labels[i] for i in (0, 1, 2, 9, 79)] == ["person", "bicycle", "car", "traffic light", "toothbrush"]


def test_yolox_nano_names_the_file_that_we_test_with() -> None:
    onnx = REPO / "../shared/models/yolox_nano.onnx"
    if not onnx.exists():
        pytest.skip("needs shared/models/yolox_nano.onnx beside the checkout")
    weights = find("yolox-nano").weights.onnx
    assert weights is not None
    assert hashlib.sha256(onnx.read_bytes()).hexdigest() in (weights.sha256, *weights.also)


def test_a_short_manifest_of_a_user_is_enough(tmp_path: Path) -> None:
    mine = find(str(write(tmp_path, GOOD)))
    assert mine.labels == ("cat", "dog")
    assert mine.preprocess.size == (320, 640)
    assert mine.decoder.kind == "yolox"
    assert mine.folder == tmp_path


def test_labels_may_be_a_list_of_ours_or_a_file_beside_the_manifest(tmp_path: Path) -> None:
    assert len(read(write(tmp_path, GOOD.replace("[cat, dog]", "coco80"))).labels) == 80
    (tmp_path / "pets.txt").write_text("cat\r\nbig dog\n\n")
    assert read(write(tmp_path, GOOD.replace("[cat, dog]", "pets.txt"))).labels == ("cat", "big dog")


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        (
            ("yolox", "yolocks"),
            [f"mine.yaml:5: decoder.kind: must be {KINDS}, not 'yolocks'"],
        ),
        (
            ("task: detect", "task: dtect"),
            ["mine.yaml:2: task: must be 'detect', 'segment', 'flow' or 'recognise', not"],
        ),
        (("size: [320, 640]", "size: big"), ["mine.yaml:4: preprocess.size: must be a list, not 'big'"]),
        (("size: [320, 640]", "size: [0, 640]"), ["mine.yaml:4: preprocess.size[0]: must be greater than 0, not 0"]),
        (("{size", "{algn: center, size"), ["mine.yaml:4: preprocess.algn: unknown key (did you mean 'align'?)"]),
        (("labels: [cat, dog]\n", ""), ["mine.yaml:1: a model that can detect needs labels"]),
        (("[cat, dog]", "coco8"), ["mine.yaml:3: labels: there is no list 'coco8' (did you mean 'coco80'?)"]),
        (("[cat, dog]", "no.txt"), ["mine.yaml:3: labels: "]),
        (("mine.onnx", "a.onnx, url: 'https://x/a.onnx'"), ["mine.yaml:6: weights.onnx: has a url but no sha256"]),
        (("mine.onnx", "a.onnx, url: 'file:///a.onnx'"), ["mine.yaml:6: weights.onnx.url: must match pattern"]),
        (("name: mine", "name: 'my model'"), ["mine.yaml:1: name: must match pattern"]),
        (
            ("weights", "wieghts"),
            ["mine.yaml:6: wieghts: unknown key (did you mean 'weights'?)"],
        ),
        (("decoder: yolox", "name: again"), ["mine.yaml:5: key 'name' is on line 1 already"]),
        (("weights: {onnx: {file: mine.onnx}}\n", ""), ["mine.yaml:1: needs weights"]),
        (("decoder: yolox", "decoder: actions"), ["mine.yaml:1: needs 'clip' with decoder actions"]),
        ((GOOD, ""), ["mine.yaml: must be a mapping, not nothing"]),
        ((GOOD, "\tname"), ["mine.yaml:1: is not YAML"]),
    ],
)
def test_a_fault_is_said_with_its_line(tmp_path: Path, change: tuple[str, str], faults: list[str]) -> None:
    lines = refusal(tmp_path, GOOD.replace(*change))
    assert len(lines) == len(faults)
    for line, fault in zip(lines, faults, strict=True):
        assert line.startswith(fault)


def test_an_empty_label_would_shift_the_others(tmp_path: Path) -> None:
    (tmp_path / "pets.txt").write_text("cat\n\ndog\n")
    (line,) = refusal(tmp_path, GOOD.replace("[cat, dog]", "pets.txt"))
    assert "pets.txt:2: is empty" in line


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(ManifestError, match=r"no model 'yolox-nanno' \(did you mean 'yolox-nano'\?\)"):
        find("yolox-nanno")
    with pytest.raises(ManifestError, match=r"no model 'zzz' \(known: c3d, .*mc3-18"):
        find("zzz")


def test_a_path_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no\.yaml cannot be read: No such file"):
        find("./no.yaml")
    with pytest.raises(ManifestError, match="cannot be read: Is a directory"):
        find(tmp_path)
    (tmp_path / "bin.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="is not text"):
        find(tmp_path / "bin.yaml")


def test_a_manifest_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(find("yolox-nano"), "name", "other")  # noqa: B010 - mypy knows that the plain form is wrong


def test_an_installed_package_prefers_its_own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages/engines"
    (package / "_config/models").mkdir(parents=True)
    (tmp_path / "site-packages/config").mkdir()
    (package / "_config/models/other.yaml").write_text(GOOD)
    monkeypatch.setattr(engines, "__file__", str(package / "__init__.py"))
    assert config_dir() == package / "_config"
    assert names() == ["other"]
    assert isinstance(find("other"), Manifest)


@pytest.mark.parametrize(
    ("said", "meant"), [("yolo11", "yolov8"), ("yolo26", "yolov10"), ("{kind: yolov9, candidates: 50}", "yolov8")]
)
def test_later_networks_are_read_as_those_whose_layout_they_have(tmp_path: Path, said: str, meant: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD.replace("decoder: yolox", f"decoder: {said}"))
    assert read(path).decoder.kind == meant


def test_weights_may_be_a_checkpoint_and_onnx_is_taken_first(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    checkpoint = "checkpoint: {file: mine.pth, key: model}"
    path.write_text(GOOD.replace("onnx: {", "onnx: {").replace("weights: {", f"weights: {{{checkpoint}, "))
    both = read(path)
    assert both.weights.checkpoint is not None
    assert (both.weights.file.file, both.weights.checkpoint.key) == ("mine.onnx", "model")
    path.write_text(GOOD[: GOOD.index("weights")] + f"weights: {{{checkpoint}}}\n")
    assert read(path).weights.file.file == "mine.pth"


def test_weights_that_are_none(tmp_path: Path) -> None:
    assert refusal(tmp_path, GOOD[: GOOD.index("weights")] + "weights: {}\n") == [
        "mine.yaml:6: weights: names neither onnx nor checkpoint: one of them is needed"
    ]


# --- models that are but others together ---

STREAM = """\
name: {name}
task: recognise
labels: [run, jump]
preprocess: {{size: [16, 24]}}
clip: {{length: 4, fps: 10, input: {input}}}
decoder: actions
weights: {{onnx: {{file: {name}.onnx}}}}
"""
PAIR = """\
name: mine
task: recognise
labels: [run, jump]
preprocess: {size: [16, 24]}
decoder: {kind: fusion, streams: [{model: seen.yaml}, {model: moved.yaml, weight: 2}]}
"""


@pytest.fixture
def pair(tmp_path: Path) -> Manifest:
    for name, what in (("seen", "rgb"), ("moved", "flow")):
        (tmp_path / f"{name}.yaml").write_text(STREAM.format(name=name, input=what))
    return read(write(tmp_path, PAIR))


@pytest.mark.parametrize(
    "again",
    [
        copy.copy,
        copy.deepcopy,
        lambda manifest: pickle.loads(pickle.dumps(manifest)),
        lambda manifest: manifest.model_copy(update={"batch": 2}, deep=True),
        lambda manifest: Manifest.model_validate(manifest.model_dump()),
        lambda manifest: Manifest.model_validate_json(manifest.model_dump_json()),
    ],
    ids=["copy", "deepcopy", "pickle", "model_copy", "dump", "json"],
)
def test_a_pair_stays_a_pair_however_it_is_copied(pair: Manifest, again: Callable[[Manifest], Manifest]) -> None:
    copied = Manifest.model_validate(again(pair))
    assert copied.weights.absent
    assert copied.decoder == pair.decoder
    assert Manifest.model_validate(again(find("yolox-nano"))).weights == find("yolox-nano").weights


def test_streams_are_looked_for_beside_the_pair(pair: Manifest, tmp_path: Path) -> None:
    assert [(part.name, part.folder) for part in find_streams(pair)] == [("seen", tmp_path), ("moved", tmp_path)]
    assert [part.name for part in find_streams(find("yolox-nano"))] == ["yolox-nano"]


def test_a_pair_has_no_weights_and_a_network_has_some(tmp_path: Path) -> None:
    weights = "weights: {onnx: {file: mine.onnx}}\n"
    (line,) = refusal(tmp_path, PAIR + weights)
    assert line == "mine.yaml:6: weights: the model is but others together, and needs none: leave it out"
    (line,) = refusal(tmp_path, PAIR.replace("{kind: fusion", "{kind: fussion") + weights)
    assert line.startswith("mine.yaml:5: decoder.kind: ")
    assert read(write(tmp_path, PAIR + "weights: {}\n")).weights.absent


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("[run, jump]", "[jump, run]"), "mine: its stream moved knows other classes, or in another order"),
        (("[16, 24]", "[24, 16]"), "mine: its stream moved looks at clips of 24x16, not 16x24"),
        (("fps: 10", "fps: 25"), "mine: its streams want 10 and 25 samples a second"),
    ],
)
def test_streams_that_do_not_go_together(pair: Manifest, tmp_path: Path, change: tuple[str, str], fault: str) -> None:
    moved = tmp_path / "moved.yaml"
    moved.write_text(moved.read_text().replace(*change))
    with pytest.raises(ManifestError) as caught:
        find_streams(pair)
    assert str(caught.value) == f"{fault}: take streams that go together"


@pytest.mark.parametrize("other", ["mine.yaml", "finds.yaml"])
def test_a_stream_is_a_network_that_looks_at_clips(pair: Manifest, tmp_path: Path, other: str) -> None:
    """Neither a pair, itself even, nor what finds objects."""
    (tmp_path / "finds.yaml").write_text(GOOD.replace("[cat, dog]", "[run, jump]").replace("[320, 640]", "[16, 24]"))
    told = read(write(tmp_path, PAIR.replace("moved.yaml", other)))
    with pytest.raises(ManifestError, match="is no network that looks at clips: name one that recognises actions"):
        find_streams(told)


def test_a_stream_that_is_not_there(pair: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no model 'i3d-rbg' \(did you mean 'i3d-rgb'\?\)"):
        find_streams(read(write(tmp_path, PAIR.replace("seen.yaml", "i3d-rbg"))))
    with pytest.raises(ManifestError, match=r"away\.yaml cannot be read"):
        find_streams(read(write(tmp_path, PAIR.replace("seen.yaml", "away.yaml"))))

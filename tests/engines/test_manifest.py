"""Manifests: those that come with us are right, and those of users are told what is wrong with them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import engines
from engines.errors import ManifestError
from engines.manifest import Manifest, YoloxDecoder, config_dir, find, names, read

REPO = Path(__file__).resolve().parents[2]
NANO = REPO / "config/models/yolox-nano.yaml"
KINDS = "'yolox', 'yolov5', 'yolov8', 'yolov10', 'yolov8-seg', 'ssd', 'retinanet', 'rcnn', 'torchvision-maskrcnn'"
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


@pytest.mark.parametrize("name", names())
def test_what_comes_with_us_is_whole(name: str) -> None:
    manifest = find(name)
    assert manifest.name == name
    assert manifest.weights.file.sha256
    assert manifest.weights.file.url
    assert manifest.weights.file.licence
    assert len(set(manifest.labels)) == len(manifest.labels)


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
            ["mine.yaml:1: weights: is missing", "mine.yaml:6: wieghts: unknown key (did you mean"],
        ),
        (("decoder: yolox", "name: again"), ["mine.yaml:5: key 'name' is on line 1 already"]),
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
    with pytest.raises(ManifestError, match=r"no model 'zzz' \(known: .*yolox-nano"):
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

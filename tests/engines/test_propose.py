"""What is proposed for exports of every family, and which files are refused with what words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import bodies
import numpy as np
import onnx
import pytest
import rcnns
from bodies import Body
from onnx import TensorProto, helper
from rcnns import Rcnn
from still import still

from engines.build.propose import Proposal, propose
from engines.errors import BuildError, EngineError, ModelError
from engines.manifest import find, names
from engines.types import Array

NAMES = "{0: 'cat', 1: 'dog', 2: 'a \"big\" cow'}"
LABELS = ["cat", "dog", "cow"]


def saved(folder: Path, body: Body) -> Path:
    onnx.save(bodies.make(body), folder / "mine.onnx")
    return folder / "mine.onnx"


def shaped(folder: Path, *outputs: tuple[int | str, ...], image: tuple[int | str, ...] = (1, 3, 64, 96)) -> Path:
    """Save a network that is nothing but its outputs' shapes."""
    values = [helper.make_tensor_value_info(f"out{i}", TensorProto.FLOAT, shape) for i, shape in enumerate(outputs)]
    nodes = [
        helper.make_node("RandomNormal", [], [f"out{i}"], shape=[n if isinstance(n, int) else 1 for n in shape])
        for i, shape in enumerate(outputs)
    ]
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, image)
    graph = helper.make_graph(nodes, "shapes", [given], values)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), folder / "mine.onnx")
    return folder / "mine.onnx"


@pytest.mark.parametrize("kind", ["yolov5", "yolov8", "yolov10"])
def test_an_export_that_names_its_classes_needs_nothing_else(kind: str, tmp_path: Path) -> None:
    found = propose(saved(tmp_path, Body(kind, metadata={"names": NAMES, "task": "detect"})))
    assert (found.decoder, found.labels) == (kind, ("cat", "dog", 'a "big" cow'))
    assert (found.preprocess.size, found.preprocess.channels, found.preprocess.align) == ((64, 96), "rgb", "center")
    assert found.preprocess.std == (255, 255, 255)
    assert "output0" in found.reasons["decoder"]


def test_yolox_is_fed_as_yolox_does(tmp_path: Path) -> None:
    told = propose(saved(tmp_path, Body("yolox")), "yolox", LABELS).preprocess
    assert (told.channels, told.align, told.pad, told.std) == ("bgr", "top-left", 114, (1, 1, 1))


def test_one_box_a_cell_may_be_two_families(tmp_path: Path) -> None:
    path = saved(tmp_path, Body("yolox"))
    with pytest.raises(BuildError, match=r"--decoder which it is: yolox .*in cells.*yolov5 .*in pixels"):
        propose(path, None, LABELS)
    assert propose(path, "yolov5", LABELS).decoder == "yolov5"


@pytest.mark.parametrize(
    ("said", "meant"), [("yolov7", "yolov5"), ("YOLO11", "yolov8"), ("yolov9", "yolov8"), ("yolo26", "yolov10")]
)
def test_networks_are_known_by_their_own_names_too(said: str, meant: str, tmp_path: Path) -> None:
    assert propose(saved(tmp_path, Body(meant)), said, LABELS).decoder == meant


@pytest.mark.parametrize(("batch", "any_batch"), [(1, False), ("batch", True)])
def test_the_batch(batch: int | str, any_batch: bool, tmp_path: Path) -> None:
    assert propose(saved(tmp_path, Body("yolov8", batch=batch)), None, LABELS).any_batch is any_batch


def test_the_size_of_a_network_that_takes_any(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="say which with --size"):
        propose(saved(tmp_path, Body("yolov8", any_size=True)), None, LABELS)
    assert propose(tmp_path / "mine.onnx", None, LABELS, (96, 128)).preprocess.size == (96, 128)
    named = saved(tmp_path, Body("yolov8", any_size=True, metadata={"imgsz": "[64, 64]", "names": NAMES}))
    assert propose(named).preprocess.size == (64, 64)
    assert propose(named, size=(64, 96)).preprocess.size == (64, 96)


def test_another_size_than_its_only_one(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="is for 64x96 alone"):
        propose(saved(tmp_path, Body("yolov8")), None, LABELS, (640, 640))


def test_labels_that_are_given_win_over_those_inside(tmp_path: Path) -> None:
    path = saved(tmp_path, Body("yolov8", metadata={"names": NAMES}))
    assert propose(path, None, LABELS).labels == tuple(LABELS)


@pytest.mark.parametrize("count", [1, 2, 4, 80])
@pytest.mark.parametrize("kind", ["yolox", "yolov5", "yolov8"])
def test_as_many_labels_as_classes(kind: str, count: int, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=f"has {count} labels, but .* has 3 classes"):
        propose(saved(tmp_path, Body(kind)), kind, ["x"] * count)


def test_no_labels_at_all_says_how_many(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="give their labels with --labels, 3 of them"):
        propose(saved(tmp_path, Body("yolov8")))


@pytest.mark.parametrize(
    "names", ["{0: 'a', 2: 'b', 3: 'c'}", "__import__('os').getcwd()", "{", "[]", "3", "[''] * 3", "(" * 5000]
)
def test_names_that_are_none_are_not_believed(names: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="does not name its classes"):
        propose(saved(tmp_path, Body("yolov8", metadata={"names": names})))


@pytest.mark.parametrize("task", ["classify", "pose", "obb"])
def test_other_tasks_are_refused_by_name(task: str, tmp_path: Path) -> None:
    path = saved(tmp_path, Body("yolov8", metadata={"task": task, "names": NAMES}))
    with pytest.raises(BuildError, match=rf"task '{task}'.*yolox, yolov5, yolov8, yolov10, yolov8-seg"):
        propose(path, "yolov8")


SEGMENTER = Body("yolov8", extra=("masks",), metadata={"names": NAMES, "task": "segment"})


def test_a_segmenter_needs_nothing_else(tmp_path: Path) -> None:
    found = propose(saved(tmp_path, SEGMENTER))
    assert (found.task, found.decoder, found.labels[0]) == ("segment", "yolov8-seg", "cat")
    assert found.preprocess.std == (255, 255, 255)
    assert "'output1'" in found.reasons["decoder"]


def test_masks_that_are_not_there(tmp_path: Path) -> None:
    path = saved(tmp_path, replace(SEGMENTER, extra=()))
    with pytest.raises(BuildError, match=r"'segment', as its metadata says, but gives .*yolov8 has no masks"):
        propose(path)


def test_a_segmenter_is_no_detector_of_more_classes(tmp_path: Path) -> None:
    path = saved(tmp_path, replace(SEGMENTER, metadata={"names": NAMES}))
    with pytest.raises(BuildError, match=r"3 labels, but as yolov8 .* has 35 classes.*looks like yolov8-seg"):
        propose(path, "yolov8")
    with pytest.raises(BuildError, match=r"80 labels, but as yolov8-seg .* has 3 classes.*--decoder$"):
        propose(path, None, ["x"] * 80)


@pytest.mark.parametrize(
    ("kind", "task", "mean", "why"),
    [
        (Rcnn(), "segment", 0, "for a mean is taken off inside"),
        (Rcnn(batch=(1,)), "segment", 0, "RGB, 0 to 1"),
        (Rcnn(masks="none"), "detect", 0, "for a mean is taken off inside"),
        (Rcnn(masks="none", normalised=False), "detect", 0, "which is assumed"),
        (Rcnn(masks="box", normalised=False, names=("6568", "6570", "6572", "6887")), "segment", 102.9801, "model zoo"),
    ],
)
def test_networks_that_find_objects_by_themselves(kind: Rcnn, task: str, mean: float, why: str, tmp_path: Path) -> None:
    onnx.save(rcnns.make(kind), tmp_path / "mine.onnx")
    found = propose(tmp_path / "mine.onnx", None, rcnns.CLASSES)
    assert (found.decoder, found.task, found.any_batch) == ("torchvision-maskrcnn", task, False)
    assert (found.preprocess.size, found.preprocess.mean[0]) == ((96, 128), mean)
    assert why in found.reasons["pixels"]
    assert found.preprocess.channels == ("bgr" if mean else "rgb")


def test_such_a_network_for_images_of_any_size(tmp_path: Path) -> None:
    onnx.save(rcnns.make(Rcnn(size=("height", "width"))), tmp_path / "mine.onnx")
    with pytest.raises(BuildError, match=r"'image', float \(3, \?, \?\) takes images of any size"):
        propose(tmp_path / "mine.onnx", "torchvision-fasterrcnn", rcnns.CLASSES)
    assert propose(tmp_path / "mine.onnx", None, rcnns.CLASSES, (96, 128)).preprocess.size == (96, 128)
    with pytest.raises(BuildError, match=r"the first for the background, .* such as coco91"):
        propose(tmp_path / "mine.onnx", None, None, (96, 128))


def ssd(folder: Path, scores: Array, boxes: Array, size: tuple[int, int] = (300, 300)) -> Path:
    onnx.save(still({"scores": scores, "boxes": boxes}, size), folder / "mine.onnx")
    return folder / "mine.onnx"


def random(*shape: int) -> Array:
    return np.random.default_rng(1).normal(0, 1, shape).astype(np.float32)


def softmax(logits: Array) -> Array:
    shares: Array = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return shares


CORNERS = np.sort(np.random.default_rng(2).uniform(0, 1, (8732, 2, 2)), 1).reshape(-1, 4)


def test_an_ssd_that_decodes_its_boxes(tmp_path: Path) -> None:
    count = 3000
    found = propose(ssd(tmp_path, softmax(random(count, 4)), CORNERS[:count]), None, ["none", *LABELS])
    assert (found.decoder, found.settings) == ("ssd", {"scores": "probabilities", "boxes": "shares"})
    assert (found.preprocess.resize, found.preprocess.std[0]) == ("stretch", 128)
    assert "assumed" in found.reasons["pixels"]
    pixels = propose(ssd(tmp_path, random(count, 4), CORNERS[:count] * 300), None, ["none", *LABELS])
    assert pixels.settings == {"boxes": "pixels"}


def test_an_ssd_that_says_how_far_its_boxes_are_from_default_ones(tmp_path: Path) -> None:
    known = [each for each in names() if each == "ssd300-vgg16"]
    if not known:
        pytest.skip("needs the manifest ssd300-vgg16 among those that come with us")
    found = propose(ssd(tmp_path, random(8732, 4), random(8732, 4)[:, ::-1]), "ssd", ["none", *LABELS])
    assert (found.settings, found.preprocess) == ({}, find("ssd300-vgg16").preprocess)
    assert "ssd300-vgg16" in found.reasons["decoder"]


def test_default_boxes_that_nobody_knows(tmp_path: Path) -> None:
    path = ssd(tmp_path, random(3000, 4), random(3000, 4))
    with pytest.raises(BuildError, match="which boxes these are is not in the file"):
        propose(path, None, ["none", *LABELS])


def test_labels_of_an_ssd_begin_with_the_background(tmp_path: Path) -> None:
    path = ssd(tmp_path, softmax(random(3000, 5)), CORNERS[:3000])
    with pytest.raises(BuildError, match=r"has 4 labels, .* put one for the background before them"):
        propose(path, None, ["x"] * 4)


def test_anchors_of_a_retinanet(tmp_path: Path) -> None:
    count = 9 * sum(n * m for n, m in ((8, 12), (4, 6), (2, 3), (1, 2), (1, 1)))
    path = shaped(tmp_path, (1, count, 91), (1, count, 4))
    found = propose(path, None, ["x"] * 91)
    assert (found.decoder, found.preprocess.std) == ("retinanet", (58.395, 57.12, 57.375))


PUBLIC = (1, 3, 640, 640)


@pytest.mark.parametrize(
    ("outputs", "labels", "decoder"),
    [
        ([(1, 84, 8400)], 80, "yolov8"),
        ([(1, 5, 8400)], 1, "yolov8"),
        ([(1, 6, 8400)], 2, "yolov8"),
        ([("batch", 84, "anchors")], None, None),  # the number of boxes says which
        ([(1, 25200, 85)], 80, "yolov5"),
        ([(1, 25200, 6)], 1, "yolov5"),
        ([(1, 25200, 85), (1, 3, 80, 80, 85), (1, 3, 40, 40, 85), (1, 3, 20, 20, 85)], 80, "yolov5"),
        ([(1, 25500, 85)], 80, "yolov5"),  # a fourth level at stride 64
        ([(1, 300, 6)], 80, "yolov10"),
        ([(1, 100, 6)], 3, "yolov10"),
    ],
)
def test_public_layouts(outputs: list[Any], labels: int | None, decoder: str | None, tmp_path: Path) -> None:
    path = shaped(tmp_path, *outputs, image=PUBLIC)
    if decoder is None:
        with pytest.raises(BuildError, match="no decoder is known"):
            propose(path, None, ["x"] * 80)
    else:
        assert propose(path, None, ["x"] * (labels or 80)).decoder == decoder


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        ([(1, 1000)], "looks like classification"),
        ([(1, 3, 80, 80, 85), (1, 3, 40, 40, 85)], "bare maps"),
        ([(1, 300, 84)], "no decoder is known"),
        ([(1, 300, 38), (1, 32, 160, 160)], "segmentation of a kind without a decoder"),
        ([(1, 25200, 117), (1, 32, 160, 160)], "segmentation of a kind without a decoder"),
        ([(5, 4), (5,), (5,)], "no decoder is known"),  # labels that are no integers
        ([(1, 300, 4), (1, 300, 80)], "no decoder is known"),
        ([(1, 8400, 84)], "turned around"),
    ],
)
def test_outputs_of_networks_that_cannot_be_brought(outputs: list[Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=reason):
        propose(shaped(tmp_path, *outputs, image=PUBLIC), "yolov5" if reason == "turned around" else None, ["x"] * 80)


@pytest.mark.parametrize(
    ("decoder", "body"), [("yolov8", "yolov5"), ("yolov5", "yolov8"), ("yolox", "yolov5"), ("yolov10", "yolov8")]
)
def test_a_decoder_that_cannot_be(decoder: str, body: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=rf"but {decoder} gives .*looks like {body}"):
        propose(saved(tmp_path, Body(body)), decoder, LABELS)


def test_an_unusual_number_of_boxes_is_taken_at_the_users_word(tmp_path: Path) -> None:
    path = shaped(tmp_path, (1, 7, 1000))
    with pytest.raises(BuildError, match="no decoder is known"):
        propose(path, None, LABELS)
    assert propose(path, "yolov8", LABELS).decoder == "yolov8"


def test_an_unknown_decoder(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="did you mean 'yolov8'"):
        propose(saved(tmp_path, Body("yolov8")), "yolo_v8", LABELS)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (Body("yolov8", extra=("input",)), "2 inputs"),
        (Body("yolov8", batch=4), "4 images at a time"),
    ],
)
def test_inputs_that_no_image_feeds(body: Body, reason: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=reason):
        propose(saved(tmp_path, body), None, LABELS)


@pytest.mark.parametrize("image", [(1, 64, 96, 3), (1, 1, 64, 96), (1, 12)])
def test_inputs_of_another_shape(image: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="is not float images"):
        propose(shaped(tmp_path, (1, 7, 126), image=image), None, LABELS)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a checkpoint", b"\x00" * 100])
def test_files_that_are_no_networks(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"mine\.onnx is (empty|no ONNX network)"):
        propose(path)


def test_a_truncated_file(tmp_path: Path) -> None:
    path = saved(tmp_path, Body("yolov8"))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ModelError, match="is no ONNX network"):
        propose(path, None, LABELS)


@pytest.mark.parametrize("name", ["absent.onnx", ".", "weights.pt"])
def test_paths_that_are_no_onnx_files(name: str, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"x")
    with pytest.raises(EngineError) as caught:
        propose(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_reasons_are_one_line_each(tmp_path: Path) -> None:
    found: Proposal = propose(
        saved(tmp_path, Body("yolov8", image="a\nb", metadata={"names": NAMES, "description": "two\nlines"}))
    )
    assert "two lines" in found.reasons["weights"]

"""`streamer eval` of a segmenter: boxes, masks and the labels of pixels, each measured by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import networks
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.rle import encode
from engines.types import Array
from streamer.cli import DONE, WRONG_INPUT, main

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'streamer[onnxruntime]'")
pytest.importorskip("pycocotools", reason="needs pycocotools: pip install 'streamer[eval]'")

SIZE, CELL = 64, 16
Json = dict[str, Any]


def bright_shapes(path: Path) -> Path:
    """Write a network with the outputs of yolov8-seg: a cell is "bright" with the mean of its blue channel as score.

    Its box is the cell, and its mask what is blue there: the one prototype is the blue channel, as a logit.
    """
    cells = SIZE // CELL
    middle = (np.arange(cells) + 0.5) * CELL
    boxes = np.full((1, 4, cells, cells), CELL, np.float32)
    boxes[0, 0], boxes[0, 1] = middle[None, :], middle[:, None]
    weights: dict[str, Array] = {
        "blue": np.array([0, 0, 1 / 255], np.float32).reshape(1, 3, 1, 1),
        "boxes": boxes,
        "steep": np.array(20, np.float32),
        "half": np.array(0.5, np.float32),
        "nothing": np.array(0, np.float32),
        "shape": np.array([0, 7, -1], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["images", "blue"], ["channel"]),
        helper.make_node("AveragePool", ["channel"], ["score"], kernel_shape=[CELL] * 2, strides=[CELL] * 2),
        helper.make_node("Mul", ["score", "nothing"], ["dark"]),
        helper.make_node("Exp", ["dark"], ["coefficient"]),  # one everywhere
        helper.make_node("Mul", ["coefficient", "boxes"], ["placed"]),  # as many as there are images
        helper.make_node("Concat", ["placed", "score", "dark", "coefficient"], ["table"], axis=1),
        helper.make_node("Reshape", ["table", "shape"], ["output0"]),
        helper.make_node("Sub", ["channel", "half"], ["centred"]),
        helper.make_node("Mul", ["centred", "steep"], ["output1"]),
    ]
    outputs: dict[str, list[int | str]] = {"output0": ["n", 7, cells**2], "output1": ["n", 1, SIZE, SIZE]}
    graph = helper.make_graph(
        nodes,
        "bright_shapes",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return networks.save(graph, path)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bright_shapes(tmp_path / "shapes.onnx")
    path = tmp_path / "shapes.yaml"
    path.write_text(
        "name: shapes\ntask: segment\nlabels: [bright, dark]\n"
        f"preprocess: {{size: [{SIZE}, {SIZE}], align: top-left}}\n"
        "decoder: yolov8-seg\nweights: {onnx: {file: shapes.onnx}}\n"
    )
    return str(path)


IMAGES = [(5, "a.png"), (2, "b.png")]
TRAPEZE = [17, 17, 31, 17, 31, 31, 24, 31]  # in the cell from 16, 16: less than the box, which is the cell


@pytest.fixture
def data(tmp_path: Path) -> Json:
    """One picture with a trapeze, one with nothing."""
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    cv2.fillPoly(pixels, [np.array(TRAPEZE, np.int32).reshape(-1, 2)], (255, 0, 0))  # BGR
    for name, image in (("a.png", pixels), ("b.png", np.zeros_like(pixels))):
        cv2.imwrite(str(tmp_path / name), image)
    rle = {"size": [SIZE, SIZE], "counts": encode(pixels[..., 0] > 0).counts.decode()}
    shape = {"segmentation": rle, "bbox": [16, 16, 16, 16], "area": 147, "iscrowd": 0}
    return {
        "images": [{"id": i, "file_name": name, "height": SIZE, "width": SIZE} for i, name in IMAGES],
        "annotations": [{"id": 1, "image_id": 5, "category_id": 3, **shape}],
        "categories": [{"id": 3, "name": "bright"}, {"id": 1, "name": "dark"}],
    }


def run(model: str, data: Json, folder: Path, *words: str) -> tuple[int, Json]:
    (folder / "a.json").write_text(json.dumps(data))
    out = folder / "out.json"
    told = ["--coco", str(folder / "a.json"), "--images", str(folder), "--json", str(out), "--runtime", "onnxruntime"]
    code = main(["eval", model, *told, *words])
    return code, json.loads(out.read_text() or "{}")


def test_masks_are_measured_beside_boxes(
    model: str, data: Json, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    png, found = tmp_path / "e.png", tmp_path / "f.json"
    code, told = run(model, data, tmp_path, "--plot", str(png), "--found", str(found))
    out, err = capsys.readouterr()
    assert code == DONE, err
    assert told["boxes"]["ap"] == pytest.approx(1)
    assert told["masks"]["ap75"] == pytest.approx(1)
    assert 0.5 < told["masks"]["ap"] < 1  # masks are painted to whole pixels, and reach over the edge by one
    assert told["pixels"]["pixel_accuracy"] > 0.98
    background, dark, bright = told["pixels"]["classes"]
    assert (background["name"], dark["iou"]) == ("background", None)
    assert bright["iou"] > 0.8
    assert "mean Dice" in out
    assert "masks AP50" in out
    assert png.read_bytes().startswith(b"\x89PNG")
    (row,) = json.loads(found.read_text())
    assert row["segmentation"]["size"] == [SIZE, SIZE]


def test_a_wrong_mask_in_the_right_box(model: str, data: Json, tmp_path: Path) -> None:
    data["annotations"][0]["segmentation"] = [[16, 24, 24, 16, 24, 32, 16, 32]]  # the other half of the cell
    code, told = run(model, data, tmp_path)
    assert code == DONE
    assert (told["boxes"]["ap"], told["masks"]["ap50"]) == (pytest.approx(1), 0)
    assert told["pixels"]["classes"][2]["iou"] < 0.3


def test_crowds_count_neither_way(model: str, data: Json, tmp_path: Path) -> None:
    pixels = cv2.imread(str(tmp_path / "a.png"))
    assert pixels is not None
    cv2.rectangle(pixels, (34, 34), (45, 45), (255, 0, 0), -1)
    cv2.imwrite(str(tmp_path / "b.png"), pixels[::-1])
    runs = {"size": [SIZE, SIZE], "counts": [0, SIZE * SIZE]}
    data["annotations"].append({**data["annotations"][0], "image_id": 2, "segmentation": runs, "iscrowd": 1,
                                "bbox": [0, 0, SIZE, SIZE], "area": SIZE * SIZE})  # fmt: skip
    code, told = run(model, data, tmp_path)
    assert code == DONE
    assert (told["objects"], told["crowds"]) == (1, 1)
    assert (told["masks"]["ap50"], told["voc"]["ap_all_points"]) == (pytest.approx(1), pytest.approx(1))
    assert told["pixels"]["pixel_accuracy"] > 0.98


def test_only_boxes_when_that_is_asked_or_all_there_is(
    model: str, data: Json, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "masks" not in run(model, data, tmp_path, "--masks", "no")[1]
    data["annotations"][0]["segmentation"] = []
    code, told = run(model, data, tmp_path)
    assert (code, "masks" in told, "pixels" in told) == (DONE, False, False)
    said = " ".join(capsys.readouterr().err.split())
    assert "1 of 1 objects have no segmentation, so only boxes are measured" in said


def test_a_damaged_mask_is_found_out_before_anything_is_measured(
    model: str, data: Json, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data["annotations"][0]["segmentation"] = {"size": [1, 2], "counts": [2]}
    assert run(model, data, tmp_path)[0] == WRONG_INPUT
    out, err = capsys.readouterr()
    assert "the segmentation of an object in image 5 is neither polygons nor an RLE" in err
    assert out == ""

"""`streamer eval` as its user meets it: real images, a real network, COCO annotations right and wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import networks
import numpy as np
import pytest

from engines.types import Image
from streamer.cli import DONE, WRONG_INPUT, main

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'streamer[onnxruntime]'")
pytest.importorskip("pycocotools", reason="needs pycocotools: pip install 'streamer[eval]'")

Run = Callable[..., tuple[int, str, str]]
Json = dict[str, Any]
SHARED = Path(__file__).resolve().parents[2] / "../shared"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The manifest of a network that finds blue squares; it knows "bright" and "dark"."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return networks.manifest(tmp_path)


def square(image: int, x: int, y: int, side: int = 8, category: int = 7) -> Json:
    box = [x, y, side, side]
    return {"image_id": image, "category_id": category, "bbox": box, "area": side * side, "iscrowd": 0}


class Folder:
    """A data set of 64 x 64 pictures with blue squares, in folders of its own."""

    def __init__(self, root: Path) -> None:
        self.root, self.path = root / "pictures", root / "annotations.json"
        self.data: Json = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 7, "name": "Bright"}, {"id": 900, "name": "dark"}],
        }

    def picture(self, image: int, *squares: Json) -> None:
        """Add a picture that shows these; what is annotated beside is not to be seen."""
        pixels = np.zeros((64, 64, 3), np.uint8)
        for each in squares:
            x, y, width, height = each["bbox"]
            pixels[y : y + height, x : x + width, 0] = 255  # OpenCV writes BGR
        name = f"{image % 2}/{image}.png"
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(self.root / name), pixels)
        self.data["images"].append({"id": image, "file_name": name, "height": 64, "width": 64})
        self.annotate(*squares)

    def annotate(self, *objects: Json) -> None:
        for each in objects:
            self.data["annotations"].append({"id": len(self.data["annotations"]), **each})

    def write(self) -> list[str]:
        self.path.write_text(json.dumps(self.data))
        return ["--coco", str(self.path), "--images", str(self.root)]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Three pictures: a square, none, and a square with another object that the network does not see."""
    made = Folder(tmp_path)
    made.picture(501, square(501, 8, 8))
    made.picture(12)
    made.picture(40, square(40, 16, 40))
    return made


@pytest.fixture
def evaluate(model: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: object, on: str = "onnxruntime") -> tuple[int, str, str]:
        told = ["--runtime", on] if on else []
        code = main(["eval", str(model), *told, *(str(word) for word in words)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, " ".join(err.split())

    return call


def results(path: Path) -> Json:
    """Read JSON as a strict reader does, which knows no NaN."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    loaded: Json = json.loads(path.read_text(), parse_constant=refuse)
    return loaded


def test_what_is_found_as_it_is_scores_one(evaluate: Run, folder: Folder, tmp_path: Path) -> None:
    code, out, err = evaluate(*folder.write(), "--json", tmp_path / "e.json", "--plot", tmp_path / "e.png")
    assert code == DONE, err
    told = results(tmp_path / "e.json")
    assert (told["images"], told["objects"]) == (3, 2)
    assert told["boxes"]["ap"] == pytest.approx(1)
    assert told["boxes"]["ap_small"] == pytest.approx(1)
    assert told["boxes"]["ap_large"] is None  # there are no large objects
    assert told["voc"]["ap_11_points"] == pytest.approx(1)
    assert [each["objects"] for each in told["boxes"]["classes"]] == [2, 0]
    assert "masks" not in told
    assert "AP 0.50:0.95" in out
    assert "VOC AP, 11 points" in out
    assert "3 of 3 frames" in err
    assert (tmp_path / "e.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_missed_costs(evaluate: Run, folder: Folder, tmp_path: Path) -> None:
    folder.annotate(square(40, 0, 0), square(12, 0, 0, side=50, category=900))
    assert evaluate(*folder.write(), "--json", tmp_path / "e.json")[0] == DONE
    bright, dark = results(tmp_path / "e.json")["boxes"]["classes"]
    assert bright["ap50"] == pytest.approx(67 / 101)  # recall 0, 0.01 … 0.66 is reached, with precision 1
    assert dark["ap50"] == 0


def test_what_was_found_gives_the_same_figures_elsewhere(evaluate: Run, folder: Folder, tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    folder.annotate(square(40, 0, 0), square(501, 9, 9))
    for number, each in enumerate(folder.data["annotations"]):
        each["id"] = number + 1  # pycocotools takes a match with number nought for none
    found, told = tmp_path / "found.json", tmp_path / "e.json"
    assert evaluate(*folder.write(), "--found", found, "--json", told)[0] == DONE
    with redirect_stdout(StringIO()):
        truth = COCO(str(folder.path))
        evaluation = COCOeval(truth, truth.loadRes(str(found)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    boxes = results(told)["boxes"]
    assert [boxes["ap"], boxes["ap50"], boxes["ar1"], boxes["ar100"]] == pytest.approx(
        [evaluation.stats[i] for i in (0, 1, 6, 8)], abs=1e-6
    )


def test_only_the_first_images(evaluate: Run, folder: Folder, tmp_path: Path) -> None:
    folder.data["images"].append({"id": 999, "file_name": "absent.png", "height": 64, "width": 64})
    assert evaluate(*folder.write(), "--limit", 2, "--json", tmp_path / "e.json")[0] == DONE
    told = results(tmp_path / "e.json")
    assert (told["images"], told["objects"]) == (2, 1)  # 12 and 40


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_batches_change_nothing(evaluate: Run, folder: Folder, tmp_path: Path, batch: int) -> None:
    out = tmp_path / "found.json"
    assert evaluate(*folder.write(), "--batch", batch, "--found", out, on="openvino")[0] == DONE
    sure = {each["image_id"]: each["bbox"] for each in json.loads(out.read_text()) if each["score"] > 0.9}
    assert sure == {501: pytest.approx([8, 8, 8, 8], abs=0.1), 40: pytest.approx([16, 40, 8, 8], abs=0.1)}


def test_the_doubtful_are_left_out_when_asked(evaluate: Run, folder: Folder, tmp_path: Path) -> None:
    few, many = tmp_path / "few.json", tmp_path / "many.json"
    evaluate(*folder.write(), "--confidence", 0.9, "--found", few)
    evaluate(*folder.write(), "--nms", "none", "--found", many)
    assert len(json.loads(few.read_text())) == 2
    assert len(json.loads(many.read_text())) == 6  # each square in cells of three sizes


def test_more_is_looked_at_than_in_a_pipeline(evaluate: Run, tmp_path: Path) -> None:
    networks.manifest(tmp_path, size=160)  # with 525 cells, where a pipeline takes the best 300
    folder = Folder(tmp_path)
    folder.picture(1, square(1, 0, 0, side=64))
    cv2.imwrite(str(folder.root / "1/1.png"), np.full((160, 160, 3), 255, np.uint8))
    folder.data["images"][0] |= {"height": 160, "width": 160}
    out = tmp_path / "found.json"
    for words, count in (((), 525), (("--candidates", 400), 400)):
        assert evaluate(*folder.write(), "--nms", "none", "--found", out, *words)[0] == DONE
        assert len(json.loads(out.read_text())) == count


def test_names_that_are_in_one_of_both_are_told(evaluate: Run, folder: Folder) -> None:
    folder.data["categories"][1]["name"] = "car"
    folder.annotate(square(12, 0, 0, category=900))
    code, out, err = evaluate(*folder.write())
    assert code == DONE
    assert "left out of what bright finds: dark" in err
    assert "has no label for car, which counts as never found" in err
    assert "car" in out


# --- wrong on purpose ---


def refused(run: tuple[int, str, str]) -> str:
    """The one complaint of a run that found its input wrong and measured nothing."""
    code, out, err = run
    assert (code, out) == (WRONG_INPUT, "")
    assert err.count("streamer: ") == 1
    return err


def test_there_must_be_something_to_measure_against(evaluate: Run, folder: Folder) -> None:
    assert "give --coco annotations.json and --images DIR" in refused(evaluate())
    assert "--images DIR" in refused(evaluate(*folder.write()[:2]))


def test_annotations_that_cannot_be_read(evaluate: Run, folder: Folder, tmp_path: Path) -> None:
    words = folder.write()
    folder.path.unlink()
    assert f"{folder.path} cannot be read (No such file" in refused(evaluate(*words))
    folder.path.write_text("{]")
    assert "holds no COCO annotations of objects (invalid JSON" in refused(evaluate(*words))
    folder.path.write_text('[{"image_id": 1}]')
    assert "holds no COCO annotations of objects" in refused(evaluate(*words))
    folder.path.write_text('{"images": [], "annotations": [{"image_id": 1, "caption": "a cat"}]}')
    assert "annotations.0.category_id: field required" in refused(evaluate(*words))


def test_annotations_of_nothing(evaluate: Run, folder: Folder) -> None:
    assert "no object is annotated in the first 1 images" in refused(evaluate(*folder.write(), "--limit", 1))
    folder.data["annotations"] = [square(501, 0, 0) | {"iscrowd": 1}]
    assert "no object is annotated in" in refused(evaluate(*folder.write()))


def test_images_that_are_missing_are_counted(evaluate: Run, folder: Folder) -> None:
    words = folder.write()
    for image in (12, 40):
        (folder.root / f"0/{image}.png").unlink()
    assert "2 of 3 images are not in" in (complaint := refused(evaluate(*words)))
    assert "the first of them 0/12.png" in complaint
    assert "there is no folder" in refused(evaluate(*words[:3], folder.root / "absent"))


def test_an_image_that_is_damaged(evaluate: Run, folder: Folder) -> None:
    words = folder.write()
    (folder.root / "0/40.png").write_bytes(b"\x89PNG and nothing else")
    assert "40.png is damaged or not an image" in refused_while_running(evaluate(*words))


def test_an_image_that_is_not_the_one_that_was_annotated(evaluate: Run, folder: Folder) -> None:
    folder.data["images"][2] |= {"width": 100}
    assert "40.png is 64 x 64, but its annotations are for 100 x 64" in refused_while_running(
        evaluate(*folder.write(), on="openvino")
    )


def refused_while_running(run: tuple[int, str, str]) -> str:
    code, out, err = run
    assert (code, out) == (WRONG_INPUT, "")
    return err


def test_no_class_in_common(evaluate: Run, folder: Folder) -> None:
    folder.data["categories"] = [{"id": 7, "name": "cat"}]
    assert "no label of the model (bright, dark) is among the categories (cat)" in refused(evaluate(*folder.write()))


def test_results_that_could_not_be_written(evaluate: Run, folder: Folder, tmp_path: Path) -> None:
    for option in ("--json", "--plot", "--found"):
        assert "cannot be written" in refused(evaluate(*folder.write(), option, tmp_path / "absent" / "x"))


@pytest.mark.parametrize(
    ("words", "told"),
    [(["--clips", "d"], "--clips"), (["--flow", "d", "--views", "3"], "--flow and --views")],
)
def test_words_for_models_of_another_kind(evaluate: Run, words: list[str], told: str) -> None:
    complaint = refused(evaluate(*words))
    assert "bright.yaml finds objects" in complaint
    assert f"is not measured with {told}: leave that out" in complaint


def test_models_and_weights_that_are_not_there(folder: Folder, evaluate: Run) -> None:
    assert main(["eval", "yolox-nan", *folder.write()]) == WRONG_INPUT
    code, _, err = evaluate(*folder.write(), "--weights", "absent.onnx")
    assert (code, "there is no weights file absent.onnx" in err) == (WRONG_INPUT, True)


@pytest.mark.parametrize("words", [["--confidence", "2"], ["--iou", "x"], ["--limit", "0"], ["--nms", "best"]])
def test_wrong_words_are_refused_at_once(model: Path, words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["eval", str(model), *words])
    assert ended.value.code == WRONG_INPUT


def test_what_measuring_needs_is_said(evaluate: Run, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.cli.eval.objects.find_spec", lambda name: None)
    code, _, err = evaluate(*folder.write(), "--plot", "p.png")
    assert code == WRONG_INPUT
    assert "measuring needs pycocotools and matplotlib: pip install 'streamer[eval]'" in err


def test_help_needs_nothing() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['pycocotools', 'torch', 'onnxruntime', 'matplotlib']))\n"
        "import streamer.cli.eval.objects, streamer.cli.eval.flow, streamer.cli.eval.actions"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- a public model ---


def test_a_detector_agrees_with_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """YOLOX-nano on a street, with what it finds there in fp32 as the truth."""
    weights, video = SHARED / "models/yolox_nano.onnx", SHARED / "media/street.mp4"
    if not (weights.is_file() and video.is_file()):
        pytest.skip(f"needs {weights.name} and {video.name} in {SHARED}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = _annotated(tmp_path, weights, video)
    out = tmp_path / "e.json"
    told = ["--weights", str(weights), "--runtime", "onnxruntime", "--precision", "fp32", "--json", str(out)]
    assert main(["eval", "yolox-nano", *words, *told]) == DONE, capsys.readouterr().err
    boxes = results(out)["boxes"]
    assert [boxes[key] for key in ("ap", "ap50", "ap_small", "ar100")] == pytest.approx([1, 1, 1, 1])
    assert "no label for" not in capsys.readouterr().err


def _annotated(root: Path, weights: Path, video: Path) -> list[str]:
    from engines.decoders import DetectOptions
    from engines.load import open_detector
    from engines.manifest import find
    from engines.runtimes.base import RuntimeOptions

    manifest = find("yolox-nano")
    model = open_detector(manifest, weights, DetectOptions(0.3), ["onnxruntime"], RuntimeOptions("fp32"))
    folder = Folder(root)
    folder.root.mkdir()
    folder.data["categories"] = [{"id": 11 + i, "name": name.upper()} for i, name in enumerate(manifest.labels)]
    images = _frames(video, 6)
    for i, (image, found) in enumerate(zip(images, model(images), strict=True)):
        cv2.imwrite(str(folder.root / f"{i}.png"), image[..., ::-1])
        folder.data["images"].append(
            {"id": i, "file_name": f"{i}.png", "height": image.shape[0], "width": image.shape[1]}
        )
        for (x1, y1, x2, y2), label in zip(found.xyxy.tolist(), found.class_id.tolist(), strict=True):
            folder.annotate({"image_id": i, "category_id": 11 + label, "bbox": [x1, y1, x2 - x1, y2 - y1]})
    model.close()
    return folder.write()


def _frames(video: Path, count: int) -> list[Image]:
    opened = cv2.VideoCapture(str(video))
    images = [image[..., ::-1] for _, image in (opened.read() for _ in range(count))]
    opened.release()
    return [np.ascontiguousarray(image, np.uint8) for image in images]

"""`streamer models compare` and `bench`, as a person and as a script call them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import networks
import numpy as np
import onnx
import pytest
import rcnns
from rcnns import Rcnn

from streamer.cli import DONE, WRONG_INPUT, main

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'streamer[onnxruntime]'")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The manifest of a network that finds blue squares."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return str(networks.manifest(tmp_path))


@pytest.fixture
def footage(tmp_path: Path) -> str:
    """Pictures with a blue square in each."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(4):
        image = np.zeros((64, 64, 3), np.uint8)
        image[8 * i : 8 * i + 16, 16:32, 0] = 255  # OpenCV writes BGR
        cv2.imwrite(str(folder / f"{i}.png"), image)
    return str(folder)


def results(path: Path) -> dict[str, Any]:
    """Read JSON as a strict reader does, which knows no NaN."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    loaded: dict[str, Any] = json.loads(path.read_text(), parse_constant=refuse)
    return loaded


def test_comparing_runtimes(model: str, footage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "c.json"
    words = ["--runtime", "onnxruntime,openvino", "--precision", "int8", "--json", str(out)]
    assert main(["models", "compare", model, "--video", footage, "--frames", "3", *words]) == DONE
    told = results(out)
    assert told["reference"] == {"runtime": "onnxruntime", "precision": "fp32"}  # it was added
    first, *others = told["rows"]
    assert first["fault"] is None
    assert first["raw"]["relative"] == 0
    assert first["detections"]["found"] > 0
    assert first["cost"]["ms_per_batch"] > 0
    assert {row["runtime"]: row["cost"] for row in others} == {"onnxruntime": None, "openvino": None}
    printed = capsys.readouterr().out
    assert "onnxruntime fp32" in printed
    assert printed.count("not calibrated for int8") == 1  # said once for both


def test_a_segmenter_is_compared_by_its_masks_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    onnx.save(rcnns.make(Rcnn()), "rcnn.onnx")
    Path("labels.txt").write_text("\n".join(rcnns.CLASSES))
    cv2.imwrite("one.png", rcnns.scene({(0, 0): (0, 200), (1, 2): (1, 255)})[..., ::-1])
    assert main(["models", "add", "rcnn.onnx", "--labels", "labels.txt"]) == DONE
    words = ["--runtime", "onnxruntime", "--precision", "fp32", "--json", "c.json"]
    assert main(["models", "compare", "./rcnn.yaml", "--video", "one.png", *words]) == DONE
    seen = results(Path("c.json"))["rows"][0]["detections"]
    assert (seen["found"], seen["worst_mask_iou"]) == (2, 1)
    assert "the worst IoU of their masks" in " ".join(capsys.readouterr().out.split())
    assert main(["models", "show", "./rcnn.yaml"]) == DONE
    assert "segment" in capsys.readouterr().out
    words = ["--runtime", "onnxruntime", "--batch", "1,2", "--rounds", "1", "--json", "b.json"]
    assert main(["models", "bench", "./rcnn.yaml", *words]) == DONE
    assert [point["batch"] for point in results(Path("b.json"))["points"]] == [1, 2]


def test_synthetic_frames_without_an_object_say_so(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path(model).read_text() + "defaults: {confidence: 1}\n"
    Path(model).write_text(text)
    out = tmp_path / "c.json"
    words = ["--runtime", "onnxruntime", "--precision", "fp32", "--frames", "2", "--json", str(out)]
    assert main(["models", "compare", model, *words]) == DONE
    assert results(out)["rows"][0]["detections"]["mean_ap"] is None
    assert "give footage of your own with --video" in " ".join(capsys.readouterr().err.split())


def test_measuring_batch_sizes(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'streamer[build]'")
    out, png = tmp_path / "b.json", tmp_path / "b.png"
    words = ["--runtime", "onnxruntime", "--batch", "2,1", "--rounds", "1", "--json", str(out), "--plot", str(png)]
    assert main(["models", "bench", model, *words]) == DONE
    told = results(out)
    assert [point["batch"] for point in told["points"]] == [1, 2]
    assert told["points"][0]["ratio"] == 1
    assert told["runtimes"]["onnxruntime auto"].startswith("onnxruntime ")
    assert png.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "frames/s" in printed
    assert printed.count("onnxruntime auto") == 2


def test_a_cpu_runtime_that_can_be_tuned_is_shown_for_both_goals(model: str, tmp_path: Path) -> None:
    out = tmp_path / "b.json"
    words = ["--runtime", "openvino", "--batch", "1", "--rounds", "1", "--threads", "1", "--json", str(out)]
    assert main(["models", "bench", model, *words]) == DONE
    assert {point["name"] for point in results(out)["points"]} == {
        "openvino auto, latency",
        "openvino auto, throughput",
    }


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["bench", "--batch", "0"], "'0' is no whole number above zero"),
        (["bench", "--batch", "1,x"], "'x' is no whole number above zero"),
        (["bench", "--runtime", "abacus"], "'abacus' is none of"),
        (["compare", "--precision", "fp8"], "'fp8' is none of"),
        (["compare", "--frames", "-1"], "is no whole number above zero"),
    ],
)
def test_wrong_words_are_refused_at_once(
    model: str, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    verb, *rest = words
    with pytest.raises(SystemExit) as ended:
        main(["models", verb, model, *rest])
    assert ended.value.code == WRONG_INPUT
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["bench", "compare"])
def test_a_file_that_cannot_be_written_is_found_out_before_anything_is_measured(
    model: str, verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", verb, model, "--json", str(tmp_path / "absent" / "x.json")]) == WRONG_INPUT
    assert "x.json cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["bench", "compare"])
def test_an_unknown_model_and_absent_weights(
    verb: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", verb, "yolox-nan"]) == WRONG_INPUT
    assert "did you mean 'yolox-nano'" in capsys.readouterr().err
    assert main(["models", verb, model, "--weights", str(tmp_path / "absent.onnx")]) == WRONG_INPUT
    assert "there is no weights file" in capsys.readouterr().err


def test_a_plot_without_matplotlib_says_how_to_get_it(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("streamer.cli.models.bench.find_spec", lambda name: None)
    assert main(["models", "bench", model, "--plot", "p.png"]) == WRONG_INPUT
    assert "pip install 'streamer[build]'" in capsys.readouterr().err

"""`streamer models build` as its user meets it: a real network, real engines, no GPU."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import cv2
import networks
import numpy as np
import pytest
from videos import Clip, write

from engines.errors import RuntimeUnavailable
from engines.runtimes import open_runtime
from engines.runtimes.base import RuntimeOptions
from streamer.cli import DONE, WRONG_INPUT, main

Build = Callable[..., tuple[int, str, str]]
needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None, reason="needs TensorRT-RTX: pip install 'streamer[tensorrt-rtx]'"
)


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Build:
    """Build engines of a network of the test's own, into a cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    manifest = networks.manifest(tmp_path)

    def call(*argv: object) -> tuple[int, str, str]:
        code = main(["models", "build", str(manifest), *(str(word) for word in argv)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_what_is_built_can_be_opened(build: Build, runtime: str) -> None:
    code, out, err = build("--runtime", runtime, "--precision", "fp32", "--batch", "1..2")
    assert code == DONE
    path = Path(out.splitlines()[0])  # nothing but paths are on stdout
    opened = open_runtime(runtime, path, RuntimeOptions("fp32", max_batch=2))
    assert opened.infer({"frames": np.zeros((2, 64, 64, 3), np.uint8)})["boxes"].shape == (2, 84, 4)
    assert "building bright for OpenVINO: there is none for OpenVINO yet" in err or runtime == "onnxruntime"


def test_what_is_there_is_not_built_again(build: Build) -> None:
    first, second = (build("--runtime", "openvino", "--batch", "1..8") for _ in range(2))
    assert first[:2] == second[:2]
    assert "built bright in " in first[2]
    assert second[2] == ""


def test_both_what_run_and_what_process_ask_for_is_built(build: Build) -> None:
    paths = build("--runtime", "openvino")[1].splitlines()
    each = [build("--runtime", "openvino", "--goal", goal)[1].strip() for goal in ("throughput", "latency")]
    assert sorted(paths) == sorted(each)
    assert len(set(each)) == 2


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ("1..2", "pipelines with `limits: {batch: 2}` will take it"),
        ("2", "no pipeline asks for batches of 2: for those of up to 2 build --batch 1..2"),
    ],
)
def test_it_says_which_pipelines_take_the_engine(build: Build, batch: str, words: str) -> None:
    assert words in build("--runtime", "openvino", "--goal", "latency", "--batch", batch)[2]


def test_nothing_is_built_by_default_for_a_device_that_is_not_here(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_gpu(name: str, _options: RuntimeOptions) -> None:
        if name.startswith("tensorrt"):
            raise RuntimeUnavailable(f"{name} finds no GPU here")

    monkeypatch.setattr("engines.load.require", no_gpu)
    monkeypatch.setattr("engines.load.usable", lambda: ["tensorrt_rtx", "openvino"])
    code, _, err = build("--goal", "latency")
    assert (code, "building bright for OpenVINO" in err, "TensorRT" in err) == (DONE, True, False)


@pytest.mark.parametrize("verb", ["build", "add", "bench", "compare", "clean"])
def test_the_verbs_do_without_what_only_calibrating_needs(verb: str) -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['pycocotools', 'torch', 'onnxruntime', 'matplotlib']))\n"
        f"import streamer.cli.models.{verb}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_calibrating_says_what_it_needs(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.cli.models.build.find_spec", lambda name: None if name == "pycocotools" else name)
    video = write(tmp_path / "a.mp4", Clip(frames=2))
    code, _, err = build("--precision", "int8", "--runtime", "openvino", "--calibrate", video)
    assert code == WRONG_INPUT
    assert "calibrating needs pycocotools: pip install 'streamer[build]'" in err


def test_a_runtime_that_is_not_installed_says_how_to_get_it(build: Build) -> None:
    if find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is installed here")
    assert "pip install 'streamer[tensorrt]'" in build("--runtime", "tensorrt")[2]


@needs_rtx
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_engines_for_other_machines_need_no_gpu_here(build: Build, precision: str) -> None:
    code, out, err = build("--target", "sm_86,sm_89", "--precision", precision)
    assert code == DONE, err
    assert Path(out.strip()).stat().st_size > 1000
    assert "TensorRT-RTX" in err


@needs_rtx
def test_a_target_that_cannot_be_built_for(build: Build) -> None:
    code, out, err = build("--target", "sm_90")
    assert code == WRONG_INPUT
    assert out == ""
    assert "sm_90" in err or "90" in err
    assert "86" in err  # says which it takes


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["--runtime", "openvino", "--target", "sm_86"], "only --runtime tensorrt_rtx can"),
        (["--calibrate", "a.mp4"], "--calibrate is for --precision int8"),
        (["--precision", "int8", "--calibrate", "none.mp4", "--runtime", "onnxruntime"], "none.mp4"),
        (["--weights", "none.onnx"], "there is no weights file none.onnx"),
    ],
)
def test_wrong_input_is_one_sentence(build: Build, argv: list[str], complaint: str) -> None:
    code, out, err = build(*argv)
    assert code == WRONG_INPUT
    assert out == ""
    (line,) = [line for line in err.splitlines() if line.startswith("streamer: ")]
    assert complaint in line


@pytest.mark.parametrize("batch", ["0", "8..1", "1..2..3..4", "many"])
def test_a_batch_that_is_none(build: Build, batch: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        build("--batch", batch)
    assert "--batch" in capsys.readouterr().err


def test_int8_says_that_it_must_be_calibrated(build: Build) -> None:
    code, _, err = build("--precision", "int8", "--runtime", "onnxruntime")
    assert code == WRONG_INPUT
    assert "--calibrate VIDEO" in err


def test_int8_calibrated_on_a_video_is_built_and_found_again(build: Build, tmp_path: Path) -> None:
    video = write(tmp_path / "a.mp4", Clip(frames=12))
    code, out, err = build("--precision", "int8", "--runtime", "onnxruntime", "--calibrate", video)
    assert code == DONE, err
    assert "12 frames" in err
    assert build("--precision", "int8", "--runtime", "onnxruntime")[:2] == (DONE, out)


def test_footage_with_nothing_in_it_is_no_calibration(build: Build, tmp_path: Path) -> None:
    folder = tmp_path / "dark"
    folder.mkdir()
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.png"), np.zeros((64, 64, 3), np.uint8))
    code, out, err = build("--precision", "int8", "--runtime", "onnxruntime", "--calibrate", folder)
    assert (code, out) == (WRONG_INPUT, "")
    assert "bright finds nothing in 3 frames of" in err
    assert build("--precision", "int8", "--runtime", "onnxruntime")[0] == WRONG_INPUT  # still not calibrated


def test_weights_that_only_an_architecture_could_read(build: Build, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"whatever")
    code, _, err = build("--runtime", "onnxruntime", "--weights", tmp_path / "w.pth")
    assert code == WRONG_INPUT
    assert "name its 'architecture' in the manifest" in err

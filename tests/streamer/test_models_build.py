"""`streamer models build` as its user meets it: a real network, real engines, no GPU."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import networks
import numpy as np
import pytest
from videos import Clip, write

from engines.runtimes import open_runtime
from engines.runtimes.base import RuntimeOptions
from streamer.cli import DONE, FAILED, WRONG_INPUT, main

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
    path = Path(out.strip())  # nothing but the path is on stdout
    opened = open_runtime(runtime, path, RuntimeOptions("fp32", max_batch=2))
    assert opened.infer({"frames": np.zeros((2, 64, 64, 3), np.uint8)})["boxes"].shape == (2, 84, 4)
    assert "building bright for OpenVINO: there is none for OpenVINO yet" in err or runtime == "onnxruntime"


def test_what_is_there_is_not_built_again(build: Build) -> None:
    first, second = (build("--runtime", "openvino", "--batch", "2") for _ in range(2))
    assert first[:2] == second[:2]
    assert "built bright in " in first[2]
    assert second[2] == ""


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
    assert code in (FAILED, WRONG_INPUT)
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
    assert code in (FAILED, WRONG_INPUT)
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
    assert code == FAILED
    assert "--calibrate VIDEO" in err


def test_int8_calibrated_on_a_video_is_built_and_found_again(build: Build, tmp_path: Path) -> None:
    video = write(tmp_path / "a.mp4", Clip(frames=12))
    code, out, err = build("--precision", "int8", "--runtime", "onnxruntime", "--calibrate", video)
    assert code == DONE, err
    assert "12 frames" in err
    assert build("--precision", "int8", "--runtime", "onnxruntime")[:2] == (DONE, out)

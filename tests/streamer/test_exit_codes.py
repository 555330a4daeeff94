"""What a supervisor reads: whether another start may help (1), or only somebody who mends the input (2)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import networks
import numpy as np
import pytest
from redisworld import eventually

from streamer.cli import DONE, FAILED, INTERRUPTED, TERMINATED, WRONG_INPUT, main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, and an annotated image to measure it on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    networks.manifest(tmp_path)
    (tmp_path / "garbage.onnx").write_bytes(b"no network")
    cv2.imwrite("a.png", np.zeros((64, 64, 3), np.uint8))
    spot = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 20, 20], "area": 400, "iscrowd": 0}
    picture = {"id": 1, "file_name": "a.png", "width": 64, "height": 64}
    truth = {"images": [picture], "annotations": [spot], "categories": [{"id": 1, "name": "bright"}]}
    (tmp_path / "t.json").write_text(json.dumps(truth))
    return tmp_path


EVAL = "eval ./bright.yaml --coco t.json --images ."
BUILD = "models build ./bright.yaml"


@pytest.mark.parametrize(
    "command",
    [
        f"{EVAL} --weights no.onnx",
        f"{EVAL} --weights garbage.onnx",
        f"{EVAL} --runtime onnxruntime --precision bf16",
        f"{EVAL} --precision int8",  # never calibrated
        "eval flownets --flow . --weights garbage.onnx",
        "eval two-stream-i3d --clips . --weights garbage.onnx",
        f"{BUILD} --weights no.onnx",
        f"{BUILD} --weights garbage.onnx",
        f"{BUILD} --runtime onnxruntime --precision bf16",
        f"{BUILD} --precision int8",
        f"{BUILD} --target sm_1",
        f"{BUILD} --precision int8 --calibrate garbage.onnx",
        "models build two-stream-i3d",
        "models bench ./bright.yaml --weights garbage.onnx",
        "models compare ./bright.yaml --weights garbage.onnx --runtime onnxruntime --frames 1",
        "run no.yaml",
        "process no.mp4 --out out",
        "process a.png --out t.json",
        "check no.yaml",
        "watch --redis nonsense://",
    ],
)
@pytest.mark.usefixtures("folder")
def test_wrong_input_is_2_with_one_sentence(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.split()) == WRONG_INPUT
    complaints = [line for line in capsys.readouterr().err.splitlines() if line.startswith("streamer: ")]
    assert len(complaints) == 1


@pytest.mark.usefixtures("folder")
def test_a_checkpoint_is_2_where_nothing_can_read_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bright.pth").write_bytes(b"a checkpoint")
    monkeypatch.setitem(sys.modules, "torch", None)  # as where it is not installed
    monkeypatch.delitem(sys.modules, "engines.build.export", raising=False)
    assert main([*BUILD.split(), "--weights", "bright.pth"]) == WRONG_INPUT
    assert "pip install 'streamer[build]'" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_a_full_disk_is_1() -> None:
    """In a process that may write no file beyond a few bytes: the same answer from the kernel as from a quota."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (99, 99)); "
        f"from streamer.cli import main; sys.exit(main({f'{BUILD} --runtime openvino'.split()}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert "no space for" in done.stderr
    assert done.returncode == FAILED


@pytest.mark.usefixtures("folder")
def test_weights_that_cannot_be_fetched_now_are_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_MODELS", "http://127.0.0.1:9/")
    Path("bright.onnx").unlink()
    text = (
        Path("bright.yaml")
        .read_text()
        .replace("file: bright.onnx", f"file: b.onnx, url: http://127.0.0.1:9/b.onnx, sha256: {'a' * 64}")
    )
    Path("bright.yaml").write_text(text)
    assert main(BUILD.split()) == FAILED


def test_an_internal_error_is_1_and_asks_to_be_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError("odd, with rtsp://u:hunter2@h/")

    monkeypatch.setattr("streamer.cli.models.show.find_model", broken)
    assert main(["models", "show", "yolox-nano"]) == FAILED
    err = capsys.readouterr().err
    assert "ZeroDivisionError" in err
    assert "--debug" in err
    assert "hunter2" not in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, TERMINATED), (signal.SIGINT, INTERRUPTED)])
def test_a_signal_while_a_model_is_being_opened(folder: Path, number: int, code: int) -> None:
    """The weights are a pipe that nobody writes to: to open them takes for ever."""
    os.mkfifo(folder / "slow.onnx")
    text = (folder / "bright.yaml").read_text().replace("bright.onnx", "slow.onnx")
    (folder / "bright.yaml").write_text(text)
    (folder / "p.yaml").write_text(
        "cameras: {gate: {url: 'synthetic://?fps=5'}}\nnodes: {spots: {kind: detect, model: ./bright.yaml}}\n"
    )
    job = _start("run", "p.yaml")
    job.send_signal(number)
    assert job.wait(timeout=20) == code


def test_a_run_that_sigterm_drains_is_0(folder: Path) -> None:
    (folder / "p.yaml").write_text(
        "cameras: {gate: {url: 'synthetic://?fps=50'}}\nnodes: {spots: {kind: detect, model: ./bright.yaml}}\n"
        "publish: [{kind: jsonl, path: out.jsonl}]\n"
    )
    job = _start("run", "p.yaml")
    out = folder / "out.jsonl"
    eventually(lambda: out.exists() and out.stat().st_size > 1000, "some results")
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=20) == DONE


def test_a_signal_ends_recorded_video_with_its_number(folder: Path) -> None:
    (folder / "p.yaml").write_text("nodes: {spots: {kind: detect, model: ./bright.yaml}}")
    command = ["process", "synthetic://?frames=1000000", "--pipeline", "p.yaml", "--out", "out"]
    for number, code in ((signal.SIGTERM, TERMINATED), (signal.SIGINT, INTERRUPTED)):
        job = subprocess.Popen([sys.executable, "-m", "streamer", *command, "--overwrite"])
        out = folder / "out" / "video.jsonl"
        eventually(lambda: out.exists() and out.stat().st_size > 1000, "some results")  # noqa: B023 - called at once
        job.send_signal(number)
        assert job.wait(timeout=20) == code
        out.unlink()


def _start(*words: str) -> subprocess.Popen[bytes]:
    """Start a command, and wait until signals would find its handlers."""
    job = subprocess.Popen([sys.executable, "-m", "streamer", *words])
    caught = 1 << (signal.SIGHUP - 1)  # only `run` catches it, once it is about to open things

    def ready() -> bool:
        status = Path(f"/proc/{job.pid}/status").read_text()
        return bool(int(status.partition("SigCgt:")[2].split()[0], 16) & caught)

    eventually(ready, "its signal handlers")
    return job

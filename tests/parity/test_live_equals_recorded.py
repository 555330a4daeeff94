"""What `run` delivers over RTSP is what `process` finds in the file that the camera plays."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import networks
import numpy as np
import pytest
import rtsp
from redisworld import eventually
from videos import Clip, write

from streamer.cli import main
from streamer.wire import DetectionsResult, Message, decode

SHARED = Path(__file__).resolve().parents[2] / "../shared"
FRAMES = 30  # enough to see that every one fits; a camera plays them at its own speed

pytestmark = pytest.mark.skipif(rtsp.missing() is not None, reason=str(rtsp.missing()))


@pytest.fixture(params=["pattern", "street"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A video, and the settings of the node that looks at it."""
    if request.param == "pattern":
        model = networks.manifest(tmp_path)
        return write(tmp_path / "pattern.mp4", Clip(frames=FRAMES + 30)), f"model: {model}"
    if not (SHARED / "media/street.mp4").exists():
        pytest.skip("needs the reference footage and weights in ../shared beside the checkout")
    return SHARED / "media/street.mp4", f"model: yolox-nano, weights: {SHARED / 'models/yolox_nano.onnx'}"


def read(path: Path) -> list[Message]:
    return [decode(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def rows(message: Message) -> tuple[np.ndarray, list[str]]:
    """Boxes and confidences, and labels."""
    result = message.results["spots"]
    assert isinstance(result, DetectionsResult)
    return np.array([[*item.box, item.confidence] for item in result.items]), [item.label for item in result.items]


def test_every_delivered_frame_agrees(scene: tuple[Path, str], tmp_path: Path) -> None:
    video, node = scene
    live, recorded = tmp_path / "live.jsonl", tmp_path / "recorded"
    pipeline = tmp_path / "p.yaml"
    pipeline.write_text(f"nodes: {{spots: {{kind: detect, {node}}}}}\nruntime: {{precision: fp32}}\n")
    with rtsp.serve(video) as camera:
        overrides = [f"cameras.gate.url={camera.url}", f"publish=[{{kind: jsonl, path: {live}}}]"]
        command = [sys.executable, "-m", "streamer", "run", str(pipeline)]
        job = subprocess.Popen([*command, *(f"--set={o}" for o in overrides)], stderr=subprocess.PIPE, text=True)
        eventually(lambda: live.exists() and live.read_bytes().count(b"\n") >= FRAMES, "frames over RTSP")
        job.send_signal(signal.SIGINT)
        _, err = job.communicate(timeout=20)
        assert job.returncode == 130, err
    assert main(["process", str(video), "--out", str(recorded), "--pipeline", str(pipeline)]) == 0
    by_time = {round(m.pts, 2): m for m in read(recorded / f"{video.stem}.jsonl")}
    delivered = read(live)
    start = delivered[0].pts - min(by_time)  # a camera's clock has a zero of its own
    assert start < 2
    compared = 0
    for message in delivered:
        twin = by_time.get(round(message.pts - start, 2))
        assert twin is not None, f"no recorded frame at {message.pts - start}"
        got, want = rows(message), rows(twin)
        assert got[1] == want[1], json.dumps(message.model_dump(mode="json"))
        assert np.allclose(got[0], want[0], atol=0.02)
        compared += len(got[1])
    assert compared > FRAMES

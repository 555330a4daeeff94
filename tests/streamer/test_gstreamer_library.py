"""What GStreamer does to the process that it is loaded into."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gstworld
import pytest
from videos import Clip, write

CODE = """
from streamer.sources.gstreamer_library import gstreamer
gstreamer()
import openvino
import numpy as np
from openvino import opset13 as ops
image = ops.parameter([-1, 3, 16, 16], np.float32, name="image")
kernel = ops.constant(np.ones((4, 3, 3, 3), np.float32))
conv = ops.convolution(image, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
compiled = openvino.Core().compile_model(openvino.Model([conv], [image]), "CPU")
print(compiled({0: np.ones((2, 3, 16, 16), np.float32)})[0].shape)
try:
    openvino.Core().read_model("nowhere.xml")
except RuntimeError:
    print("an exception in C++ is caught")
"""


@pytest.mark.skipif(gstworld.missing() is not None, reason=str(gstworld.missing()))
def test_openvino_works_beside_it() -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", CODE], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["(2, 4, 14, 14)", "an exception in C++ is caught"]


CLOSING = """
import sys
from streamer.sources import SourceOptions, open_source
source = open_source("a", sys.argv[1], SourceOptions(backend="gstreamer"))
for _ in range(600):
    with source.open() as frames:
        next(frames)
"""


@pytest.mark.skipif(gstworld.missing() is not None, reason=str(gstworld.missing()))
def test_a_pipeline_that_is_closed_while_it_starts_never_waits_for_itself(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    film = write(tmp_path / "a.webm", Clip(60, (320, 240), codec="libvpx-vp9"))
    command = [sys.executable, "-c", CLOSING, str(film)]
    subprocess.run(command, cwd=root, capture_output=True, check=True, timeout=60)

"""The flow that comes with us: better than what OpenCV has at hand in the world, and good on real video."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines import zoo
from engines.load import open_flow
from engines.manifest import find
from engines.metrics.baselines import farneback, nothing_moves
from engines.metrics.flow import flow_error
from engines.motion import FlowModel, Pair, upsample
from engines.runtimes import available
from engines.runtimes.base import Precision, RuntimeOptions
from engines.train.data.pairs import FlowPair
from engines.train.data.worldpairs import held_out
from engines.train.flow import mean_error
from engines.types import Float, Image
from engines.world import Conditions

_REAL = Path(__file__).resolve().parents[2] / "../shared/media/flow"
_WORLDS = 6
_APART = (0.1, 0.2, 0.4)  # seconds
_MOST = {1.0: 0.40, 4.0: 0.17}  # of the motion, by how fast the camera pans


@pytest.fixture(scope="module")
def opened() -> Iterator[FlowModel]:
    model = open_shipped("onnxruntime")
    yield model
    model.close()


def open_shipped(runtime: str, precision: Precision = "fp32") -> FlowModel:
    manifest = find("flownets-pico")
    if (weights := zoo.find_local(manifest, environ={"XDG_CACHE_HOME": "/nowhere"})) is None:
        pytest.skip("config/weights holds no flownets-pico.onnx: train and adopt it")
    return open_flow(manifest, weights, [runtime], RuntimeOptions(precision, max_batch=1))


def estimate(model: FlowModel, before: Image, after: Image) -> Float:
    (found,) = model([Pair(model.place(before), model.place(after))])
    return upsample(found.uv, (before.shape[0], before.shape[1]))


def picture(path: Path) -> Image:
    found = cv2.imread(str(path))
    assert found is not None
    return np.ascontiguousarray(found[..., ::-1], np.uint8)


def test_of_the_worlds_motion_it_leaves_less_than_a_quarter(opened: FlowModel) -> None:
    """Over 0.1 to 0.4 s, with a camera that hardly moves and with one that somebody carries, all taken together."""
    left = moved = 0.0
    for pan, seconds in itertools.product(_MOST, _APART):
        pairs: list[FlowPair] = held_out(_WORLDS, seconds, Conditions(pan=pan))
        error, still = mean_error(pairs, partial(estimate, opened)), mean_error(pairs, nothing_moves)
        assert error < mean_error(pairs, farneback), (pan, seconds)
        assert error <= _MOST[pan] * still, (pan, seconds)
        left, moved = left + error, moved + still
    assert left <= 0.25 * moved


def test_the_networks_code_gives_what_its_graph_gives(opened: FlowModel) -> None:
    (pair,) = held_out(1, 0.2)
    in_torch = open_shipped("pytorch")
    apart = estimate(opened, pair.before, pair.after) - estimate(in_torch, pair.before, pair.after)
    in_torch.close()
    assert np.abs(apart).max() < 0.01  # pixels


def test_halves_of_openvino_cost_less_than_a_point(opened: FlowModel) -> None:
    if "openvino" not in available():
        pytest.skip("openvino is not installed: pip install 'streamer[test]'")
    pairs, halved = held_out(3, 0.04), open_shipped("openvino", "auto")
    errors = [mean_error(pairs, partial(estimate, model)) for model in (opened, halved)]
    halved.close()
    assert abs(errors[1] - errors[0]) < 0.01 * mean_error(pairs, nothing_moves)


def test_on_real_video_it_explains_two_thirds_of_the_motion(opened: FlowModel) -> None:
    if not _REAL.is_dir():
        pytest.skip(f"{_REAL} is missing: it is the pair of frames with known motion that lies beside the repository")
    before, after = (picture(_REAL / f"frame_{number:04}.png") for number in (10, 11))
    truth = np.load(_REAL / "frame_0010_flow.npz")["uv"].astype(np.float32)
    known = np.ones(truth.shape[:2], np.bool_)
    error = flow_error(truth, estimate(opened, before, after), known)
    still = flow_error(truth, np.zeros_like(truth), known)
    assert error.endpoint <= still.endpoint / 3

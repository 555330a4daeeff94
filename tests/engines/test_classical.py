"""OpenCV's DIS behind the interface of a network: known motion, through the whole path, gives the known field."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import scenes

from engines.classical import SIZE, DenseInverseSearch, open_classical
from engines.errors import ModelError
from engines.flowfiles import read_flow
from engines.geometry import Size
from engines.load import open_flow
from engines.metrics.baselines import BASELINES
from engines.metrics.flow import FlowError, flow_error
from engines.motion import FlowModel, Pair, upsample
from engines.runtimes.base import RuntimeOptions
from engines.types import Array, Float, Image

SHARED = Path(__file__).resolve().parents[2] / "../shared/media/flow"


@pytest.fixture(scope="module")
def dis() -> Iterator[FlowModel]:
    model = open_classical("dis", 4)
    yield model
    model.close()


def found(model: FlowModel, before: Image, after: Image) -> Float:
    """Find the flow at the size of the images."""
    (flow,) = model([Pair(model.place(before), model.place(after), 0.04)])
    return upsample(flow.uv, before.shape[:2])


def inner(field: Array) -> Array:
    """Leave out the border, where what comes into the picture was not in the one before."""
    y, x = field.shape[0] // 8, field.shape[1] // 8
    return field[y:-y, x:-x]


@pytest.mark.parametrize("size", [(288, 512), (240, 320), (181, 333), (401, 255), (576, 1024), (100, 700)])
@pytest.mark.parametrize("share", [(0.02, 0.0), (0.0, 0.02), (-0.015, 0.01)])
def test_a_translation(dis: FlowModel, size: Size, share: tuple[float, float]) -> None:
    """In pixels of the source, at any size: letterboxed, at odd sizes, enlarged and reduced."""
    u, v = share[0] * size[1], share[1] * size[0]
    image = cv2.resize(scenes.pattern(SIZE), size[::-1], interpolation=cv2.INTER_LINEAR)
    after = scenes.moved(np.asarray(image, np.uint8), scenes.translation(u, v))
    flow = found(dis, np.asarray(image, np.uint8), after)
    assert np.median(inner(flow), axis=(0, 1)) == pytest.approx([u, v], abs=0.05 + 0.0004 * max(size))


@pytest.mark.parametrize(("degrees", "zoom"), [(2, 1), (-3, 1), (0, 1.04), (0, 0.97), (1.5, 1.02)])
@pytest.mark.parametrize("size", [(288, 512), (300, 400)])
def test_rotation_and_zoom(dis: FlowModel, size: Size, degrees: float, zoom: float) -> None:
    image, motion = scenes.pattern(size), scenes.rotation(size, degrees, zoom)
    truth = scenes.field(size, motion)
    error = flow_error(inner(truth), inner(found(dis, image, scenes.moved(image, motion))))
    assert error.endpoint < 0.5
    assert error.endpoint < 0.2 * flow_error(inner(truth), np.zeros_like(inner(truth))).endpoint


def test_clockwise_is_clockwise() -> None:
    """Above the middle, what turns clockwise moves to the right; on its right, down."""
    truth = scenes.field((101, 101), scenes.rotation((101, 101), 5))
    assert truth[10, 50, 0] > 1 > abs(truth[10, 50, 1])
    assert truth[50, 90, 1] > 1 > abs(truth[50, 90, 0])
    assert truth[50, 50] == pytest.approx(0, abs=1e-4)


def test_zoom_moves_away_from_the_middle() -> None:
    truth = scenes.field((101, 101), scenes.rotation((101, 101), 0, 1.1))
    assert truth[50, 100] == pytest.approx([5, 0], abs=1e-3)
    assert truth[100, 50] == pytest.approx([0, 5], abs=1e-3)


def test_frames_exchanged_go_the_other_way(dis: FlowModel) -> None:
    before = scenes.pattern((288, 512))
    after = scenes.moved(before, scenes.translation(6, 0))
    assert np.median(found(dis, after, before)[..., 0]) == pytest.approx(-6, abs=0.1)


def test_a_pair_is_not_searched_from_the_one_before(dis: FlowModel) -> None:
    image = scenes.pattern((288, 512))
    placed = [dis.place(scenes.moved(image, scenes.translation(u, 0))) for u in (0, 8)]
    still, moving = Pair(placed[0], placed[0]), Pair(placed[0], placed[1])
    alone = dis([still])[0].uv
    assert np.array_equal(dis([moving, still])[1].uv, alone)
    assert np.abs(alone).max() < 0.05


def test_no_pairs_at_all(dis: FlowModel) -> None:
    assert dis([]) == []
    assert dis.begin([])() == []


def test_it_is_opened_by_name_and_without_weights() -> None:
    model = open_flow("dis", None, (), RuntimeOptions(max_batch=3))
    assert (model.name, model.runtime.max_batch) == ("dis", 3)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((1, 2, 10, 10, 3), np.uint8),
        np.zeros((1, 2, *SIZE, 3), np.float32),
        np.zeros((9, 2, *SIZE, 3), np.uint8),
    ],
)
def test_other_feeds_are_refused(frames: Array) -> None:
    with pytest.raises(ModelError, match="opencv DIS"):
        DenseInverseSearch(max_batch=8).infer({"frames": frames})


# --- a rendered film ---


def rgb(path: Path) -> Image:
    picture = cv2.imread(str(path))
    assert picture is not None
    return np.ascontiguousarray(picture[..., ::-1], np.uint8)


@pytest.fixture(scope="module")
def film() -> tuple[Image, Image, Float]:
    if not SHARED.is_dir():
        pytest.skip(f"needs the frames and the flow of {SHARED.name} in {SHARED.parent}: put them there")
    before, after = (rgb(SHARED / f"frame_00{n}.png") for n in (10, 11))
    return before, after, read_flow(SHARED / "frame_0010_flow.npz").uv


def test_dis_beats_the_zero_field_and_knows_right_from_down(dis: FlowModel, film: tuple[Image, Image, Float]) -> None:
    before, after, truth = film
    flow = found(dis, before, after)
    error = flow_error(truth, flow)
    nothing, exchanged = flow_error(truth, np.zeros_like(truth)), flow_error(truth, flow[..., ::-1])
    backwards = flow_error(truth, found(dis, after, before))
    assert error.endpoint < 0.5 * nothing.endpoint
    assert error.outliers < 0.5 * nothing.outliers
    assert min(exchanged.endpoint, backwards.endpoint) > nothing.endpoint


def test_the_baselines_beat_the_zero_field(film: tuple[Image, Image, Float]) -> None:
    before, after, truth = film
    errors: dict[str, FlowError] = {
        name: flow_error(truth, estimate(before, after)) for name, estimate in BASELINES.items()
    }
    assert errors["dis"].endpoint < errors["farneback"].endpoint < 0.6 * errors["zero"].endpoint


@pytest.mark.parametrize("name", ["dis", "farneback"])
def test_the_baselines_find_a_translation(name: str) -> None:
    before = scenes.pattern((120, 160))
    flow = BASELINES[name](before, scenes.moved(before, scenes.translation(3, -2)))
    assert np.median(inner(flow), axis=(0, 1)) == pytest.approx([3, -2], abs=0.1)

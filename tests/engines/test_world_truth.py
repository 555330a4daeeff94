"""The truth of the world in the forms that others read: none of them says anything else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.flowfiles import read_flow, write_flow
from engines.masks import paint
from engines.metrics.flow import flow_error
from engines.metrics.outlines import outlined
from engines.metrics.truth import Found, Truth
from engines.recognition import ClipSpec
from engines.rle import decode
from engines.types import Detections
from engines.world import ACTIONS, CLASSES, CLEAR, Conditions, Scene, World
from engines.world.truth import annotated, clips, coco, detections, doubtful, field, outlines

SIZE = (320, 192)
BOTH = ClipSpec(8, 15.0, (48, 64), frozenset({"rgb", "flow"}))
worlds = st.builds(World, st.integers(0, 2**32), st.just(SIZE), st.integers(0, 12))
times = st.floats(1, 1e5)


@settings(max_examples=20, deadline=None)
@given(worlds, times)
def test_detections_are_the_objects(world: World, t: float) -> None:
    scene, found = world.at(t), detections(world.at(t))
    assert found.track_id is not None
    assert found.masks is not None
    assert len(found.masks) == len(scene)
    for one, other in ((found.xyxy, scene.xyxy), (found.class_id, scene.class_id), (found.track_id, scene.track_id)):
        assert (one == other).all()


def test_soft_masks_painted_are_the_pixels_but_for_a_few() -> None:
    overlaps = np.array([each for seed in range(12) for each in painted(World(seed, SIZE).at(7))])
    assert len(overlaps) > 60
    assert overlaps.mean() > 0.93
    assert overlaps.min() > 0.7


def painted(scene: Scene) -> list[float]:
    """How well the masks of all that is well seen overlap with its pixels."""
    found, overlaps = detections(scene)[~doubtful(scene)], []
    assert found.masks is not None
    rows = np.flatnonzero(~doubtful(scene)).tolist()
    for row, (top, left, mask) in zip(rows, paint(found.masks, found.xyxy, scene.size), strict=True):
        pixels = np.zeros(scene.size, np.bool_)
        pixels[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
        truth = scene.labels == row + 1
        overlaps.append(float((pixels & truth).sum() / (pixels | truth).sum()))
    return overlaps


@settings(max_examples=20, deadline=None)
@given(worlds, times)
def test_outlines_are_the_pixels_exactly(world: World, t: float) -> None:
    scene = world.at(t)
    for row, rle in enumerate(outlines(scene)):
        assert (decode(rle) == (scene.labels == row + 1)).all()


def test_a_data_set_reads_as_it_was_written() -> None:
    scenes = [World(seed, SIZE).at(5) for seed in range(4)]
    truth, read = annotated(scenes), Truth.parse(json.dumps(coco(scenes)).encode())
    assert read.pictures == truth.pictures
    assert read.categories == dict(enumerate(CLASSES)) == truth.categories
    for one, other in zip(truth.annotations, read.annotations, strict=True):
        assert (one.picture, one.category, one.xywh, one.area, one.crowd) == (
            other.picture, other.category, other.xywh, other.area, other.crowd
        )  # fmt: skip
        assert outlined(other, SIZE[::-1]) == one.segmentation


def test_who_finds_the_truth_finds_everything() -> None:
    metrics = pytest.importorskip("engines.metrics.coco", reason="pycocotools is missing: pip install 'streamer[eval]'")
    scenes = [World(seed, SIZE).at(5) for seed in range(6)]
    found = {i: Found(detections(scene), tuple(outlines(scene))) for i, scene in enumerate(scenes)}
    for kind in ("boxes", "masks"):
        assert metrics.evaluate(annotated(scenes), found, kind).summary.ap == pytest.approx(1)
    shifted = {i: Found(_aside(scene)) for i, scene in enumerate(scenes)}
    assert metrics.evaluate(annotated(scenes), shifted, "boxes").summary.ap < 0.7


def _aside(scene: Scene) -> Detections:
    found = detections(scene)
    return replace(found, xyxy=found.xyxy + np.float32(4), masks=None)


def test_what_hardly_anybody_could_see_is_a_crowd() -> None:
    scene = World(0, SIZE, objects=60).at(30)
    hidden = doubtful(scene)
    assert 0 < hidden.sum() < len(scene)
    assert hidden[scene.visible < 0.25].all()
    assert [each.crowd for each in annotated([scene]).annotations] == hidden.tolist()


def test_a_world_without_objects_is_empty_in_every_form() -> None:
    scene = World(0, SIZE, objects=0).at(3)
    assert len(detections(scene)) == 0
    assert outlines(scene) == []
    assert coco([scene])["annotations"] == []


def test_motion_is_a_field_of_known_flow(tmp_path: Path) -> None:
    motion = World(2, SIZE).flow(5, 5.1)
    write_flow(tmp_path / "truth.flo", field(motion))
    read = read_flow(tmp_path / "truth.flo")
    assert (read.known == ~motion.occluded).all()
    assert flow_error(motion.uv, read.uv, read.known).endpoint < 1e-6
    assert flow_error(motion.uv, motion.uv[..., ::-1], read.known).endpoint > 0.3


def test_a_clip_is_around_one_object_that_does_one_thing() -> None:
    world = World(3, SIZE, conditions=CLEAR)
    scenes = [world.at(20 + i / 15) for i in range(-7, 1)]
    found = clips(world, 20, BOTH)
    assert found
    for each in found:
        assert each.clip.rgb.shape == (8, 48, 64, 3)
        assert each.clip.flow is not None
        assert each.clip.flow.shape == (8, 48, 64, 2)
        for scene in scenes:
            row = scene.track_id.tolist().index(each.track_id)
            assert scene.action[row] == each.action
            assert scene.visible[row] >= 0.4


def test_a_crop_shows_its_object_in_its_middle() -> None:
    """The flow of a clip of one that moves is that of the object there, in pixels of the crop."""
    for seed in range(40):
        world = World(seed, (640, 360), objects=3, conditions=Conditions(0, 0, 0, pan=0))
        for each in clips(world, 30, BOTH):
            if ACTIONS[each.action] == "moving":
                assert each.clip.flow is not None
                speed = np.linalg.norm(each.clip.flow, axis=3)
                assert speed[:, 12:36, 16:48].max() > 1
                assert speed[:, 0, 0].min() == 0  # the ground
                return
    pytest.fail("nobody moved")


def test_clips_without_flow_compute_none() -> None:
    rgb = ClipSpec(4, 15.0, (32, 32), frozenset({"rgb"}))
    found = clips(World(3, SIZE), 20, rgb)
    assert found
    assert all(each.clip.flow is None for each in found)


def test_a_clip_cannot_begin_before_the_world_does() -> None:
    with pytest.raises(ValueError, match="beginning of the world"):
        clips(World(0, SIZE), 0.3, BOTH)

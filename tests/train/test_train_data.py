"""Scenes to learn from: boxes stay on their objects whatever is done to it, and a number means the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import playthings
import pytest

from engines.train.data.augment import cut, mirror, mosaic, recolour, zoom
from engines.train.data.coco import CocoScenes, Folder
from engines.train.data.scene import Random, Scene
from engines.train.data.sources import open_scenes
from engines.train.data.world import FIRST_TRAINED, WorldScenes, is_trained_on
from engines.train.errors import TrainingError
from engines.train.task import Subject
from engines.types import Float, Image


def block(size: tuple[int, int], box: tuple[int, int, int, int]) -> Scene:
    """Draw one white object on black."""
    image = np.zeros((*size, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return Scene(image, np.array([box], np.float32), np.array([0], np.int32), np.array([False]))


def seen(image: Image) -> Float:
    """Find the white there is."""
    rows, columns = np.nonzero(image[..., 0] > 140)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32)


@pytest.mark.parametrize("change", [mirror, zoom, lambda scene, random: recolour(mirror(scene, random), random)])
@pytest.mark.parametrize("seed", range(8))
def test_a_box_stays_on_its_object(change: Callable[[Scene, Random], Scene], seed: int) -> None:
    random = np.random.default_rng(seed)
    found = change(block((120, 160), (40, 30, 90, 80)), random)
    assert found.image.shape == (120, 160, 3)
    if len(found.boxes):
        assert np.abs(found.boxes[0] - seen(found.image)).max() <= 1.5
    else:
        assert (found.image > 140).mean() < 0.3 * 50 * 50 / (120 * 160) * 2.25


def test_both_sides_of_a_mirror_are_seen() -> None:
    scene = block((20, 40), (2, 3, 9, 15))
    lefts = {float(mirror(scene, np.random.default_rng(seed)).boxes[0, 0]) for seed in range(20)}
    assert lefts == {2.0, 31.0}


def test_colours_change_and_boxes_do_not() -> None:
    scene = playthings.scene(0)
    found = recolour(scene, np.random.default_rng(1))
    assert np.array_equal(found.boxes, scene.boxes)
    assert np.abs(found.image.astype(int) - scene.image).mean() > 3


@pytest.mark.parametrize("seed", range(6))
def test_a_mosaic_has_the_objects_of_all_four(seed: int) -> None:
    scenes = [block((60, 80), (20, 15, 60, 45)) for _ in range(4)]
    scenes = [Scene(s.image, s.boxes, np.array([i], np.int32), s.hidden) for i, s in enumerate(scenes)]
    found = mosaic(scenes, (96, 128), np.random.default_rng(seed))
    assert found.image.shape == (96, 128, 3)
    assert set(found.classes.tolist()) <= {0, 1, 2, 3}
    assert len(found.classes) >= 2
    for x1, y1, x2, y2 in found.boxes.round().astype(int).tolist():
        inside = found.image[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2]
        assert inside.mean() > 240


def test_what_is_cut_off_is_forgotten() -> None:
    boxes = np.array([[-5, 0, 5, 10], [-9, 0, 1, 10], [0, 0, 10, 10], [0, 0, 1, 10]], np.float32)
    scene = Scene(np.zeros((10, 10, 3), np.uint8), boxes, np.arange(4, dtype=np.int32), np.zeros(4, np.bool_))
    found = cut(scene, (10, 10))
    # Of the second too little is left, and the fourth is too thin.
    assert (found.classes.tolist(), found.boxes.tolist()) == ([0, 2], [[0, 0, 5, 10], [0, 0, 10, 10]])


# --- the world ---


def test_a_number_means_the_same_scene_in_any_process() -> None:
    first, again = WorldScenes(3).learn(130), WorldScenes(3).learn(130)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.boxes, again.boxes)
    other = WorldScenes(4).learn(130)
    assert first.image.shape != other.image.shape or not np.array_equal(first.image, other.image)


@pytest.mark.parametrize(
    ("size", "made"),
    [((192, 320), (180, 320)), ((256, 448), (252, 448)), ((640, 640), (360, 640)), ((64, 96), (180, 320))],
)
def test_no_world_is_made_smaller_than_in_its_letterbox(size: tuple[int, int], made: tuple[int, int]) -> None:
    """What is enlarged is blurred, and a network that has only seen that misses what is small."""
    worlds = WorldScenes(3, size=size)
    assert {worlds.learn(number).image.shape[:2] for number in range(8)} == {made, (360, 640)}


def test_what_is_measured_by_is_never_learnt_from() -> None:
    assert not any(is_trained_on(seed) for seed in (0, 7, FIRST_TRAINED - 1))
    held = WorldScenes(0, held_out=2).held_out()
    assert [scene.image.shape for scene in held] == [(360, 640, 3)] * 2
    assert all(len(scene.boxes) for scene in held)


# --- a folder ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write 21 images of playthings, as COCO has them: categories by other numbers, and one crowd."""
    images, annotations = [], []
    for number in range(21):
        scene = playthings.scene(number)
        cv2.imwrite(str(tmp_path / f"{number}.png"), scene.image[..., ::-1])
        images.append({"id": number, "file_name": f"{number}.png", "height": 64, "width": 96})
        for (x1, y1, x2, y2), label in zip(scene.boxes.tolist(), scene.classes.tolist(), strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            annotations.append({"image_id": number, "category_id": 7 - 4 * label, "bbox": box, "iscrowd": number == 0})
    categories = [{"id": 7, "name": "brick"}, {"id": 3, "name": "ball"}]
    told = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "truth.json").write_text(json.dumps(told))
    return tmp_path


def test_a_folder_is_read_as_it_is_annotated(folder: Path) -> None:
    scenes = CocoScenes(Folder.open(folder / "truth.json", folder), playthings.SIZE, seed=0)
    assert scenes.labels == ("ball", "brick")  # by their numbers
    first, second = scenes.held_out()
    wanted = playthings.scene(0)
    assert np.array_equal(first.image, wanted.image)
    assert np.array_equal(first.boxes, wanted.boxes)
    assert first.classes.tolist() == [1 - label for label in wanted.classes.tolist()]
    assert first.hidden.all()
    assert not second.hidden.any()


def test_each_image_is_shown_once_a_turn_and_in_another_order_the_next(folder: Path) -> None:
    scenes = CocoScenes(Folder.open(folder / "truth.json", folder), playthings.SIZE, seed=0)
    turns = [[scenes._take(19 * turn + i).image.tobytes() for i in range(19)] for turn in range(2)]
    assert set(turns[0]) == set(turns[1])
    assert len(set(turns[0])) == 19
    assert turns[0] != turns[1]
    held = {scene.image.tobytes() for scene in scenes.held_out()}
    assert not held & set(turns[0])


def test_what_is_learnt_from_a_folder_is_augmented_and_towards_the_end_less(folder: Path) -> None:
    scenes = CocoScenes(Folder.open(folder / "truth.json", folder), playthings.SIZE, seed=0)
    again = CocoScenes(Folder.open(folder / "truth.json", folder), playthings.SIZE, seed=0)
    for number in range(12):
        assert np.array_equal(scenes.learn(number).image, again.learn(number).image)
        assert scenes.calm(number).boxes.shape == scenes._take(number).boxes.shape
    assert any(len(scenes.learn(number).boxes) > 3 for number in range(12))  # mosaics


def test_another_folder_may_be_named_to_be_measured_by(folder: Path) -> None:
    named = f"coco:{folder}/truth.json,{folder},{folder}/truth.json,{folder}"
    assert len(open_scenes(Subject(playthings.yolox(), named, 100)).held_out()) == 21


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("coco:nowhere.json,.", "nowhere.json cannot be read"),
        ("coco:one", "say world, coco:"),
        ("imagenet", "say world, coco:"),
    ],
)
def test_what_cannot_be_learnt_from_is_told(data: str, why: str) -> None:
    with pytest.raises(TrainingError, match=why):
        open_scenes(Subject(playthings.yolox(), data, 100))


def test_an_image_that_is_missing_is_named(folder: Path) -> None:
    (folder / "3.png").unlink()
    scenes = CocoScenes(Folder.open(folder / "truth.json", folder), playthings.SIZE, seed=0)
    with pytest.raises(TrainingError, match=r"3\.png cannot be read as an image"):
        [scenes.calm(number) for number in range(19)]

"""Scenes with masks: these are where the boxes say, of what is seen; in the world, and in folders of COCO's kind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import painted
import pytest

from engines.masks import encode_masks
from engines.rle import Rle, decode, rle_iou
from engines.train.data.coco import Folder
from engines.train.data.masked import CELLS, MaskedFolder, MaskedScene, MaskedWorlds, in_cells, mirrored
from engines.train.errors import TrainingError
from engines.train.rcnn import mask_figures, open_masked, with_masks
from engines.train.task import Subject
from engines.types import Bool, Detections, Masks


def repainted(scene: MaskedScene) -> list[Rle]:
    """Paint a scene's masks as what a network found."""
    return encode_masks(soft(scene), scene.boxes, scene.image.shape[:2])


def soft(scene: MaskedScene) -> Masks:
    return Masks((scene.masks / 255).astype(np.float32))


def large(scene: MaskedScene) -> Bool:
    wide: Bool = (scene.boxes[:, 2:] - scene.boxes[:, :2]).min(1) > 12
    return wide


def test_masks_of_the_world_are_painted_where_the_truth_has_them() -> None:
    scene = MaskedWorlds(seed=0, held_out=2).held_out()[0]
    over = np.diag(rle_iou(scene.outlines, repainted(scene)))
    assert len(over) > 4
    assert over[large(scene)].min() > 0.75
    assert over[large(scene)].mean() > 0.9


def test_the_world_is_a_pure_function_of_seed_and_number() -> None:
    one, again, other = (MaskedWorlds(seed, 1).learn(5) for seed in (0, 0, 1))
    assert np.array_equal(one.image, again.image)
    assert np.array_equal(one.masks, again.masks)
    assert not np.array_equal(one.image, other.image)


def test_a_mirrored_scene_has_mirrored_masks() -> None:
    scene = painted.scene(0)
    seeds = [np.random.default_rng(seed) for seed in range(10)]
    turned = next(each for each in (mirrored(scene, random) for random in seeds) if each is not scene)
    flipped = [Rle(rle.size, rle.counts) for rle in repainted(turned)]
    for mask, outline in zip(flipped, scene.outlines, strict=True):
        want, got = decode(outline)[:, ::-1], decode(mask)
        assert (want & got).sum() / (want | got).sum() > 0.85


def test_a_cell_is_what_lies_below_it() -> None:
    mask = np.zeros((20, 30), np.bool_)
    mask[:, 10:] = True
    cells = in_cells(mask, np.array([5, 2, 15, 18], np.float32))
    assert (cells[:, : CELLS // 2 - 3] == 0).all()
    assert (cells[:, CELLS // 2 + 3 :] == 255).all()
    assert abs(int(cells[0, CELLS // 2 - 1]) + int(cells[0, CELLS // 2]) - 255) <= 4, "the edge lies between both"


def test_what_is_left_out_takes_its_mask_along() -> None:
    scene = painted.scene(1)
    kept = scene.only(np.array([False, True, False, True]))
    assert np.array_equal(kept.masks, scene.masks[[1, 3]])
    assert kept.outlines == (scene.outlines[1], scene.outlines[3])


def test_batches_are_padded() -> None:
    scene = painted.scene(0)
    truth = with_masks([scene, scene.only(np.array([True, False, False, False]))])
    assert truth.there.tolist() == [[True] * 4, [True, False, False, False]]
    assert truth.masks.shape == (2, 4, CELLS, CELLS)
    assert not truth.masks[1, 1:].any()


def test_perfect_masks_have_the_figures_of_perfection() -> None:
    scenes = [painted.scene(number) for number in range(2)]
    found = [Detections(s.boxes, s.classes, np.ones(4, np.float32), masks=soft(s)) for s in scenes]
    assert mask_figures(scenes, found, painted.LABELS)["mask_map50"] == 1
    blank = [replace(each, masks=Masks(np.zeros_like(each.masks.probs))) for each in found if each.masks is not None]
    assert mask_figures(scenes, blank, painted.LABELS)["mask_map50"] == 0


# --- folders ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write two scenes as COCO has them: one with RLEs, the other with polygons, of which one is a crowd."""
    images = [{"id": n, "file_name": f"{n}.png", "height": 96, "width": 128} for n in (0, 1)]
    annotations = []
    for number in (0, 1):
        scene = painted.scene(number)
        cv2.imwrite(str(tmp_path / f"{number}.png"), cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR))
        for row, rle in enumerate(scene.outlines):
            x1, y1, x2, y2 = (float(edge) for edge in scene.boxes[row])
            told: object = {"size": list(rle.size), "counts": rle.counts.decode()}
            if number == 1 and row == 1:
                told = [[x1, y1, x2, y1, x2, y2, x1, y2]]
            annotations.append(
                {
                    "image_id": number,
                    "category_id": 7 + int(scene.classes[row]),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "segmentation": told,
                    "iscrowd": int(number == 1 and row == 3),
                }
            )
    categories = [{"id": 7 + row, "name": name} for row, name in enumerate(painted.LABELS)]
    told_all = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "truth.json").write_text(json.dumps(told_all))
    return tmp_path


def opened(folder: Path) -> MaskedFolder:
    whole = Folder.open(folder / "truth.json", folder)
    return MaskedFolder(whole, 0, measured=whole)


def test_a_folder_gives_what_was_written(folder: Path) -> None:
    scenes = opened(folder)
    assert scenes.labels == painted.LABELS
    for number, scene in enumerate(scenes.held_out()):
        wanted = painted.scene(number)
        assert np.array_equal(scene.image, wanted.image)
        assert np.array_equal(scene.boxes, wanted.boxes)
        assert np.array_equal(scene.classes, wanted.classes)
        rows = [row for row in range(4) if (number, row) != (1, 1)]
        assert np.abs(scene.masks[rows].astype(int) - wanted.masks[rows]).max() <= 2
    assert (scenes.held_out()[1].masks[1] == 255).all(), "a polygon that fills its box"
    assert scenes.held_out()[1].hidden.tolist() == [False, False, False, True]


def test_every_image_comes_once_a_turn(folder: Path) -> None:
    scenes = opened(folder)
    heads = [float(scenes.learn(number).image.mean()) for number in range(6)]
    assert len(set(heads)) == 2
    assert all(heads[i] != heads[i + 1] for i in (0, 2, 4))


def test_data_that_is_not_there_is_said_in_one_sentence(folder: Path) -> None:
    told = painted.manifest("mask-rcnn")
    with pytest.raises(TrainingError, match="say world, coco:ANNOTATIONS"):
        open_masked(Subject(told, "voc:here", 1))
    with pytest.raises(TrainingError, match="correct --data"):
        open_masked(Subject(told, f"coco:{folder}/none.json,{folder}", 1))
    (folder / "0.png").write_bytes(b"no image")
    with pytest.raises(TrainingError, match="is no image of"):
        opened(folder).held_out()


def test_annotations_without_outlines_are_refused(folder: Path) -> None:
    told = json.loads((folder / "truth.json").read_text())
    told["annotations"][0]["segmentation"] = [[1, 2]]
    (folder / "truth.json").write_text(json.dumps(told))
    with pytest.raises(TrainingError, match="mend the annotations"):
        opened(folder).held_out()

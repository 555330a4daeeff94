from __future__ import annotations

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco

from engines.geometry import Size
from engines.masks import decode, encode, encode_masks, paint, polygons, realign
from engines.types import Bool, Float, Masks

SIZE = (60, 80)


def blobs(count: int, cells: int = 28, seed: int = 0) -> Masks:
    """Soft ellipses with bumps, some of them beyond their box."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, cells, cells)).astype(np.float32)
    rows, columns = np.mgrid[-1 : 1 : cells * 1j, -1 : 1 : cells * 1j]
    hill = rng.uniform(0.5, 1.3, (count, 1, 1)) - np.hypot(columns, rows)
    smooth = np.stack([cv2.GaussianBlur(one, (0, 0), 2) for one in noise])
    return Masks((1 / (1 + np.exp(-8 * (hill + smooth)))).astype(np.float32))


def boxes(count: int, least: float = 0.5) -> Float:
    """Boxes in the image, of sides from *least* to 50."""
    rng = np.random.default_rng(0)
    limit = np.array(SIZE[::-1], np.float32)
    sides = rng.uniform(least, 50, (count, 2)).astype(np.float32)
    corner = rng.uniform(0, 1, (count, 2)).astype(np.float32) * (limit - sides)
    return np.concatenate([corner, corner + sides], 1)


def whole(masks: Masks, xyxy: Float, size: Size = SIZE) -> list[Bool]:
    images = []
    for top, left, pixels in paint(masks, xyxy, size):
        image = np.zeros(size, bool)
        image[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        images.append(image)
    return images


def by_torch(probs: Float, box: Float, size: Size) -> Float:
    """Paste one mask as it is told of torchvision's: a ring of zeros, whole pixels, bilinear; the soft image."""
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'streamer[build]'")
    cells = probs.shape[0]
    ringed = torch.zeros(1, 1, cells + 2, cells + 2)
    ringed[0, 0, 1:-1, 1:-1] = torch.from_numpy(probs)
    x1, y1, x2, y2 = torch.from_numpy(box)
    grow = (cells + 2) / cells
    middle, half = ((x1 + x2) * 0.5, (y1 + y2) * 0.5), ((x2 - x1) * 0.5 * grow, (y2 - y1) * 0.5 * grow)
    left, top, right, bottom = (
        int(value) for value in (middle[0] - half[0], middle[1] - half[1], middle[0] + half[0], middle[1] + half[1])
    )
    width, height = max(right - left + 1, 1), max(bottom - top + 1, 1)
    soft = torch.nn.functional.interpolate(ringed, size=(height, width), mode="bilinear", align_corners=False)[0, 0]
    canvas = torch.zeros(size)
    ours = slice(max(top, 0), min(bottom + 1, size[0])), slice(max(left, 0), min(right + 1, size[1]))
    canvas[ours] = soft[ours[0].start - top : ours[0].stop - top, ours[1].start - left : ours[1].stop - left]
    return np.asarray(canvas.numpy())


@pytest.mark.parametrize("cells", [14, 28, 56])
def test_painted_pixels_are_torchvisions(cells: int) -> None:
    masks, xyxy = blobs(60, cells), boxes(60)
    for probs, box, ours in zip(masks.probs, xyxy, whole(masks, xyxy), strict=True):
        soft = by_torch(probs, box, SIZE)
        sure = np.abs(soft - 0.5) > 1e-5  # nearer than that, it is the order of sums that decides
        assert sure.mean() > 0.99
        assert np.array_equal(ours[sure], (soft > 0.5)[sure])


def test_encoded_is_what_is_painted() -> None:
    masks, xyxy = blobs(60), boxes(60)
    assert encode_masks(masks, xyxy, SIZE) == [encode(image) for image in whole(masks, xyxy)]


def test_runs_go_on_from_the_last_row_to_the_next_column() -> None:
    masks, xyxy = Masks(np.ones((1, 4, 4), np.float32)), np.array([[10, -20, 30, 80]], np.float32)
    (rle,) = encode_masks(masks, xyxy, SIZE)
    assert decode(rle)[:, 12:28].all()
    assert encode(decode(rle)) == rle  # joined: COCO knows no run of nothing in between


@pytest.mark.parametrize("box", [[-30, 5, -8, 9], [100, 5, 140, 9], [5, 70, 9, 99], [5, -90, 9, -70]])
def test_a_box_outside_the_image_has_no_pixels(box: list[float]) -> None:
    masks, xyxy = Masks(np.ones((1, 4, 4), np.float32)), np.array([box], np.float32)
    ((_, _, pixels),) = paint(masks, xyxy, SIZE)
    assert not pixels.size
    assert not decode(encode_masks(masks, xyxy, SIZE)[0]).any()
    assert polygons(masks, xyxy, SIZE) == [[]]


def test_no_masks() -> None:
    none, nowhere = Masks(np.zeros((0, 28, 28), np.float32)), np.zeros((0, 4), np.float32)
    assert list(paint(none, nowhere, SIZE)) == []
    assert encode_masks(none, nowhere, SIZE) == []
    assert polygons(none, nowhere, SIZE) == []
    assert len(realign(none, nowhere, nowhere)) == 0


def test_an_outline_made_a_mask_again_is_the_same_but_for_holes() -> None:
    masks, xyxy = blobs(30), boxes(30)
    for parts, image in zip(polygons(masks, xyxy, SIZE), whole(masks, xyxy), strict=True):
        solid = np.zeros(SIZE, np.uint8)
        lines, _ = cv2.findContours(image.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(solid, lines, -1, 1, cv2.FILLED)
        made = coco.decode(coco.merge(coco.frPyObjects([part.ravel().tolist() for part in parts], *SIZE)))
        assert all(part.dtype == np.float32 for part in parts)
        assert np.array_equal(made, solid)


def test_parts_have_an_outline_each_and_holes_none() -> None:
    probs = np.zeros((2, 20, 20), np.float32)
    probs[0, 2:18, 2:8] = probs[0, 2:18, 12:18] = 1
    probs[1, 2:18, 2:18] = 1
    probs[1, 8:12, 8:12] = 0
    xyxy = np.array([[10, 10, 50, 50], [10, 10, 50, 50]], np.float32)
    two, ring = polygons(Masks(probs), xyxy, SIZE)
    assert len(two) == 2
    assert len(ring) == 1
    assert ring[0].min(0).tolist() == pytest.approx([14, 14], abs=1.1)
    assert ring[0].max(0).tolist() == pytest.approx([46, 46], abs=1.1)


def test_a_clipped_box_shows_what_was_in_the_image() -> None:
    masks = blobs(40, 56, seed=2)
    rng = np.random.default_rng(3)
    corner = rng.uniform(-20, 50, (40, 2))
    whole_box = np.concatenate([corner, corner + rng.uniform(25, 45, (40, 2))], 1).astype(np.float32)
    clipped = np.clip(whole_box, 0, [80, 60, 80, 60]).astype(np.float32)
    seen = realign(masks, whole_box, clipped)
    for before, after in zip(whole(masks, whole_box), whole(seen, clipped), strict=True):
        edge = cv2.morphologyEx(np.pad(before, 1).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3)))[1:-1, 1:-1]
        edge[[0, -1]] = edge[:, [0, -1]] = 1  # a cell of zeros lies along the border now
        assert not (before ^ after)[edge == 0].any()


def test_seen_through_its_own_box_a_mask_stays() -> None:
    masks, xyxy = blobs(9), boxes(9)
    assert realign(masks, xyxy, xyxy).probs == pytest.approx(masks.probs, abs=1e-4)


def test_half_a_box_shows_half_the_mask_and_what_lies_outside_is_nothing() -> None:
    probs = np.zeros((1, 4, 4), np.float32)
    probs[0, :, 2:] = 1
    old = np.array([[0, 0, 8, 8]], np.float32)
    right = realign(Masks(probs), old, np.array([[4, 0, 8, 8]], np.float32)).probs[0]
    assert (right[1:3, 1:3] == 1).all()
    assert not realign(Masks(probs), old, np.array([[16, 0, 24, 8]], np.float32)).probs.any()


def test_boxes_without_an_area_break_nothing() -> None:
    masks, flat = blobs(1), np.array([[5, 5, 5, 9]], np.float32)
    assert np.isfinite(realign(masks, flat, flat).probs).all()
    assert len(encode_masks(masks, flat, SIZE)) == 1

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from engines.rle import Rle, area, decode, encode, rle_iou
from engines.types import Bool


def disc(height: int, width: int, x: float, y: float, radius: float) -> Bool:
    rows, columns = np.mgrid[:height, :width]
    found: Bool = np.hypot(columns - x, rows - y) <= radius
    return found


def theirs(mask: Bool) -> dict[str, object]:
    told: dict[str, object] = coco.encode(np.asfortranarray(mask, np.uint8))
    return told


@pytest.mark.parametrize(
    ("mask", "counts"),
    [
        (np.zeros((3, 4), bool), b"<"),
        (np.ones((3, 4), bool), b"0<"),
        (np.array([[0, 1], [1, 1]], bool), b"13"),
        (np.array([[1]], bool), b"01"),
    ],
)
def test_short_ones_by_hand(mask: Bool, counts: bytes) -> None:
    """A character is 48 and the count; zeros come first, column by column."""
    assert encode(mask) == Rle((mask.shape[0], mask.shape[1]), counts)
    assert theirs(mask)["counts"] == counts


def test_counts_of_many_digits_equal_cocos() -> None:
    large = np.zeros((4000, 6000), bool)
    large[7, 3] = large[3999, 5999] = True
    large[100:3000, 2000:4100] = True
    rle = encode(large)
    assert rle.counts == theirs(large)["counts"]
    assert area(rle) == large.sum()
    assert np.array_equal(decode(rle), large)


def test_one_that_coco_has_written_is_read() -> None:
    mask = disc(57, 91, 40, 20, 25)
    told = coco.encode(np.asfortranarray(mask, np.uint8))
    assert np.array_equal(decode(Rle((57, 91), told["counts"])), mask)


def test_a_length_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="an RLE of 12 pixels is none of an image of 5 x 4"):
        decode(Rle((5, 4), b"<"))


@pytest.mark.parametrize("counts", [b"", b"P"])
def test_counts_that_break_off_are_refused(counts: bytes) -> None:
    with pytest.raises(ValueError, match="break off"):
        decode(Rle((5, 4), counts))


def test_overlaps_equal_cocos() -> None:
    a = [disc(60, 80, x, 30, 20) for x in (10, 30, 50, 79)]
    b = [*a[1:], disc(60, 80, 40, 0, 70), np.zeros((60, 80), bool)]
    crowd = np.array([False, True, False, True, True])
    ours = [encode(mask) for mask in a], [encode(mask) for mask in b]
    cocos = [theirs(mask) for mask in a], [theirs(mask) for mask in b]
    assert rle_iou(*ours) == pytest.approx(coco.iou(*cocos, [0] * 5))
    assert rle_iou(*ours, crowd) == pytest.approx(coco.iou(*cocos, crowd.astype(int).tolist()))


def test_nothing_overlaps_nothing() -> None:
    some = [encode(disc(9, 9, 4, 4, 2))]
    assert rle_iou([], some).shape == (0, 1)
    assert rle_iou(some, []).shape == (1, 0)


def test_masks_of_two_images_are_not_compared() -> None:
    with pytest.raises(ValueError, match="compare those of one image"):
        rle_iou([encode(np.ones((3, 4), bool))], [encode(np.ones((4, 3), bool))])

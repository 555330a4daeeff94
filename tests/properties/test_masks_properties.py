from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from engines.masks import area, decode, encode, encode_masks, paint, realign, rle_iou
from engines.types import Bool, Float, Masks

SIZES = st.tuples(st.integers(1, 24), st.integers(1, 24))
FILLS = st.sampled_from([st.booleans(), st.just(False), st.just(True)])  # Hypothesis fills in what it does not draw
MASKS = st.tuples(SIZES, FILLS).flatmap(lambda s: hnp.arrays(np.bool_, s[0], elements=st.booleans(), fill=s[1]))


@given(MASKS)
@example(np.zeros((0, 3), np.bool_))
def test_any_mask_is_encoded_as_coco_does_and_comes_back(mask: Bool) -> None:
    rle = encode(mask)
    told = coco.encode(np.asfortranarray(mask, np.uint8))
    assert (list(rle.size), rle.counts) == (told["size"], told["counts"])
    assert np.array_equal(decode(rle), mask)
    assert area(rle) == mask.sum()


@given(st.lists(st.integers(0, 60_000), min_size=1, max_size=30))
def test_runs_of_any_length_are_encoded_as_coco_does(lengths: list[int]) -> None:
    mask = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)[:, None]
    rle = encode(mask)
    assert rle.counts == coco.encode(np.asfortranarray(mask, np.uint8))["counts"]
    assert np.array_equal(decode(rle), mask)


@given(SIZES.flatmap(lambda size: st.lists(hnp.arrays(np.bool_, size), min_size=1, max_size=5)), st.data())
def test_overlaps_are_cocos(masks: list[Bool], data: st.DataObject) -> None:
    crowd = data.draw(hnp.arrays(np.bool_, len(masks)))
    told = [coco.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]
    ours = [encode(mask) for mask in masks]
    expected = coco.iou(told, told, crowd.astype(int).tolist())
    assert np.allclose(rle_iou(ours, ours, crowd), expected, atol=1e-6)


EDGES = st.floats(-40, 60, width=32)


@st.composite
def objects(draw: st.DrawFn) -> tuple[Masks, Float]:
    count = draw(st.integers(0, 4))
    probs = draw(hnp.arrays(np.float32, (count, 4, 4), elements=st.floats(0, 1, width=32)))
    edges = draw(hnp.arrays(np.float32, (count, 2, 2), elements=EDGES))
    return Masks(probs), np.sort(edges, axis=1).reshape(count, 4)


@given(objects(), SIZES)
def test_what_is_painted_lies_in_the_image_and_is_what_is_encoded(
    found: tuple[Masks, Float], size: tuple[int, int]
) -> None:
    images = []
    for top, left, pixels in paint(*found, size):
        assert not pixels.size or (0 <= top <= size[0] - pixels.shape[0] and 0 <= left <= size[1] - pixels.shape[1])
        image = np.zeros(size, np.bool_)
        image[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        images.append(image)
    assert encode_masks(*found, size) == [encode(image) for image in images]


@given(objects(), st.data())
def test_masks_seen_through_any_box_are_probabilities(found: tuple[Masks, Float], data: st.DataObject) -> None:
    masks, old = found
    new = data.draw(hnp.arrays(np.float32, (len(masks), 2, 2), elements=EDGES))
    probs = realign(masks, old, np.sort(new, axis=1).reshape(-1, 4)).probs
    assert probs.shape == masks.probs.shape
    assert ((probs >= 0) & (probs <= 1 + 1e-6)).all()

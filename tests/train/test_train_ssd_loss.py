"""SSD's loss against what a hand, and loops in NumPy, make of the same numbers."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.boxes import iou
from engines.networks.heads import AnchorHead, AnchorKind
from engines.train.losses.ssd import assign, encoded, hardest, multibox_loss
from engines.train.losses.yolox import NOBODY, Objects

WEIGHTS = (10.0, 5.0)
DEFAULTS = torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10], [0, 10, 10, 20], [10, 10, 20, 20]])


def objects(*boxes: tuple[float, float, float, float, int]) -> Objects:
    rows = torch.tensor([boxes], dtype=torch.float32).reshape(1, -1, 5)
    return Objects(rows[..., :4], rows[..., 4].long(), torch.ones(rows.shape[:2], dtype=torch.bool))


def test_a_default_box_finds_what_it_overlaps_by_more_than_half() -> None:
    assert assign(DEFAULTS, objects((0, 0, 10, 9, 1))).tolist() == [[0, NOBODY, NOBODY, NOBODY]]


def test_every_object_has_a_default_box_however_little_they_overlap() -> None:
    assert assign(DEFAULTS, objects((11, 11, 13, 13, 1))).tolist() == [[NOBODY, NOBODY, NOBODY, 0]]


def test_an_object_takes_its_best_box_from_one_that_overlaps_it_more() -> None:
    """Both overlap the first default box most; the small one has no other chance to be found."""
    assert assign(DEFAULTS, objects((0, 0, 10, 10, 1), (0, 0, 4, 4, 2))).tolist() == [[1, NOBODY, NOBODY, NOBODY]]


def test_padding_takes_no_box() -> None:
    truth = objects((0, 0, 10, 10, 1), (0, 0, 0, 0, 0))
    truth = Objects(truth.boxes, truth.classes, torch.tensor([[True, False]]))
    assert assign(DEFAULTS, truth).tolist() == [[0, NOBODY, NOBODY, NOBODY]]
    assert (assign(DEFAULTS, Objects(truth.boxes, truth.classes, torch.zeros(1, 2, dtype=torch.bool))) == NOBODY).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_matching_is_that_of_a_slow_one(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    corner, side = random.uniform(0, 80, (60, 2)), random.uniform(8, 40, (60, 2))
    defaults = np.concatenate([corner, corner + side], 1).astype(np.float32)
    truth = (defaults[random.integers(0, 60, count)] + random.normal(0, 3, (count, 4))).astype(np.float32)
    overlap = iou(truth, defaults)
    wanted = [int(overlap[:, a].argmax()) if overlap[:, a].max() > 0.5 else NOBODY for a in range(60)]
    for g in range(count):
        wanted[int(overlap[g].argmax())] = g
    boxes = [(*box, 1) for box in truth.tolist()]
    assert assign(torch.from_numpy(defaults), objects(*boxes)).tolist() == [wanted]


def test_the_hardest_backgrounds_are_three_for_each_object() -> None:
    entropy = torch.tensor([[9.0, 1, 2, 3, 4, 5], [9, 8, 7, 6, 5, 4], [1, 2, 3, 4, 5, 6]])
    positive = torch.tensor([[True, False, False, False, False, False], [False] * 6, [True, True, False] + [False] * 3])
    found = hardest(entropy, positive)
    assert found.tolist() == [
        [False, False, False, True, True, True],
        [False] * 6,
        [False, False, True, True, True, True],
    ]


def test_offsets_are_what_the_head_undoes() -> None:
    """What a network should say of an object, the head turns into its box."""
    boxes = torch.tensor([[3.0, 4, 15, 11], [9, 1, 19, 14], [1, 8, 12, 19], [8, 9, 18, 17]])
    head = AnchorHead(AnchorKind(partial(torch.softmax, dim=2), 1, WEIGHTS), DEFAULTS.numpy(), 4, (20, 20))
    logits = torch.tensor([[[0.0, 4 - row] for row in range(4)]])
    found = head(logits, encoded(boxes, DEFAULTS, WEIGHTS)[None])
    assert torch.allclose(found["boxes"][0], boxes, atol=1e-4)


def test_each_part_by_hand() -> None:
    """One object, a default box that is moved wrongly by 0.5 and 3 of its units, and three backgrounds."""
    logits = torch.tensor([[[0.0, 1.0], [0.0, 0.0], [0.0, 2.0], [0.0, -1.0]]])
    offsets = torch.zeros(1, 4, 4)
    offsets[0, 0] = torch.tensor([0.5, 0, 3, 0])
    parts = multibox_loss(logits, offsets, DEFAULTS, objects((0, 0, 10, 10, 1)), WEIGHTS)
    assert float(parts["box"]) == pytest.approx(0.5 * 0.5**2 + (3 - 0.5))
    each = [math.log(1 + math.exp(-1)), math.log(2), math.log(1 + math.exp(2)), math.log(1 + math.exp(-1))]
    assert float(parts["classes"]) == pytest.approx(sum(each), rel=1e-5)


def test_what_is_right_costs_next_to_nothing() -> None:
    truth = objects((1, 1, 10, 9, 2))
    logits = torch.full((1, 4, 3), -20.0)
    logits[0, 1:, 0] = logits[0, 0, 2] = 20
    offsets = torch.zeros(1, 4, 4)
    offsets[0, 0] = encoded(truth.boxes[0], DEFAULTS[:1], WEIGHTS)[0]
    parts = multibox_loss(logits, offsets, DEFAULTS, truth, WEIGHTS)
    assert {name: round(float(value), 4) for name, value in parts.items()} == {"box": 0, "classes": 0}


def test_an_image_without_objects_teaches_nothing_but_harms_nothing() -> None:
    """As in the paper, backgrounds count only beside objects."""
    logits = torch.zeros(1, 4, 2, requires_grad=True)
    nothing = Objects(torch.zeros(1, 1, 4), torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.bool))
    parts = multibox_loss(logits, torch.zeros(1, 4, 4), DEFAULTS, nothing, WEIGHTS)
    (slope,) = torch.autograd.grad(torch.stack([*parts.values()]).sum(), logits)
    assert not slope.any()

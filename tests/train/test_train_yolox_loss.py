"""YOLOX's loss against what a hand, and an assignment written anew in NumPy, make of the same numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engines.networks.yolox import AnchorPoints
from engines.train.losses.boxes import each_iou, paired_iou
from engines.train.losses.yolox import NOBODY, Answers, Objects, assign, yolox_loss
from engines.types import Array, Float, Int

OFF, ON = torch.tensor(0.0), torch.tensor(1.0)


def logit(share: float) -> float:
    return math.log(share / (1 - share))


def objects(*boxes: tuple[float, float, float, float, int]) -> Objects:
    """Make one image's truth of boxes with their classes."""
    rows = torch.tensor([boxes], dtype=torch.float32).reshape(1, -1, 5)
    return Objects(rows[..., :4], rows[..., 4].long(), torch.ones(rows.shape[:2], dtype=torch.bool))


def rows_of(points: AnchorPoints, boxes: Tensor, objectness: float, classes: Tensor) -> Tensor:
    """Write boxes (A, 4) as a network would, with one objectness, and logits (A, C): (1, A, 5 + C)."""
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    raw = torch.cat(((centre - points.origin) / points.stride, (size / points.stride).log()), 1)
    return torch.cat((raw, torch.full((len(boxes), 1), objectness), classes), 1)[None]


# --- overlap ---


def test_overlaps_are_those_of_a_hand() -> None:
    a = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 2, 2], [1, 1, 1, 5]])
    b = torch.tensor([[1.0, 1, 3, 3], [0, 0, 2, 1], [5, 5, 6, 6], [1, 1, 1, 5]])
    assert paired_iou(a, b).tolist() == pytest.approx([1 / 7, 1 / 2, 0, 0])
    assert each_iou(a[:1], b[:3]).tolist() == [pytest.approx([1 / 7, 1 / 2, 0])]


def test_a_box_is_pulled_towards_its_object() -> None:
    """A step against the gradient moves each side the way that makes the overlap larger."""
    box = torch.tensor([2.0, 2, 8, 8], requires_grad=True)
    (slope,) = torch.autograd.grad(1 - paired_iou(box, torch.tensor([1.0, 3, 9, 7])) ** 2, box)
    # Left goes left, top down, right to the right, bottom up.
    assert torch.sign(-slope).tolist() == [-1, 1, 1, -1]


# --- assignment ---


def test_four_points_and_an_object() -> None:
    """Of four points, two lie within; both overlap it well, so that their overlaps add up to one and a half."""
    points = AnchorPoints((16, 16), (8,))  # centres at 4 and 12
    boxes = torch.tensor([[[0.0, 0, 8, 16], [0, 0, 8, 12], [0, 0, 2, 2], [12, 12, 16, 16]]])
    answers = Answers(boxes, torch.zeros(1, 4), torch.zeros(1, 4, 1))
    truth = objects((0, 0, 8, 16, 0))  # within: points 0 and 2; near the centre (4, 8): all four
    match, overlap = assign(answers, points, truth)
    # The overlaps 1, 0.75, 0.03 and 0 make one point, and the one that is within and overlaps most is cheapest.
    assert match.tolist() == [[0, NOBODY, NOBODY, NOBODY]]
    assert overlap[0, 0] == 1


def test_more_overlap_makes_more_points() -> None:
    points = AnchorPoints((16, 16), (8,))
    boxes = torch.tensor([[[0.0, 0, 16, 16]] * 4])
    match, _ = assign(Answers(boxes, torch.zeros(1, 4), torch.zeros(1, 4, 1)), points, objects((0, 0, 16, 16, 0)))
    assert match.tolist() == [[0, 0, 0, 0]]


def test_a_point_that_two_objects_want_goes_to_the_one_it_costs_least() -> None:
    points = AnchorPoints((8, 8), (8,))  # one point
    answers = Answers(torch.tensor([[[0.0, 0, 6, 6]]]), torch.zeros(1, 1), torch.zeros(1, 1, 2))
    match, overlap = assign(answers, points, objects((0, 0, 8, 8, 0), (0, 0, 6, 6, 0)))
    assert (match.tolist(), overlap.tolist()) == ([[1]], [[1]])


def test_the_better_class_wins_where_boxes_are_as_good() -> None:
    points = AnchorPoints((8, 16), (8,))
    answers = Answers(torch.tensor([[[0.0, 0, 5, 8]] * 2]), torch.zeros(1, 2), torch.tensor([[[0.0, 5], [5, 0]]]))
    match, _ = assign(answers, points, objects((0, 0, 16, 8, 0)))
    assert match.tolist() == [[NOBODY, 0]]


def test_padding_wants_nothing() -> None:
    points = AnchorPoints((16, 16), (8,))
    answers = Answers(torch.tensor([[[0.0, 0, 16, 16]] * 4]), torch.zeros(1, 4), torch.zeros(1, 4, 1))
    truth = objects((0, 0, 16, 16, 0))
    match, _ = assign(answers, points, Objects(truth.boxes, truth.classes, torch.zeros(1, 1, dtype=torch.bool)))
    assert (match == NOBODY).all()


def reference(boxes: Float, objectness: Float, classes: Float, centres: Array, strides: Array, truth: Float) -> Int:
    """Assign one image's points, object by object and point by point: boxes (A, 4), truth (G, 5)."""
    points, cost = len(boxes), np.full((len(truth), len(boxes)), np.inf)
    overlap = np.zeros_like(cost)
    for g, (x1, y1, x2, y2, label) in enumerate(truth.tolist()):
        for a in range(points):
            x, y = centres[a]
            within = x1 < x < x2 and y1 < y < y2
            reach = 2.5 * strides[a]
            central = abs(x - (x1 + x2) / 2) < reach and abs(y - (y1 + y2) / 2) < reach
            if not (within or central):
                continue
            bx1, by1, bx2, by2 = boxes[a].tolist()
            shared = max(min(x2, bx2) - max(x1, bx1), 0) * max(min(y2, by2) - max(y1, by1), 0)
            overlap[g, a] = shared / ((x2 - x1) * (y2 - y1) + (bx2 - bx1) * (by2 - by1) - shared)
            entropy = 0.0
            for c in range(classes.shape[1]):
                sure = math.sqrt(1 / (1 + math.exp(-classes[a, c])) / (1 + math.exp(-objectness[a])))
                entropy -= math.log(sure if c == label else 1 - sure)
            cost[g, a] = entropy - 3 * math.log(overlap[g, a] + 1e-8) + (0 if within and central else 1e5)
    taken = np.full(points, NOBODY, np.int32)
    price = np.full(points, np.inf)
    for g in range(len(truth)):
        count = max(1, int(np.sort(overlap[g])[::-1][:10].sum()))
        for a in np.argsort(cost[g], kind="stable")[:count]:
            if cost[g, a] < price[a]:
                taken[a], price[a] = g, cost[g, a]
    return taken


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_the_assignment_is_that_of_a_slow_one(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    points = AnchorPoints((32, 64))
    total = len(points.origin)
    corner, side = random.uniform(0, 40, (count, 2)), random.uniform(4, 30, (count, 2))
    truth = np.concatenate([corner, corner + side, random.integers(0, 3, (count, 1))], 1).astype(np.float32)
    near = truth[random.integers(0, count, total), :4]
    boxes = (near + random.normal(0, 4, near.shape)).astype(np.float32)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    objectness, classes = (random.normal(0, 2, shape).astype(np.float32) for shape in ((total,), (total, 3)))
    strides = points.stride[:, 0].numpy()
    centres = points.origin.numpy() + strides[:, None] / 2
    answers = Answers(*(torch.from_numpy(each)[None] for each in (boxes, objectness, classes)))
    match, _ = assign(answers, points, objects(*(tuple(row) for row in truth.tolist())))
    assert match[0].tolist() == reference(boxes, objectness, classes, centres, strides, truth).tolist()


# --- the loss ---


def test_what_is_right_costs_next_to_nothing() -> None:
    points = AnchorPoints((16, 16), (8,))
    boxes = torch.tensor([[0.0, 0, 16, 16]] * 4)
    rows = rows_of(points, boxes, 20.0, torch.tensor([[20.0, -20]] * 4))
    parts = yolox_loss(rows, points, objects((0, 0, 16, 16, 0)), exact=ON)
    assert {name: round(float(value), 4) for name, value in parts.items()} == dict.fromkeys(parts, 0)


def test_each_part_by_hand() -> None:
    """One point finds an object of 8 x 8 with a box of half its area; the other point, far off, is sure of nothing."""
    points = AnchorPoints((8, 64), (8,))
    boxes = torch.tensor([[0.0, 0, 8, 4]] + [[0.0, 0, 1, 1]] * 7)
    rows = rows_of(points, boxes, logit(0.2), torch.tensor([[logit(0.6), logit(0.1)]] * 8))
    parts = yolox_loss(rows, points, objects((0, 0, 8, 8, 0)), exact=ON)
    assert float(parts["box"]) == pytest.approx(5 * (1 - 0.5**2))
    assert float(parts["objectness"]) == pytest.approx(-math.log(0.2) - 7 * math.log(0.8), rel=1e-5)
    # The true class shall be as sure as the box overlaps: by half.
    wanted = -0.5 * math.log(0.6) - 0.5 * math.log(0.4) - math.log(0.9)
    assert float(parts["classes"]) == pytest.approx(wanted, rel=1e-5)
    # In strides: its centre is 0.25 too high, and its height the half.
    assert float(parts["exact"]) == pytest.approx(0.25 + math.log(2), rel=1e-5)


def test_exact_counts_only_at_the_end() -> None:
    points = AnchorPoints((16, 16), (8,))
    rows = rows_of(points, torch.tensor([[0.0, 0, 12, 12]] * 4), 0.0, torch.zeros(4, 1))
    assert float(yolox_loss(rows, points, objects((0, 0, 16, 16, 0)), exact=OFF)["exact"]) == 0


def test_an_empty_image_teaches_to_find_nothing() -> None:
    points = AnchorPoints((16, 16), (8,))
    rows = rows_of(points, torch.tensor([[0.0, 0, 12, 12]] * 4), 0.0, torch.zeros(4, 1)).requires_grad_()
    nothing = Objects(torch.zeros(1, 1, 4), torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.bool))
    parts = yolox_loss(rows, points, nothing, exact=ON)
    (slope,) = torch.autograd.grad(torch.stack([*parts.values()]).sum(), rows)
    assert float(parts["objectness"].detach()) == pytest.approx(4 * math.log(2), rel=1e-5)
    assert slope.isfinite().all()
    assert (slope[..., 4] > 0).all()
    assert not slope[..., :4].any()


def test_wild_rows_of_an_untrained_network_give_finite_gradients() -> None:
    points = AnchorPoints((32, 32))
    rows = (torch.randn(2, len(points.origin), 7, generator=torch.Generator().manual_seed(0)) * 6).requires_grad_()
    boxes = torch.tensor([[[2.0, 2, 20, 30], [0, 0, 0, 0]], [[5, 5, 9, 9], [1, 1, 30, 30]]])
    there = torch.tensor([[True, False], [True, True]])
    parts = yolox_loss(rows, points, Objects(boxes, torch.zeros(2, 2, dtype=torch.int64), there), exact=ON)
    (slope,) = torch.autograd.grad(torch.stack([*parts.values()]).sum(), rows)
    assert slope.isfinite().all()

"""Anchors and regions stand for the objects that they should, are chosen fairly, and miss them by what is said."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engines.boxes import iou
from engines.networks.proposals import moved
from engines.train.losses.matching import Matched, choose, deltas, match, match_all, overlaps
from engines.train.losses.yolox import Objects
from engines.types import Float


def objects(*boxes: tuple[float, float, float, float], padding: int = 0) -> Objects:
    """Make the truth of one image, with rows that are no objects."""
    rows = torch.tensor([*boxes, *[(0.0, 0.0, 9.0, 9.0)] * padding]).reshape(1, -1, 4)
    there = torch.arange(rows.shape[1]) < len(boxes)
    return Objects(rows, torch.ones(rows.shape[:2], dtype=torch.long), there.unsqueeze(0))


def listed(matched: Matched) -> list[tuple[int, str]]:
    """Say of each box of the first image which object it is near, and what it teaches."""
    kinds = zip(matched.positive[0].tolist(), matched.negative[0].tolist(), strict=True)
    words = ["object" if positive else "background" if negative else "nothing" for positive, negative in kinds]
    return list(zip(matched.row[0].tolist(), words, strict=True))


def test_overlaps_are_those_of_numpy_and_padding_has_none() -> None:
    random = np.random.default_rng(0)
    low = random.uniform(0, 50, (20, 2))
    boxes = np.concatenate([low, low + random.uniform(0, 40, (20, 2))], 1).astype(np.float32)
    truth = objects(*map(tuple, boxes[:3].tolist()), padding=2)
    over = overlaps(truth, torch.from_numpy(boxes))
    assert np.allclose(over[0, :3], iou(boxes[:3], boxes), atol=1e-5)
    assert (over[0, 3:] == -1).all()


OVER = torch.tensor([[[0.8, 0.5, 0.1, 0.0], [0.0, 0.6, 0.2, 0.0], [-1, -1, -1, -1]]])  # two objects, and a row of none


def test_between_both_thresholds_nothing_is_taught() -> None:
    assert listed(match(OVER, 0.7, 0.3)) == [(0, "object"), (1, "nothing"), (1, "background"), (0, "background")]


def test_every_object_has_its_nearest_box_however_far() -> None:
    assert listed(match_all(OVER, 0.7, 0.3)) == [(0, "object"), (1, "object"), (1, "background"), (0, "background")]


def test_of_equally_near_boxes_all_are_taken() -> None:
    over = torch.tensor([[[0.2, 0.2, 0.1]]])
    assert [word for _, word in listed(match_all(over, 0.7, 0.3))] == ["object", "object", "background"]


def test_a_box_that_is_nearest_to_one_object_stands_for_the_one_it_overlaps_most() -> None:
    over = torch.tensor([[[0.2, 0.0], [0.6, 0.9]]])
    assert listed(match_all(over, 0.7, 0.3)) == [(1, "object"), (1, "object")]


def test_an_object_that_nothing_overlaps_has_no_box() -> None:
    assert [word for _, word in listed(match_all(torch.zeros(1, 1, 3), 0.7, 0.3))] == ["background"] * 3


def test_an_image_without_objects_is_all_background() -> None:
    matched = match_all(torch.full((1, 2, 3), -1.0), 0.7, 0.3)
    assert not matched.positive.any()
    assert matched.negative.all()


# --- what is learnt from ---


def matched(kinds: Tensor) -> Matched:
    return Matched(torch.zeros_like(kinds, dtype=torch.long), kinds == 1, kinds == 0)


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=30),
    count=st.integers(2, 40),
    share=st.sampled_from([0.25, 0.5, 1.0]),
)
def test_what_is_chosen_is_balanced_whole_and_never_twice(kinds: list[int], count: int, share: float) -> None:
    both = torch.tensor([kinds, kinds[::-1]])
    rows, there = choose(matched(both), count, share)
    for image in range(2):
        chosen = rows[image][there[image]]
        found = both[image][chosen].tolist()
        positive = min(kinds.count(1), max(int(count * share), 1))
        assert len(set(chosen.tolist())) == len(chosen)
        assert found == [1] * positive + [0] * min(kinds.count(0), min(count, len(kinds)) - positive)


def test_the_choice_is_chance_and_repeats_with_its_seed() -> None:
    kinds = matched((torch.arange(400) % 4 == 0).long().unsqueeze(0))
    torch.manual_seed(1)
    first, again = choose(kinds, 40, 0.5)[0], choose(kinds, 40, 0.5)[0]
    torch.manual_seed(1)
    assert torch.equal(choose(kinds, 40, 0.5)[0], first)
    assert not torch.equal(again, first)
    seen = torch.cat([choose(kinds, 40, 0.5)[0].flatten() for _ in range(200)]).bincount(minlength=400)
    assert seen[::4].min() > 0.4 * seen[::4].max()  # 20 of 100, 200 times: about 40 each


# --- by how much boxes miss ---


def boxes(count: int) -> st.SearchStrategy[Float]:
    side = st.tuples(st.floats(-20, 300), st.floats(0.5, 200))
    return st.lists(st.tuples(side, side), min_size=count, max_size=count).map(
        lambda rows: np.array([(x, y, x + w, y + h) for (x, w), (y, h) in rows], np.float32)
    )


@settings(max_examples=60, deadline=None)
@given(one=boxes(3), other=boxes(3), weights=st.sampled_from([(1.0, 1.0), (10.0, 5.0)]))
def test_deltas_move_boxes_where_they_should(one: Float, other: Float, weights: tuple[float, float]) -> None:
    start, end = torch.from_numpy(one), torch.from_numpy(other)
    sides = (end[:, 2:] - end[:, :2]) / (start[:, 2:] - start[:, :2])
    near = (sides < 60).all(1)  # beyond, the network is not believed
    assert torch.allclose(moved(start, deltas(start, end, weights), weights)[near], end[near], atol=0.02, rtol=1e-3)


def test_deltas_are_shares_of_sides_and_logarithms() -> None:
    found = deltas(torch.tensor([0.0, 0, 10, 20]), torch.tensor([5.0, 0, 25, 10]), (10.0, 5.0))
    assert found.tolist() == pytest.approx([10.0, -2.5, 5 * np.log(2), -5 * np.log(2)])


def test_boxes_without_an_area_have_finite_deltas() -> None:
    assert deltas(torch.zeros(2, 4), torch.tensor([[0.0, 0, 5, 5], [3, 3, 3, 3]]), (10.0, 5.0)).isfinite().all()

"""The losses of Mask R-CNN and RetinaNet are what the papers say: by hand where that is short, else loop by loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import rcnnnets
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engines.boxes import iou
from engines.masks import realign
from engines.networks.proposals import NEVER
from engines.networks.roi import RoiAlign, pack
from engines.train.losses.focal import focal, retinanet_losses
from engines.train.losses.rcnn import Lesson, Looked, look, proposal_losses, region_losses, seen
from engines.train.losses.yolox import Objects
from engines.types import Float, Masks

EVERY = Lesson(anchors=10**6, anchors_share=1.0, regions=10**6, regions_share=1.0)  # nothing is left to chance
SIZE = (64, 96)


@pytest.fixture(autouse=True)
def single_thread() -> None:
    torch.set_num_threads(1)


def scattered(count: int, seed: int) -> Float:
    """Scatter boxes (count, 4) over an image."""
    random = np.random.default_rng(seed)
    first = random.uniform(0, 0.7, (count, 2)) * (96, 64)
    last = first + random.uniform(5, 40, (count, 2))
    return np.concatenate([first, last], 1).astype(np.float32)


def truth(images: int = 2, seed: int = 0) -> Objects:
    """Make four objects of an image, of which the last ones are none: of the first image one, and so on."""
    boxes = np.stack([scattered(4, seed + i) for i in range(images)])
    classes = torch.from_numpy(np.random.default_rng(seed).integers(1, 5, (images, 4)))
    there = torch.arange(4) < torch.tensor([3 - i for i in range(images)]).unsqueeze(1)
    return Objects(torch.from_numpy(boxes), classes, there)


def smooth(distance: float) -> float:
    return 4.5 * distance**2 if abs(distance) < 1 / 9 else abs(distance) - 1 / 18


def offsets(box: Float, onto: Float, weights: tuple[float, float] = (1, 1)) -> list[float]:
    sides, target = box[2:] - box[:2], onto[2:] - onto[:2]
    shift = ((onto[2:] + onto[:2]) - (box[2:] + box[:2])) / 2 / sides
    return [*(shift * weights[0]), *(np.log(target / sides) * weights[1])]


def told(over: Float, high: float, low: float) -> list[tuple[int, int]]:
    """Say of each anchor which object it stands for and whether it does: 1, 0 if for none, -1 if that is open."""
    kinds = []
    for column in over.T:
        row = int(column.argmax())
        lonely = any(column[i] == over[i].max() > 0 for i in range(len(over)))
        kinds.append((row, 1 if column[row] >= high or lonely else 0 if column[row] < low else -1))
    return kinds


# --- proposals ---


def test_proposals_are_rated_as_by_the_book() -> None:
    objects = truth()
    generator = torch.Generator().manual_seed(3)
    anchors = np.concatenate([scattered(40, 9), objects.boxes[0, :2].numpy() + 1])
    shapes = [(3, 4), (1, 2)]  # three anchors a cell: 36 + 6
    found = [(torch.randn(2, 3, *s, generator=generator), torch.randn(2, 12, *s, generator=generator)) for s in shapes]
    losses = proposal_losses(found, torch.from_numpy(anchors), objects, EVERY)

    logits = [[p for each, _ in found for p in each[i].permute(1, 2, 0).flatten().tolist()] for i in range(2)]
    moves = [np.concatenate([d[i].permute(1, 2, 0).reshape(-1, 4).numpy() for _, d in found]) for i in range(2)]
    binary, far, count = 0.0, 0.0, 0
    for image in range(2):
        real = objects.boxes[image][objects.there[image]].numpy()
        for anchor, (row, kind) in enumerate(told(iou(real, anchors), 0.7, 0.3)):
            if kind == -1:
                continue
            p = 1 / (1 + math.exp(-logits[image][anchor]))
            binary -= math.log(p if kind else 1 - p)
            count += 1
            if kind:
                wanted = offsets(anchors[anchor], real[row])
                far += sum(smooth(a - b) for a, b in zip(moves[image][anchor], wanted, strict=True))
    assert count < 2 * len(anchors)
    assert float(losses["objectness"]) == pytest.approx(binary / count, rel=1e-4)
    assert float(losses["proposal"]) == pytest.approx(far / count, rel=1e-4)


# --- regions ---


def test_regions_are_looked_at_with_the_objects_themselves() -> None:
    objects = truth()
    regions = torch.from_numpy(np.stack([scattered(5, 20), scattered(5, 21)]))
    worth = torch.zeros(2, 5)
    worth[0, 2] = NEVER
    looked = look(regions, worth, objects, EVERY)
    for image in range(2):
        real = objects.there[image]
        boxes = looked.boxes[image][looked.there[image]]
        kept = {tuple(box) for box in boxes.tolist()}
        exist = torch.cat((regions[image][worth[image] > NEVER], objects.boxes[image][real]))
        assert kept == {tuple(box) for box in exist.tolist()}
        over = iou(objects.boxes[image][real].numpy(), boxes.numpy())
        positive = over.max(0) >= 0.5
        assert (looked.positive[image][looked.there[image]].numpy() == positive).all()
        wanted = np.where(positive, objects.classes[image].numpy()[over.argmax(0)], 0)
        assert (looked.classes[image][looked.there[image]].numpy() == wanted).all()
    assert (looked.positive.int().diff(dim=1) <= 0).all(), "those of objects come first"


def test_regions_are_rated_by_hand() -> None:
    objects = Objects(torch.tensor([[[0.0, 0, 10, 10]]]), torch.tensor([[2]]), torch.tensor([[True]]))
    looked = Looked(
        torch.tensor([[[0.0, 0, 10, 5], [20, 20, 30, 30], [0, 0, 0, 0]]]),
        torch.tensor([[True, True, False]]),
        torch.tensor([[True, False, False]]),
        torch.tensor([[2, 0, 0]]),
        torch.zeros(1, 3, dtype=torch.long),
    )
    logits = torch.tensor([[0.0, 0, math.log(2)], [math.log(3), 0, 0], [9, 9, 9]])
    moves = torch.zeros(3, 3, 4)
    moves[0, 1] = 100  # of another class
    moves[0, 2] = torch.tensor([0.05, 5.0, 0.0, 0.0])
    losses = region_losses(logits, moves.reshape(3, 12), looked, objects)
    assert float(losses["class"]) == pytest.approx((math.log(2) + math.log(5 / 3)) / 2)
    # Down by half its height, times 10, and twice as high, times 5; to the right nothing.
    far = [smooth(0.05), smooth(0.0), smooth(0.0), smooth(5 * math.log(2))]
    assert float(losses["box"]) == pytest.approx(sum(far) / 2, rel=1e-5)


def test_nothing_to_learn_from_is_no_loss() -> None:
    none = Objects(torch.zeros(1, 1, 4), torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.bool))
    looked = look(torch.zeros(1, 3, 4), torch.full((1, 3), NEVER), none, EVERY)
    losses = region_losses(torch.randn(4, 3), torch.randn(4, 12), looked, none)
    assert {float(part) for part in losses.values()} == {0.0}


# --- masks ---


@pytest.mark.parametrize("cells", [28, 14])
def test_masks_are_seen_through_other_boxes_as_they_are_realigned(cells: int) -> None:
    random = np.random.default_rng(4)
    soft = random.uniform(0, 1, (6, cells, cells)).astype(np.float32)
    old = scattered(6, 30)
    new = old + random.uniform(-4, 4, (6, 4)).astype(np.float32)
    found = seen(torch.from_numpy(soft), torch.from_numpy(old), torch.from_numpy(new), cells)
    assert np.allclose(found, realign(Masks(soft), old, new).probs, atol=1e-4)


def test_the_same_box_shows_the_same_mask_and_bytes_are_shares() -> None:
    mask = torch.randint(0, 2, (1, 28, 28), dtype=torch.uint8) * 255
    box = torch.tensor([[3.3, 4.0, 17.0, 30.5]])
    assert torch.allclose(seen(mask, box, box, 28), mask / 255, atol=1e-4)


def test_half_of_a_mask_is_finer() -> None:
    mask = torch.zeros(1, 4, 4)
    mask[0, :, :2] = 1
    left = seen(mask, torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([[0.0, 0, 4, 8]]), 4)
    assert torch.allclose(left[0, 1:3, 1:], torch.tensor([1.0, 1.0, 0.75]).expand(2, 3))


# --- gradients ---


def test_roi_align_has_the_gradients_of_the_book() -> None:
    generator = torch.Generator().manual_seed(1)
    maps = [
        torch.randn(1, 2, -(-64 // s), -(-96 // s), generator=generator, requires_grad=True) for s in (4, 8, 16, 32)
    ]
    inside = torch.from_numpy(scattered(12, 2)).minimum(torch.tensor([96.0, 64.0, 96.0, 64.0]))
    regions = torch.cat((inside, torch.tensor([[0.0, 0, 96, 64], [94.5, 3, 96, 60]])))
    weights = torch.randn(len(regions), 2, 7, 7, generator=generator)
    want = torch.autograd.grad((rcnnnets.roi_align(maps, regions, 7) * weights).sum(), maps, allow_unused=True)
    got = torch.autograd.grad((RoiAlign(SIZE, 7)(pack(maps), regions[None]) * weights).sum(), maps)
    for one, other in zip(got, want, strict=True):
        assert torch.allclose(one, torch.zeros_like(one) if other is None else other, atol=1e-3)


@pytest.mark.filterwarnings("ignore:Input #0 requires gradient and is not a double")
def test_roi_align_passes_gradcheck() -> None:
    """It computes in float32, but is linear in its maps: so steps may be large."""
    atlas = pack([torch.randn(1, 1, -(-32 // s), -(-48 // s)) for s in (4, 8, 16, 32)]).requires_grad_()
    regions = torch.tensor([[[2.5, 3.0, 20.0, 30.0], [0.0, 0.0, 48.0, 32.0]]])
    align = RoiAlign((32, 48), 2)
    assert torch.autograd.gradcheck(lambda each: align(each, regions), (atlas,), eps=0.5, atol=1e-3)


# --- focal loss ---


def test_focal_loss_by_hand() -> None:
    zero = torch.zeros(())
    assert float(focal(zero, torch.ones(()))) == pytest.approx(0.25 * 0.25 * math.log(2))
    assert float(focal(zero, zero)) == pytest.approx(0.75 * 0.25 * math.log(2))
    sure = torch.tensor(math.log(9))  # p = 0.9
    assert float(focal(sure, torch.ones(()))) == pytest.approx(0.25 * 0.01 * -math.log(0.9), rel=1e-4)
    assert float(focal(sure, zero)) == pytest.approx(0.75 * 0.81 * -math.log(0.1), rel=1e-4)


@settings(max_examples=50, deadline=None)
@given(logit=st.floats(-15, 15), right=st.booleans(), alpha=st.floats(0.1, 0.9), gamma=st.floats(0, 5))
def test_focal_loss_is_the_formula(logit: float, right: bool, alpha: float, gamma: float) -> None:
    p = 1 / (1 + math.exp(-logit)) if right else 1 / (1 + math.exp(logit))  # what is given to the truth
    wanted = (alpha if right else 1 - alpha) * (1 - p) ** gamma * -math.log(p)
    got = focal(torch.tensor(logit), torch.tensor(float(right)), alpha, gamma)
    assert float(got) == pytest.approx(wanted, rel=2e-3, abs=1e-6)


def test_retinanet_is_rated_as_by_the_book() -> None:
    objects = truth()
    anchors = np.concatenate([scattered(50, 9), objects.boxes[0, :2].numpy() + 1])
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, len(anchors), 5, generator=generator)
    moves = torch.randn(2, len(anchors), 4, generator=generator)
    losses = retinanet_losses(logits, moves, torch.from_numpy(anchors), objects)
    assert float(losses["class"]) == pytest.approx(_classes(logits, anchors, objects), rel=1e-4)
    assert float(losses["box"]) == pytest.approx(_distances(moves, anchors, objects), rel=1e-4)


def _kinds(anchors: Float, objects: Objects, image: int) -> tuple[Float, list[tuple[int, int]]]:
    real = objects.boxes[image][objects.there[image]].numpy()
    return real, told(iou(real, anchors), 0.5, 0.4)


def _classes(logits: Tensor, anchors: Float, objects: Objects) -> float:
    total = 0.0
    for image in range(2):
        kinds = _kinds(anchors, objects, image)[1]
        wrong = 0.0
        for anchor, (row, kind) in enumerate(kinds):
            for label, logit in enumerate(logits[image, anchor].tolist() if kind != -1 else ()):
                right = kind == 1 and label == int(objects.classes[image, row])
                p = 1 / (1 + math.exp(-logit if right else logit))
                wrong += (0.25 if right else 0.75) * (1 - p) ** 2 * -math.log(p)
        total += wrong / sum(kind == 1 for _, kind in kinds) / 2
    return total


def _distances(moves: Tensor, anchors: Float, objects: Objects) -> float:
    total = 0.0
    for image in range(2):
        real, kinds = _kinds(anchors, objects, image)
        far = [
            np.abs(moves[image, a].numpy() - offsets(anchors[a], real[r])).sum()
            for a, (r, k) in enumerate(kinds)
            if k == 1
        ]
        total += sum(far) / len(far) / 2
    return total


def test_without_objects_retinanet_learns_the_background() -> None:
    none = Objects(torch.zeros(1, 1, 4), torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.bool))
    losses = retinanet_losses(torch.zeros(1, 3, 2), torch.ones(1, 3, 4), torch.from_numpy(scattered(3, 1)), none)
    assert float(losses["class"]) == pytest.approx(6 * 0.75 * 0.25 * math.log(2))
    assert float(losses["box"]) == 0

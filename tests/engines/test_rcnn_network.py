"""R-CNNs in fixed shapes find what they find by the book: loops, tensors of any length, one level after the other."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import rcnnnets
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engines.decoders.numbers import check_outputs
from engines.errors import ModelError
from engines.manifest import Manifest
from engines.networks.proposals import NEVER, Propose
from engines.networks.rcnn import Rcnn
from engines.networks.roi import STRIDES, RoiAlign, pack
from engines.networks.served import serve
from engines.networks.suppression import ROUNDS, Suppress
from engines.networks.two_stage import TwoStage

SIZE = (128, 160)


@pytest.fixture(autouse=True)
def single_thread() -> None:
    torch.set_num_threads(1)  # small tensors: threads only wait for each other


# --- RoIAlign ---


def levels(size: tuple[int, int], rows: int = 1, channels: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in STRIDES]
    return [torch.randn((rows, channels, *shape), generator=generator) for shape in shapes]


def regions(size: tuple[int, int], count: int) -> Tensor:
    """Scatter boxes of all sizes over an image, some of them slivers on its border, some of no size."""
    generator = torch.Generator().manual_seed(2)
    limit = torch.tensor([size[1], size[0]]) * 1.0
    centre = torch.rand((count, 2), generator=generator) * limit
    half = torch.rand((count, 2), generator=generator) ** 3 * limit
    boxes = torch.cat((centre - half, centre + half), 1)
    boxes = boxes.clamp(min=0).minimum(limit.repeat(2))
    height, width = size
    edges = [(0, 0, width, height), (width - 1.5, 3, width, 90), (5, height - 2.5, 120, height), (7, 7, 7, 7)]
    canonical = [(0, 0, 112, 112), (3, 5, 227, 229), (1, 1, 65, 193)]
    inside = [box for box in canonical if box[2] <= width and box[3] <= height]
    return torch.cat((boxes, torch.tensor(edges + inside) * 1.0))


@pytest.mark.parametrize("size", [(128, 160), (200, 312), (480, 640)])
@pytest.mark.parametrize("bins", [7, 14])
def test_roi_align_reads_what_it_should_at_every_level_and_border(size: tuple[int, int], bins: int) -> None:
    maps, boxes = levels(size), regions(size, 60)
    want = rcnnnets.roi_align(maps, boxes, bins)
    got = RoiAlign(size, bins)(pack(maps), boxes[None])
    assert got.shape == want.shape
    assert torch.allclose(got, want, atol=1e-3)


def test_roi_align_tells_images_apart() -> None:
    maps, boxes = levels(SIZE, rows=2), regions(SIZE, 5)
    both = RoiAlign(SIZE, 7)(pack(maps), torch.stack((boxes, boxes.flip(0))))
    alone = [
        RoiAlign(SIZE, 7)(pack([level[i : i + 1] for level in maps]), b[None])
        for i, b in enumerate((boxes, boxes.flip(0)))
    ]
    assert torch.allclose(both, torch.cat(alone))


# --- suppression ---


def kept(boxes: Tensor, classes: Tensor | None = None, iou: float = 0.5, there: Tensor | None = None) -> list[int]:
    there = torch.ones(len(boxes), dtype=torch.bool) if there is None else there
    stay = Suppress(iou)(boxes[None], there[None], None if classes is None else classes[None])
    rows: list[int] = stay[0].nonzero().flatten().tolist()
    return rows


CORNER = st.integers(0, 12).map(float)
BOXES = st.lists(st.tuples(CORNER, CORNER, CORNER, CORNER), min_size=1, max_size=ROUNDS)


@settings(max_examples=60, deadline=None)
@given(boxes=BOXES, iou=st.sampled_from([0.0, 0.3, 0.5, 0.9]), data=st.data())
def test_suppression_without_a_loop_is_the_greedy_one(
    boxes: list[tuple[float, ...]], iou: float, data: st.DataObject
) -> None:
    """Of as many boxes as there are rounds, none stands at the end of a longer chain."""
    each = torch.tensor([(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in boxes])
    classes = torch.tensor(data.draw(st.lists(st.integers(0, 1), min_size=len(boxes), max_size=len(boxes))))
    falling = -torch.arange(len(boxes)).float()
    assert kept(each, iou=iou) == rcnnnets.greedy(each, falling, iou)
    apart = [
        sorted(int(i) for i in rows[rcnnnets.greedy(each[rows], falling[rows], iou)])
        for rows in ((classes == label).nonzero().flatten() for label in (0, 1))
    ]
    assert kept(each, classes, iou) == sorted(apart[0] + apart[1])


def test_what_is_not_there_suppresses_nothing() -> None:
    same = torch.tensor([[0.0, 0, 10, 10]] * 3)
    assert kept(same, there=torch.tensor([False, True, True])) == [1]
    assert kept(torch.full((2, 4), torch.nan)) == [0, 1]
    assert kept(torch.zeros(2, 4)) == [0, 1]


def test_a_chain_that_is_too_long_loses_no_box() -> None:
    """Each box overlaps the next alone: every other one stays, and perhaps more at the far end."""
    count = 4 * ROUNDS
    steps = torch.arange(count).float() * 4
    chain = torch.stack((steps, torch.zeros(count), steps + 10, torch.full((count,), 10.0)), 1)
    stay = kept(chain, iou=0.4)
    assert set(range(0, count, 2)) <= set(stay)
    assert stay[: ROUNDS // 2] == list(range(0, ROUNDS, 2))


# --- the whole detector ---


@dataclass(frozen=True)
class Case:
    network: Rcnn
    manifest: Manifest

    def find(self, images: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode():
            found: tuple[Tensor, ...] = TwoStage(self.network, self.manifest)(images)
        return found


@pytest.fixture(scope="module")
def mask() -> Case:
    return Case(rcnnnets.network("mask-rcnn"), rcnnnets.manifest("mask-rcnn"))


@pytest.fixture(scope="module")
def faster() -> Case:
    return Case(rcnnnets.network("faster-rcnn", seed=3), rcnnnets.manifest("faster-rcnn", proposals=300, score=0.3))


@pytest.fixture(scope="module")
def pico() -> Case:
    return Case(rcnnnets.network("mask-rcnn", "pico"), rcnnnets.manifest("mask-rcnn", "pico"))


@pytest.mark.parametrize("name", ["mask", "faster", "pico"])
def test_it_finds_what_the_book_finds(name: str, request: pytest.FixtureRequest) -> None:
    case: Case = request.getfixturevalue(name)
    images = rcnnnets.images(2, seed=5)
    boxes, scores, classes, *masks = case.find(images)
    for row in range(2):
        with torch.inference_mode():
            want = rcnnnets.reference(case.network, images[row : row + 1], case.manifest)
        count = len(want.scores)
        assert 0 < count <= 20
        assert (scores[row, count:] == 0).all()
        assert torch.allclose(scores[row, :count], want.scores, atol=1e-4)
        assert torch.allclose(boxes[row, :count], want.boxes, atol=1e-2)
        assert torch.equal(classes[row, :count], want.classes.int())
        if want.masks is not None:
            assert torch.allclose(masks[0][row, :count], want.masks, atol=1e-3)


def test_an_image_is_seen_alike_whatever_else_is_in_the_batch(mask: Case) -> None:
    images = rcnnnets.images(3, seed=9)
    together, alone = mask.find(images), mask.find(images[1:2])
    for both, one in zip(together, alone, strict=True):
        assert torch.allclose(both[1].float(), one[0].float(), atol=1e-3)


def test_it_may_find_nothing(mask: Case) -> None:
    certain = rcnnnets.manifest("mask-rcnn", score=1.0)
    boxes, scores, _, masks = Case(mask.network, certain).find(rcnnnets.images(1))
    assert not scores.any()
    assert not boxes.any()
    assert masks.isfinite().all()


_PLACES = {
    "backbone.body.conv1": torch.nan,
    "rpn.head.cls_logits": torch.nan,
    "roi_heads.box_predictor.cls_score": torch.inf,
    "roi_heads.box_predictor.bbox_pred": torch.nan,
}


@pytest.mark.parametrize("place", _PLACES)
def test_an_image_that_overflows_does_not_pass_for_an_empty_one(mask: Case, place: str) -> None:
    """Wherever its numbers are lost; the others in its batch are seen as ever, and the decoder raises."""
    images = rcnnnets.images(2, seed=5)

    def overflow(_module: nn.Module, _inputs: object, out: Tensor) -> Tensor:
        out[len(out) // 2 :] = _PLACES[place]  # all that is of the second image
        return out

    as_ever, hook = mask.find(images), mask.network.get_submodule(place).register_forward_hook(overflow)
    try:
        _, scores, *_ = mask.find(images)
    finally:
        hook.remove()
    assert as_ever[1].amax(1).min() > 0
    assert torch.equal(scores[0], as_ever[1][0])
    assert torch.equal(scores[1], torch.full_like(scores[1], -1))
    with pytest.raises(ModelError, match="'scores' holds NaN"):
        check_outputs({"scores": scores.numpy()})


def test_equal_scores_are_as_good_as_any() -> None:
    network = rcnnnets.network("faster-rcnn")
    for parameter in (
        *network.rpn.head.cls_logits.parameters(),
        *network.roi_heads.box_predictor.cls_score.parameters(),
    ):
        parameter.data.zero_()
    boxes, scores, classes = Case(network, rcnnnets.manifest("faster-rcnn")).find(rcnnnets.images(1))
    assert torch.allclose(scores, torch.full((1, 20), 1 / 7))
    assert (classes > 0).all()
    assert (boxes[..., :2] < boxes[..., 2:]).all()


def test_anchors_without_a_number_are_never_proposed() -> None:
    propose = Propose(SIZE, 50)
    shapes = [(-(-SIZE[0] // stride), -(-SIZE[1] // stride)) for stride in (*STRIDES, 64)]
    found = [(torch.full((1, 3, *shape), torch.nan), torch.zeros(1, 12, *shape)) for shape in shapes]
    found[2][0][0, 1, 2, 3] = 5.0
    found[3][1][:] = torch.nan
    found[3][0][:] = 1.0
    regions, worth = propose(found)
    assert worth[0, 0] == 5
    assert (worth[0, 1:] == NEVER).all()
    assert not regions[0, 1:].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_halves_pixels_are_still_counted_exactly(dtype: torch.dtype) -> None:
    """The layers compute in halves; where the boxes lie is not rounded to what a half can hold."""
    case = rcnnnets.manifest("faster-rcnn"), rcnnnets.network("faster-rcnn")
    frames = rcnnnets.frames(1)
    with torch.inference_mode():
        exact = serve(case[1], case[0], torch.float32)(frames)
        half = serve(rcnnnets.network("faster-rcnn"), case[0], dtype)(frames)
    assert half["boxes"].dtype == torch.float32
    whole = (half["boxes"] * 4).frac() == 0  # what bfloat16 holds beyond 32
    assert whole.float().mean() < 0.5
    assert abs(half["scores"][0, 0] - exact["scores"][0, 0]) < 0.05

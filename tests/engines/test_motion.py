"""Pairs to flow: what is fed, and how a field comes back to the source's pixels, whatever its size and place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import ModelError
from engines.geometry import Align, Size
from engines.motion import DecodeFlow, FeedPairs, FlowModel, Pair, flow_model, upsample
from engines.preprocess import PreprocessSpec
from engines.runtimes.fake import FakeRuntime
from engines.types import Array, Float, Geometry, Image, TensorSpec

SIZE = (64, 96)
CELL = 4


def spec(size: Size = SIZE) -> tuple[TensorSpec, ...]:
    return (TensorSpec("frames", np.dtype(np.uint8), (None, 2, *size, 3)),)


def runtime(answer: Callable[[Array], Array], max_batch: int = 4, size: Size = SIZE) -> FakeRuntime:
    return FakeRuntime(lambda feeds: {"flow": answer(feeds["frames"])}, spec(size), max_batch=max_batch)


def model(answer: Callable[[Array], Array], place: PreprocessSpec | None = None, max_batch: int = 4) -> FlowModel:
    place = place or PreprocessSpec(SIZE, align="top-left")
    return flow_model("stand-in", place, runtime(answer, max_batch, place.size))


def grey(level: int, size: Size = (64, 96)) -> Image:
    return np.full((*size, 3), level, np.uint8)


def difference(frames: Array) -> Float:
    """Answer with how much brighter the later image is, to the right, in cells of 4 x 4; and 1 down."""
    after, before = (frames[:, row, ::CELL, ::CELL, 0].astype(np.float32) for row in (1, 0))
    return np.stack([after - before, np.ones_like(after)], axis=-1)


def positions(frames: Array) -> Float:
    """Answer with where each cell's middle lies in the network's input."""
    height, width = frames.shape[2] // CELL, frames.shape[3] // CELL
    y, x = (np.mgrid[:height, :width].astype(np.float32) + 0.5) * CELL
    return np.repeat(np.stack([x, y], axis=-1)[None], len(frames), axis=0)


def pair(found: FlowModel, before: Image, after: Image, seconds: float | None = None) -> Pair:
    return Pair(found.place(before), found.place(after), seconds)


def test_the_earlier_image_comes_first_and_u_before_v() -> None:
    found = model(difference)
    (flow,) = found([pair(found, grey(10), grey(13), 0.04)])
    assert flow.uv.shape == (16, 24, 2)
    assert flow.uv[0, 0].tolist() == [3, 1]
    assert flow.seconds == 0.04


def test_any_number_of_pairs_in_batches_each_with_its_own_answer() -> None:
    found = model(difference, max_batch=2)
    pairs = [pair(found, grey(0), grey(n), n / 10) for n in range(5)]
    assert [(flow.uv[3, 3, 0], flow.seconds) for flow in found(pairs)] == [(n, n / 10) for n in range(5)]
    assert [flow.uv[0, 0, 0] for flow in found.begin(pairs)()] == list(range(5))
    assert isinstance(found.runtime, FakeRuntime)
    assert found.runtime.batch_sizes == [2, 2, 1] * 2
    assert found([]) == []


def test_answers_outlast_the_runtimes_memory() -> None:
    """A runtime writes into its outputs again."""
    memory = np.zeros((4, 16, 24, 2), np.float32)

    def answer(frames: Array) -> Array:
        memory[: len(frames)] = difference(frames)
        return memory[: len(frames)]

    found = model(answer)
    (first,) = found([pair(found, grey(0), grey(9))])
    found([pair(found, grey(0), grey(50))])
    assert (first.uv[..., 0] == 9).all()


def test_a_placed_image_has_memory_of_its_own_and_serves_twice() -> None:
    found = model(difference)
    first, second, third = (found.place(grey(level, (48, 72))) for level in (10, 20, 40))
    flows = found([Pair(first, second), Pair(second, third)])
    assert [flow.uv[0, 0, 0] for flow in flows] == [10 / (96 / 72), 20 / (96 / 72)]


def test_images_of_two_sizes_are_no_pair() -> None:
    found = model(difference)
    with pytest.raises(ValueError, match="48, 72"):
        pair(found, grey(0, (48, 72)), grey(0))


# --- back to the source ---

SIDES = st.integers(1, 400)


@settings(max_examples=150, deadline=None)
@given(height=SIDES, width=SIDES, align=st.sampled_from(["top-left", "center"]),
       resize=st.sampled_from(["letterbox", "stretch"]))  # fmt: skip
def test_the_grid_covers_the_source_whatever_its_size(
    height: int, width: int, align: Align, resize: Literal["letterbox", "stretch"]
) -> None:
    """Cells that say where they are in the input are, scaled back, where the grid says they are in the source."""
    found = model(positions, PreprocessSpec(SIZE, resize, align))
    placed = found.place(grey(0, (height, width)))
    (flow,) = found([Pair(placed, placed)])
    rows, columns = flow.uv.shape[:2]
    there = flow.uv - np.array(placed.geometry.offset_xy, np.float32) / placed.geometry.scale_xy
    y, x = (np.mgrid[:rows, :columns] + 0.5) * np.array([height / rows, width / columns])[:, None, None]
    # At the outermost half cell of the input the last value is repeated; elsewhere it is exact.
    slack = CELL / 2 / np.array(placed.geometry.scale_xy) + 1e-2
    assert (np.abs(there - np.stack([x, y], axis=-1)) <= slack).all()
    inner = np.abs(there - np.stack([x, y], axis=-1))[1:-1, 1:-1]
    assert inner.max(initial=0) <= 1e-3 * max(height, width) + 1e-2


@pytest.mark.parametrize(
    ("source", "grid"),
    [((64, 96), (16, 24)), ((128, 192), (16, 24)), ((48, 96), (12, 24)), ((33, 77), (10, 24)), ((100, 100), (16, 16))],
)
def test_what_lies_over_the_image_is_cut_out(source: Size, grid: Size) -> None:
    found = model(difference)
    (flow,) = found([pair(found, grey(0, source), grey(60, source))])
    assert flow.uv.shape[:2] == grid
    scale = min(SIZE[0] / source[0], SIZE[1] / source[1])
    assert np.median(flow.uv[..., 0]) == pytest.approx(60 / scale, rel=0.02)
    assert np.median(flow.uv[..., 1]) == pytest.approx(1 / scale, rel=0.02)


def test_width_and_height_are_scaled_apart_where_an_image_is_stretched() -> None:
    found = model(lambda frames: np.ones((len(frames), 16, 24, 2), np.float32), PreprocessSpec(SIZE, "stretch"))
    (flow,) = found([pair(found, grey(0, (32, 192)), grey(0, (32, 192)))])
    assert flow.uv[0, 0].tolist() == [2.0, 0.5]


def test_a_grid_that_does_not_divide_the_input() -> None:
    decode = DecodeFlow((64, 96))
    field = np.ones((1, 10, 18, 2), np.float32)
    (flow,) = decode({"flow": field}, [Geometry((64, 96), (1.0, 1.0), (0.0, 0.0))])
    assert flow.uv.shape == (10, 18, 2)
    assert (flow.uv == 1).all()


# --- sampled at another size ---


@given(rows=st.integers(1, 20), columns=st.integers(1, 20), height=st.integers(1, 60), width=st.integers(1, 60))
def test_vectors_stay_what_they_are(rows: int, columns: int, height: int, width: int) -> None:
    field = np.tile(np.array([3, -2], np.float32), (rows, columns, 1))
    assert upsample(field, (height, width)) == pytest.approx(np.tile([3.0, -2.0], (height, width, 1)))


def test_points_lie_in_the_middle_of_their_cells() -> None:
    ramp = np.repeat((np.arange(8, dtype=np.float32) + 0.5)[None, :, None], 2, axis=2)
    larger = upsample(ramp, (3, 32))
    expected = (np.arange(32) + 0.5) / 4
    assert larger[1, 2:-2, 0] == pytest.approx(expected[2:-2])  # beyond the outermost middles the last one is repeated


# --- what does not fit ---


@pytest.mark.parametrize(
    "wrong",
    [
        (TensorSpec("frames", np.dtype(np.uint8), (None, 2, 64, 128, 3)),),
        (TensorSpec("frames", np.dtype(np.float32), (None, 2, 64, 96, 3)),),
        (TensorSpec("frames", np.dtype(np.uint8), (None, 64, 96, 3)),),
        (*spec(), TensorSpec("more", np.dtype(np.uint8), (None,))),
        (),
    ],
)
def test_a_network_with_other_inputs_is_refused(wrong: tuple[TensorSpec, ...]) -> None:
    with pytest.raises(ModelError, match="build it anew"):
        FeedPairs(SIZE, FakeRuntime(lambda feeds: feeds, wrong))


@pytest.mark.parametrize(
    "outputs",
    [{}, {"flow": np.zeros((1, 2, 16, 24), np.float32)}, {"flow": np.zeros((2, 16, 24, 2), np.float32)},
     {"boxes": np.zeros((1, 16, 24, 2), np.float32)}],
)  # fmt: skip
def test_what_is_no_flow_is_refused(outputs: Mapping[str, Array]) -> None:
    with pytest.raises(ModelError, match="gives `flow`"):
        DecodeFlow(SIZE)(outputs, [Geometry(SIZE, (1.0, 1.0), (0.0, 0.0))])


def test_more_pairs_than_the_runtime_takes_are_the_callers_fault() -> None:
    feed = FeedPairs(SIZE, runtime(difference, max_batch=1))
    placed = model(difference).place(grey(0))
    with pytest.raises(ValueError, match="2 pairs are more than the 1"):
        feed([Pair(placed, placed)] * 2)


# --- a runtime that overlaps ---


class TwoLanes(FakeRuntime):
    """Answer with the feeds as they are when the outputs are asked for, so that memory used too early is seen."""

    lanes = 3

    def start(self, feeds: Mapping[str, Array]) -> Callable[[], Mapping[str, Array]]:
        return lambda: self.infer(feeds)


def test_what_is_under_way_is_not_written_over() -> None:
    overlapping = TwoLanes(lambda feeds: {"flow": difference(feeds["frames"])}, spec())
    found = flow_model("stand-in", PreprocessSpec(SIZE, align="top-left"), overlapping)
    waiting = [found.begin([pair(found, grey(0), grey(n), n)]) for n in (1, 2, 3)]
    flows = [finish()[0] for finish in waiting]
    assert [flow.uv[5, 5, 0] for flow in flows] == [1, 2, 3]
    assert [flow.seconds for flow in flows] == [1, 2, 3]

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from engines.errors import ModelError
from engines.model import Model
from engines.runtimes.fake import FakeRuntime
from engines.types import Array, Geometry, Image


def preprocess(items: Sequence[Image]) -> tuple[Mapping[str, Array], list[Geometry]]:
    return {"x": np.stack(items)}, [Geometry((4, 4), (1.0, 1.0), (0.0, 0.0)) for _ in items]


def model(max_batch: int) -> tuple[Model[Image, int], FakeRuntime]:
    """A model that reads one pixel of each image."""
    runtime = FakeRuntime(lambda feeds: {"y": feeds["x"][:, 0, 0, 0]}, max_batch=max_batch)
    return Model("m", (), preprocess, runtime, lambda outputs, _: [int(v) for v in outputs["y"]]), runtime


@pytest.mark.parametrize(("n", "batches"), [(0, []), (1, [1]), (4, [4]), (5, [4, 1]), (9, [4, 4, 1])])
def test_items_are_cut_into_what_the_runtime_takes(n: int, batches: list[int]) -> None:
    reader, runtime = model(max_batch=4)
    assert reader([np.full((4, 4, 3), i, np.uint8) for i in range(n)]) == list(range(n))
    assert runtime.batch_sizes == batches


class Lanes(FakeRuntime):
    """A runtime that overlaps: each start has one of three pieces of memory, by turns, and writes into it at once."""

    lanes = 3

    def __init__(self) -> None:
        super().__init__(lambda feeds: {"y": feeds["x"][:, 0, 0, 0]}, max_batch=4)
        self._memory = deque(np.zeros(4, np.uint8) for _ in range(self.lanes))

    def infer(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        return self.start(feeds)()

    def start(self, feeds: Mapping[str, Array]) -> Callable[[], Mapping[str, Array]]:
        self._memory.rotate(-1)
        memory, values = self._memory[-1], super().infer(feeds)["y"]
        memory[: len(values)] = values
        return lambda: {"y": memory[: len(values)]}


@pytest.mark.parametrize("sizes", [(2, 9, 2), (9, 2, 2), (2, 9, 9, 2), (0, 9, 0, 3, 4), (4, 4)])
def test_more_items_than_the_runtime_takes_do_not_mix_with_those_that_are_begun_next(sizes: Sequence[int]) -> None:
    reader = Model("m", (), preprocess, Lanes(), lambda outputs, _: [int(v) for v in outputs["y"]])
    batches = [[10 * number + i for i in range(size)] for number, size in enumerate(sizes, 1)]
    finish = [reader.begin([np.full((4, 4, 3), value, np.uint8) for value in batch]) for batch in batches]
    assert [each() for each in finish] == batches
    again = reader.begin([np.full((4, 4, 3), 7, np.uint8)])
    assert again() == [7]


def test_what_was_left_and_failed_keeps_nothing_waiting() -> None:
    def faulty(items: Sequence[Image]) -> tuple[Mapping[str, Array], list[Geometry]]:
        if items[0][0, 0, 0] == 13:
            raise ModelError("no such number")
        return preprocess(items)

    runtime = Lanes()
    reader = Model("m", (), faulty, runtime, lambda outputs, _: [int(v) for v in outputs["y"]])
    bad = reader.begin([np.full((4, 4, 3), 13, np.uint8)] * 9)
    with pytest.raises(ModelError):
        bad()
    reader.begin([np.full((4, 4, 3), 7, np.uint8)])
    assert runtime.batch_sizes == [1]  # begun at once, and not left


def test_closing_a_model_closes_its_runtime() -> None:
    reader, runtime = model(max_batch=1)
    reader.close()
    assert runtime.closed

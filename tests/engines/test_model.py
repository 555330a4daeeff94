from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

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


def test_closing_a_model_closes_its_runtime() -> None:
    reader, runtime = model(max_batch=1)
    reader.close()
    assert runtime.closed

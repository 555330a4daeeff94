from __future__ import annotations

import numpy as np
import pytest

from engines.model import Model
from engines.runtimes.fake import FakeRuntime
from engines.types import Array, Clip, Detections, Geometry, Image, Masks


@pytest.mark.parametrize("bad", [np.zeros((2, 5), np.float32), np.zeros((2, 4), np.float64)])
def test_detections_refuse_wrong_columns(bad: Array) -> None:
    with pytest.raises(ValueError, match="xyxy: expected float32"):
        Detections(bad, np.zeros(2, np.int32), np.zeros(2, np.float32))


def test_rows_are_selected_in_every_column() -> None:
    n = 4
    found = Detections(
        np.arange(16, dtype=np.float32).reshape(n, 4),
        np.arange(n, dtype=np.int32),
        np.linspace(0, 1, n, dtype=np.float32),
        np.arange(n, dtype=np.int32) + 10,
        Masks(np.zeros((n, 3, 3), np.float32)),
    )
    some = found[found.confidence > 0.5]
    assert len(some) == 2
    assert some.class_id.tolist() == [2, 3]
    assert some.track_id is not None
    assert some.track_id.tolist() == [12, 13]
    assert some.masks is not None
    assert len(some.masks) == 2
    assert len(Detections.empty()) == 0


def test_masks_and_clips_are_checked_at_birth() -> None:
    box = np.zeros((2, 4), np.float32)
    with pytest.raises(ValueError, match="masks: expected 2, got 1"):
        Detections(box, np.zeros(2, np.int32), np.zeros(2, np.float32), None, Masks(np.zeros((1, 3, 3), np.float32)))
    with pytest.raises(ValueError, match="flow"):
        Clip(np.zeros((4, 8, 8, 3), np.uint8), np.zeros((3, 8, 8, 2), np.float32))


@pytest.mark.parametrize("n", [0, 1, 4, 5, 9])
def test_a_model_cuts_items_into_what_its_runtime_takes(n: int) -> None:
    def preprocess(items: object) -> tuple[dict[str, Array], list[Geometry]]:
        assert isinstance(items, list)
        return {"x": np.stack(items)}, [Geometry((4, 4), (1.0, 1.0), (0.0, 0.0)) for _ in items]

    runtime = FakeRuntime(lambda feeds: {"y": feeds["x"][:, 0, 0, 0]}, max_batch=4)
    model: Model[Image, int] = Model("m", (), preprocess, runtime, lambda o, g: [int(v) for v in o["y"]])
    assert model([np.full((4, 4, 3), i, np.uint8) for i in range(n)]) == list(range(n))
    assert sum(runtime.batch_sizes) == n
    assert all(size <= 4 for size in runtime.batch_sizes)

from __future__ import annotations

import numpy as np
import pytest

from engines.types import Array, Clip, Detections, Flow, Masks, Scores


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
        np.eye(n, 2, dtype=np.bool_),
    )
    some = found[found.confidence > 0.5]
    assert len(some) == 2
    assert some.class_id.tolist() == [2, 3]
    assert some.track_id is not None
    assert some.track_id.tolist() == [12, 13]
    assert some.masks is not None
    assert len(some.masks) == 2
    assert some.regions is not None
    assert not some.regions.any()
    assert len(Detections.empty()) == 0


def test_masks_regions_and_clips_are_checked_at_birth() -> None:
    box = np.zeros((2, 4), np.float32)
    with pytest.raises(ValueError, match="masks: expected 2, got 1"):
        Detections(box, np.zeros(2, np.int32), np.zeros(2, np.float32), None, Masks(np.zeros((1, 3, 3), np.float32)))
    with pytest.raises(ValueError, match=r"regions: expected bool \(2, None\), got bool \(1, 3\)"):
        Detections(box, np.zeros(2, np.int32), np.zeros(2, np.float32), regions=np.zeros((1, 3), np.bool_))
    with pytest.raises(ValueError, match="flow"):
        Clip(np.zeros((4, 8, 8, 3), np.uint8), np.zeros((3, 8, 8, 2), np.float32))
    with pytest.raises(ValueError, match="uv"):
        Flow(np.zeros((4, 4, 3), np.float32))
    with pytest.raises(ValueError, match="probs"):
        Scores(np.zeros((1, 4), np.float32))

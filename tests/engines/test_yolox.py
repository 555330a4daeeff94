from __future__ import annotations

import numpy as np
import pytest

from engines.decoders import DetectOptions, open_detector
from engines.errors import ManifestError, ModelError
from engines.model import Postprocess
from engines.types import Detections, Float, Geometry

SIZE = (64, 96)
ANCHORS = 8 * 12 + 4 * 6 + 2 * 3
PLACE = Geometry((128, 192), (0.5, 0.5), (0.0, 0.0))  # the source is twice as large


def decoder(**options: object) -> Postprocess[Detections]:
    return open_detector({"kind": "yolox", "strides": (8, 16, 32)}, 3, SIZE, DetectOptions(**options))  # type: ignore[arg-type]  # checked by the class


def blank() -> Float:
    return np.zeros((1, ANCHORS, 8), np.float32)


def test_a_cell_of_each_stride_lies_where_it_should() -> None:
    output = blank()
    for anchor in (8 * 12 - 1, 8 * 12 + 6 + 2, ANCHORS - 1):  # last of stride 8; row 1, column 2 of 16; last of 32
        output[0, anchor] = [0.5, 0.5, 0, 0, 1, 0.9, 0, 0]
    (found,) = decoder()({"output": output}, [PLACE])
    # Centre (column + 0.5) * stride, side = stride; times two in the source.
    assert sorted(found.xyxy.tolist()) == [[64, 32, 96, 64], [128, 64, 192, 128], [176, 112, 192, 128]]


def test_sizes_are_exponents_and_offsets_count_in_cells() -> None:
    output = blank()
    output[0, 12 + 3] = [0.25, -0.5, np.log(2), np.log(4), 0.8, 0.5, 0, 0]
    (found,) = decoder()({"output": output}, [Geometry(SIZE, (1.0, 1.0), (0.0, 0.0))])
    x, y = 3.25 * 8, 0.5 * 8
    assert found.xyxy[0].tolist() == pytest.approx([x - 8, max(0, y - 16), x + 8, y + 16], abs=1e-4)
    assert found.confidence[0] == pytest.approx(0.4)


def test_an_anchor_counts_for_every_class_that_passes() -> None:
    output = blank()
    output[0, 0] = [0.5, 0.5, 0, 0, 1, 0.9, 0.2, 0.7]
    (found,) = decoder()({"output": output}, [PLACE])
    assert found.class_id.tolist() == [0, 2]
    assert found.confidence.tolist() == pytest.approx([0.9, 0.7])


def test_only_boxes_of_one_class_suppress_each_other() -> None:
    output = blank()
    for anchor, scores in ((0, [0.9, 0, 0]), (1, [0.8, 0, 0]), (2, [0, 0.7, 0])):
        output[0, anchor] = [0.5 - anchor, 0.5, 1, 1, 1, *scores]  # all at one place
    (found,) = decoder()({"output": output}, [PLACE])
    assert found.class_id.tolist() == [0, 1]
    assert found.confidence.tolist() == pytest.approx([0.9, 0.7])


def test_options() -> None:
    output = blank()
    output[0, :, :] = [0.5, 0.5, 0, 0, 1, 0.6, 0.4, 0.2]
    count = {name: len(decoder(**o)({"o": output}, [PLACE])[0]) for name, o in {
        "all": {"max_detections": 10_000}, "few": {"max_detections": 7}, "sure": {"confidence": 0.5, "max_detections": 10_000},
        "one": {"classes": (1,), "max_detections": 10_000}, "none": {"confidence": 0.6},
    }.items()}  # fmt: skip
    assert count == {"all": 2 * ANCHORS, "few": 7, "sure": ANCHORS, "one": ANCHORS, "none": 0}


def test_scores_that_are_not_numbers_find_nothing() -> None:
    output = np.full_like(blank(), np.nan)
    (found,) = decoder()({"output": output}, [PLACE])
    assert len(found) == 0


@pytest.mark.parametrize("shape", [(1, ANCHORS, 85), (1, ANCHORS + 1, 8)])
def test_an_output_of_another_network(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="correct the manifest"):
        decoder()({"output": np.zeros(shape, np.float32)}, [PLACE])


def test_an_unknown_decoder_names_the_nearest() -> None:
    with pytest.raises(ManifestError, match="did you mean 'yolox'"):
        open_detector({"kind": "yolocks"}, 3, SIZE, DetectOptions())

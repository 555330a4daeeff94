from __future__ import annotations

import numpy as np
import pytest

from engines.decoders import DetectOptions, open_decoder
from engines.errors import ManifestError, ModelError
from engines.model import Postprocess
from engines.types import Detections, Float, Geometry

SIZE = (64, 96)
ANCHORS = 8 * 12 + 4 * 6 + 2 * 3
PLACE = Geometry((128, 192), (0.5, 0.5), (0.0, 0.0))  # the source is twice as large


def decoder(**options: object) -> Postprocess[Detections]:
    settings = {"kind": "yolox", "strides": (8, 16, 32)}
    return open_decoder("yolox", settings, 3, DetectOptions(**options), SIZE)  # type: ignore[arg-type]  # any of them


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


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 2 * ANCHORS),
        ({"max_detections": 7}, 7),
        ({"confidence": 0.5}, ANCHORS),
        ({"confidence": 0.6}, 0),  # more than that is asked for
        ({"classes": (1,)}, ANCHORS),
        ({"classes": (2, 1)}, ANCHORS),
    ],
)
def test_options(options: dict[str, object], count: int) -> None:
    output = blank()
    output[:] = [0.5, 0.5, 0, 0, 1, 0.6, 0.4, 0.2]  # every cell holds a box of its own size, and three classes
    (found,) = decoder(**{"max_detections": 10_000, **options})({"output": output}, [PLACE])
    assert len(found) == count


def test_wanted_classes_keep_their_own_numbers() -> None:
    output = blank()
    output[0, 0] = [0.5, 0.5, 0, 0, 1, 0.9, 0.8, 0.7]
    (found,) = decoder(classes=(2, 1))({"output": output}, [PLACE])
    assert dict(zip(found.class_id.tolist(), found.confidence.tolist(), strict=True)) == {
        1: pytest.approx(0.8),
        2: pytest.approx(0.7),
    }


def test_rows_go_with_their_geometry() -> None:
    output = np.concatenate([blank()] * 2)
    output[0, 0] = output[1, 0] = [0.5, 0.5, 0, 0, 1, 0.9, 0, 0]
    one, two = decoder()({"output": output}, [PLACE, Geometry((64, 96), (1.0, 1.0), (0.0, 0.0))])
    assert (one.xyxy.tolist(), two.xyxy.tolist()) == ([[0, 0, 16, 16]], [[0, 0, 8, 8]])


def test_boxes_in_the_padding_are_no_detections() -> None:
    output = blank()
    output[0, ANCHORS - 1] = [0.5, 0.5, 0, 0, 1, 0.9, 0, 0]  # the last cell of stride 32
    (found,) = decoder()({"output": output}, [Geometry((20, 30), (1.0, 1.0), (0.0, 0.0))])
    assert len(found) == 0


@pytest.mark.parametrize("column", range(8))
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_what_is_not_finite_never_comes_out(bad: float, column: int) -> None:
    output = blank()
    output[0, 0] = [0.5, 0.5, 0, 0, 1, 0.9, 0.9, 0.9]
    output[0, 0, column] = bad
    (found,) = decoder()({"output": output}, [PLACE])
    assert np.isfinite(found.xyxy).all()
    assert len(found) == (2 if column >= 5 else 0)


def test_a_size_that_overflows_is_no_box() -> None:
    output = blank()
    output[0, 0] = [0.5, 0.5, 1000, 0, 1, 0.9, 0, 0]
    (found,) = decoder()({"output": output}, [PLACE])
    assert len(found) == 0


def test_half_floats_are_read_as_well() -> None:
    output = blank().astype(np.float16)
    output[0, 0] = [0.5, 0.5, 0, 0, 1, 0.9, 0, 0]
    (found,) = decoder()({"output": output}, [PLACE])
    assert found.xyxy.tolist() == [[0, 0, 16, 16]]


def test_scores_without_their_sigmoid_are_refused() -> None:
    output = blank()
    output[0, 0] = [0.5, 0.5, 0, 0, 4, 2, 0, 0]
    with pytest.raises(ModelError, match="sigmoid in the graph"):
        decoder()({"output": output}, [PLACE])


@pytest.mark.parametrize("shape", [(1, ANCHORS, 85), (1, ANCHORS + 1, 8), (2, ANCHORS, 8), (ANCHORS, 8)])
def test_an_output_of_another_network(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=rf"one output \(1, {ANCHORS}, 8\).*correct the manifest"):
        decoder()({"output": np.zeros(shape, np.float32)}, [PLACE])


def test_an_output_too_many() -> None:
    with pytest.raises(ModelError, match=r"gives a .*, b "):
        decoder()({"a": blank(), "b": blank()}, [PLACE])


def test_an_unknown_decoder_names_the_nearest_and_all() -> None:
    with pytest.raises(ManifestError, match=r"did you mean 'yolox'.*known are: yolox"):
        open_decoder("yolocks", {}, 3, DetectOptions(), SIZE)


@pytest.mark.parametrize("strides", [(), (8, 0), (8, 2.5)])
def test_strides_that_are_none(strides: tuple[float, ...]) -> None:
    with pytest.raises(ManifestError, match="strides"):
        open_decoder("yolox", {"strides": strides}, 3, DetectOptions(), SIZE)

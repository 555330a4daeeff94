"""Anchors against their definitions, cell by cell; those of the published networks are compared in tests/parity."""

from __future__ import annotations

import math

import anchornets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.anchors import default_boxes, level_anchors
from engines.manifest import Manifest, find
from engines.outputs import RetinaNetDecoder, SsdDecoder


def sized(name: str, size: tuple[int, int], **decoder: object) -> Manifest:
    told = find(name)
    preprocess = told.preprocess.model_copy(update={"size": size})
    return told.model_copy(update={"preprocess": preprocess, "decoder": told.decoder.model_copy(update=decoder)})


def of_ssd(told: Manifest) -> np.ndarray:
    decoder = told.decoder
    assert isinstance(decoder, SsdDecoder)
    return default_boxes(told.preprocess.size, decoder.maps, decoder.scales, decoder.ratios, decoder.steps)


@pytest.mark.parametrize("name", ["ssd300-vgg16", "ssdlite320-mobilenetv3"])
@pytest.mark.parametrize("size", [None, (300, 500), (211, 97)])
def test_default_boxes_are_those_of_the_definition(name: str, size: tuple[int, int] | None) -> None:
    told = sized(name, size, maps=((7, 3), (5, 2), (3, 2), (2, 1), (1, 1), (1, 1))) if size else find(name)
    np.testing.assert_allclose(of_ssd(told), anchornets.anchors_of(told), atol=1e-3)


@settings(deadline=None, max_examples=25)
@given(st.tuples(st.integers(16, 400), st.integers(16, 400)))
def test_level_anchors_are_those_of_the_definition(size: tuple[int, int]) -> None:
    told = sized("retinanet-r50", size)
    decoder = told.decoder
    assert isinstance(decoder, RetinaNetDecoder)
    levels = level_anchors(size, decoder.strides, decoder.sizes, [decoder.ratios] * 5)
    assert [len(level) for level in levels] == [
        9 * math.ceil(size[0] / s) * math.ceil(size[1] / s) for s in (8, 16, 32, 64, 128)
    ]
    np.testing.assert_array_equal(np.concatenate(levels), anchornets.anchors_of(told))


def test_corners_are_whole_pixels_around_the_corner_of_the_cell() -> None:
    (level,) = level_anchors((32, 48), (32,), [(32,)], [(0.5, 1, 2)])
    first = [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
    assert level[:3].tolist() == first
    assert level[3:].tolist() == [[x1 + 24, y1, x2 + 24, y2] for x1, y1, x2, y2 in first]


def test_no_default_box_is_larger_than_the_input() -> None:
    boxes = of_ssd(find("ssd300-vgg16"))
    assert (boxes[:, 2:] - boxes[:, :2] <= 300.001).all()

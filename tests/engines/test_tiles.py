from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.boxes import Suppression
from engines.decoders import DetectOptions
from engines.geometry import Size
from engines.masks import decode, encode_masks
from engines.model import Model
from engines.regions import Region
from engines.runtimes.fake import FakeRuntime
from engines.tiles import Tile, Tiling, merge, per_tile, tiled
from engines.types import Array, Detections, Float, Geometry, Image, Masks

SIZE = (120, 160)
Rectangle = tuple[int, int, int, int]


def scene(*rectangles: Rectangle, size: Size = SIZE) -> Image:
    """White rectangles on black."""
    image = np.zeros((*size, 3), np.uint8)
    for x1, y1, x2, y2 in rectangles:
        image[y1:y2, x1:x2] = 255
    return image


def found_in(image: Image) -> Detections:
    """Find white rectangles, and be surer of those that are larger; their masks are full."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(image[..., 0]))
    rows = np.array([[x, y, x + w, y + h] for x, y, w, h, _ in stats[1:]], np.float32).reshape(-1, 4)
    area = (rows[:, 2:] - rows[:, :2]).prod(1)
    order = np.argsort(-area, kind="stable")
    n, confidence = len(rows), (0.5 + area[order] / 1e5).astype(np.float32)
    return Detections(rows[order], np.zeros(n, np.int32), confidence, masks=Masks(np.ones((n, 7, 7), np.float32)))


def detector(max_batch: int = 4) -> tuple[Model[Image, Detections], FakeRuntime]:
    """A model that looks at the pixels themselves: each image is one row of the batch, whatever its size."""
    waiting: list[Image] = []

    def preprocess(items: Sequence[Image]) -> tuple[Mapping[str, Array], list[Geometry]]:
        waiting[:] = items
        return {"rows": np.arange(len(items))}, [Geometry((1, 1), (1.0, 1.0), (0.0, 0.0)) for _ in items]

    def postprocess(outputs: Mapping[str, Array], _: Sequence[Geometry]) -> list[Detections]:
        return [found_in(waiting[row]) for row in outputs["rows"]]

    runtime = FakeRuntime(lambda feeds: feeds, max_batch=max_batch)
    return Model("rectangles", ("white",), preprocess, runtime, postprocess), runtime


def look(image: Image, tiling: Tiling, options: DetectOptions | None = None) -> Detections:
    (found,) = tiled(detector()[0], tiling, options or DetectOptions())([image])
    return found


SIDES = st.one_of(st.integers(1, 40), st.integers(1, 8192))
TILINGS = st.builds(Tiling, st.integers(1, 6), st.integers(1, 6), st.floats(0, 0.9), st.booleans())


@given(size=st.tuples(SIDES, SIDES), tiling=TILINGS)
def test_tiles_cover_the_image_and_overlap_by_what_was_asked(size: Size, tiling: Tiling) -> None:
    tiles = tiling.cut(size)
    whole = Tile(0, 0, size[1], size[0])
    assert not tiling.whole or tiles[0] == whole
    assert len(set(tiles)) == len(tiles)
    parts = tiles[1:] if tiling.whole and len(tiles) > 1 else tiles
    assert len(parts) <= tiling.rows * tiling.columns
    across = sorted({(tile.left, tile.right) for tile in parts})
    down = sorted({(tile.top, tile.bottom) for tile in parts})
    assert {Tile(x[0], y[0], x[1], y[1]) for x in across for y in down} == set(parts)
    for spans, length in ((across, size[1]), (down, size[0])):
        assert (spans[0][0], spans[-1][1]) == (0, length)
        assert len({stop - start for start, stop in spans}) == 1
        for (_, stop), (start, end) in pairwise(spans):
            assert stop - start >= tiling.overlap * (end - start) - 1e-6


def test_two_by_two_of_full_hd() -> None:
    tiles = Tiling.parse("2x2").cut((1080, 1920))
    assert tiles == [
        Tile(0, 0, 1920, 1080),
        Tile(0, 0, 1067, 600),
        Tile(853, 0, 1920, 600),
        Tile(0, 480, 1067, 1080),
        Tile(853, 480, 1920, 1080),
    ]


@pytest.mark.parametrize("text", ["", "2", "2x", "x2", "2x2x2", "2 x 2", "-1x2", "2.5x2"])
def test_what_is_no_grid(text: str) -> None:
    with pytest.raises(ValueError, match="write 2x2, rows before columns"):
        Tiling.parse(text)


def test_grids_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="a grid of 0x2 has no tiles"):
        Tiling.parse("0x2")
    for overlap in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="tiles cannot overlap by"):
            Tiling(2, 2, overlap)


def equal(a: Detections, b: Detections) -> bool:
    return np.array_equal(a.xyxy, b.xyxy) and np.array_equal(a.confidence, b.confidence)


@pytest.mark.parametrize("tiling", [Tiling(1, 1), Tiling(2, 2), Tiling(3, 2, 0.4), Tiling(2, 2, 0.0)], ids=str)
def test_what_the_whole_image_shows_is_found_once(tiling: Tiling) -> None:
    image = scene((2, 2, 20, 12), (60, 50, 100, 70), (140, 100, 160, 120), (75, 5, 85, 115), (5, 60, 12, 66))
    assert equal(look(image, tiling), found_in(image))


def test_an_object_no_larger_than_the_overlap_is_found_wherever_it_lies() -> None:
    tiling = Tiling(2, 2, 0.3, whole=False)
    for x, y in np.random.default_rng(0).integers(0, (136, 100), (60, 2)).tolist():
        image = scene((x, y, x + 23, y + 19))
        assert equal(look(image, tiling), found_in(image)), (x, y)


def test_objects_that_touch_a_corner_of_four_tiles() -> None:
    image = scene((70, 50, 90, 70), (91, 71, 99, 80), (60, 40, 69, 49))
    assert equal(look(image, Tiling(2, 2, 0.4, whole=False)), found_in(image))


def test_masks_go_where_their_boxes_go() -> None:
    image = scene((100, 80, 130, 110))
    found = look(image, Tiling(2, 2, 0.2, whole=False))
    assert found.masks is not None
    (rle,) = encode_masks(found.masks, found.xyxy, SIZE)
    white, seen = image[..., 0] > 0, decode(rle)
    assert seen[82:108, 102:128].all()
    assert (seen & ~white).sum() <= 2 * (30 + 30)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (3, 2), (2, 900)])
def test_images_smaller_than_the_grid(size: Size) -> None:
    image = np.full((*size, 3), 255, np.uint8)
    assert equal(look(image, Tiling(4, 4)), found_in(image))


def test_nothing_in_it() -> None:
    found = look(scene(), Tiling(2, 2))
    assert len(found) == 0
    assert found.masks is not None


def test_tiles_of_all_images_are_one_sequence() -> None:
    model, runtime = detector(max_batch=8)
    several = tiled(model, Tiling(2, 2), DetectOptions())
    images = [scene((9 * i, 5, 9 * i + 6, 11)) for i in range(3)]
    assert all(equal(a, found_in(image)) for a, image in zip(several(images), images, strict=True))
    assert runtime.batch_sizes == [8, 7]
    assert several([]) == []
    assert all(equal(a, found_in(image)) for a, image in zip(several.begin(images[:1])(), images, strict=False))


def test_it_passes_for_the_model_inside() -> None:
    model, runtime = detector()
    several = tiled(model, Tiling(2, 2), DetectOptions())
    assert (several.name, several.labels, several.runtime) == ("rectangles", ("white",), runtime)
    several.close()
    assert runtime.closed


def test_what_is_said_of_the_whole_image_is_asked_last() -> None:
    image = scene((70, 10, 90, 30), (10, 100, 15, 105), (120, 90, 150, 118), (20, 20, 30, 30))
    door = Region("door", ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)))
    options = DetectOptions(min_size=9, regions=(door,), max_detections=2)
    assert per_tile(options) == DetectOptions(max_detections=2)
    found = look(image, Tiling(2, 2), options)
    assert found.xyxy.tolist() == [[120, 90, 150, 118], [70, 10, 90, 30]]
    assert found.regions is not None
    assert found.regions.tolist() == [[True], [True]]


HALVES = [Tile(0, 0, 60, 40), Tile(40, 0, 100, 40)]


def seen(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4].copy(), table[:, 5].astype(np.int32), table[:, 4].copy())


def merged(left: Detections, right: Detections, how: Suppression | None = None) -> Float:
    found = merge([left, right], HALVES, (40, 100), how or Suppression())
    return np.concatenate([found.xyxy, found.confidence[:, None], found.class_id[:, None]], 1)


def test_a_part_gives_way_to_the_whole_however_sure_the_network_is() -> None:
    part, whole = (44, 10, 60, 30, 0.9, 0), (4, 10, 30, 30, 0.5, 0)  # 44..60 of the image, and 44..70
    assert merged(seen(part), seen(whole)) == pytest.approx(np.array([[44, 10, 70, 30, 0.5, 0]]))


def test_a_part_of_another_class_stays_unless_classes_do_not_count() -> None:
    part, whole = seen((44, 10, 60, 30, 0.9, 1)), seen((4, 10, 30, 30, 0.5, 0))
    assert merged(part, whole)[:, 5].tolist() == [1, 0]
    assert merged(part, whole, Suppression(agnostic=True))[:, 5].tolist() == [0]


def test_whole_objects_of_one_tile_are_never_one() -> None:
    twins = seen((5, 5, 25, 25, 0.9, 0), (6, 5, 26, 25, 0.8, 0))  # as soft suppression leaves them
    assert len(merged(twins, seen())) == 2


def test_one_inside_another_stays() -> None:
    """A child before a grown-up, each seen whole: they are told apart by what both cover, not by what one does."""
    assert len(merged(seen((42, 2, 57, 38, 0.9, 0)), seen((6, 20, 12, 36, 0.8, 0)))) == 2


def test_the_same_object_seen_whole_twice_is_the_better_one() -> None:
    got = merged(seen((42, 5, 57, 35, 0.7, 0)), seen((2.5, 5, 17, 35, 0.8, 0)))
    assert got == pytest.approx(np.array([[42.5, 5, 57, 35, 0.8, 0]]))


def test_objects_at_the_images_own_border_are_whole() -> None:
    assert merged(seen((45, 0, 57, 40, 0.9, 0)), seen((5, 0, 17, 40, 0.5, 0)))[:, 4] == pytest.approx([0.9])

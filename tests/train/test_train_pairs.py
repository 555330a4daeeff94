"""Pairs to learn flow from: what moves moved exactly as is told, and the same number gives the same pair."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.flowfiles import FlowField, write_flow
from engines.metrics.baselines import dense_inverse_search
from engines.metrics.flow import flow_error
from engines.train.data.chairs import Chairs, Motions
from engines.train.data.flo import find_triples, read_triple
from engines.train.data.pairs import FlowPair, batched
from engines.train.data.photometry import Photometry, disturb
from engines.train.data.worldpairs import HELD_OUT, WorldPairs, held_out
from engines.train.errors import TrainingError
from engines.types import Float

SIZE = (96, 128)
NOTHING = Photometry(both=0, each=0, noise=0, blur=0)


@pytest.fixture(scope="module")
def chairs() -> Chairs:
    return Chairs(3, SIZE)


def brought_back(pair: FlowPair) -> Float:
    """Look where each pixel of the earlier image has gone in the later one: how different it is there, in levels."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    found = cv2.remap(pair.after, x + pair.uv[..., 0], y + pair.uv[..., 1], cv2.INTER_LINEAR)
    inside = (x + pair.uv[..., 0] > 0) & (x + pair.uv[..., 0] < SIZE[1] - 1)
    inside &= (y + pair.uv[..., 1] > 0) & (y + pair.uv[..., 1] < SIZE[0] - 1)
    return np.asarray(np.abs(found.astype(np.float32) - pair.before).mean(axis=2)[inside], np.float32)


def test_pixels_are_found_where_the_motion_says(chairs: Chairs) -> None:
    errors = [np.median(brought_back(chairs.pair(number))) for number in range(20)]
    still = [
        np.median(brought_back(FlowPair(p.before, p.after, 0 * p.uv, p.known))) for p in map(chairs.pair, range(20))
    ]
    assert np.mean(errors) < 2.5  # levels: what interpolating twice makes of grain
    assert np.mean(errors) < 0.4 * np.mean(still)


def test_a_search_finds_the_same_motion(chairs: Chairs) -> None:
    pairs = [chairs.pair(number) for number in range(20)]
    found = np.mean([flow_error(p.uv, dense_inverse_search(p.before, p.after)).endpoint for p in pairs])
    assert found < 0.7 * np.mean([flow_error(p.uv, 0 * p.uv).endpoint for p in pairs])


def test_the_same_number_gives_the_same_pair_whatever_was_asked_before(chairs: Chairs) -> None:
    first = chairs.pair(11)
    again = Chairs(3, SIZE).pair(11)
    assert np.array_equal(first.before, again.before)
    assert np.array_equal(first.after, again.after)
    assert np.array_equal(first.uv, again.uv)
    assert not np.array_equal(first.before, chairs.pair(12).before)
    assert not np.array_equal(first.before, Chairs(4, SIZE).pair(11).before)


def test_motion_is_of_all_lengths(chairs: Chairs) -> None:
    lengths = np.concatenate([np.linalg.norm(chairs.pair(number).uv, axis=2).ravel() for number in range(60)])
    assert (lengths == 0).mean() > 0.02
    assert (lengths > 20).mean() > 0.01
    assert 2 < lengths.mean() < 8


def test_nothing_moves_where_nothing_may() -> None:
    pair = Chairs(0, SIZE, Motions(still=1.0), shapes=0).pair(0)
    assert np.array_equal(pair.before, pair.after)
    assert not pair.uv.any()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), number=st.integers(0, 40))
def test_a_part_or_a_mirror_image_of_a_pair_is_one_too(chairs: Chairs, seed: int, number: int) -> None:
    pair, rng = chairs.pair(number), np.random.default_rng(seed)
    part = pair.cut(rng, (48, 64))
    assert part.uv.shape == (48, 64, 2)
    mirrored = pair.flipped(rng)
    assert np.median(brought_back(mirrored)) <= np.median(brought_back(pair)) + 1.5
    assert np.linalg.norm(mirrored.uv, axis=2).mean() == pytest.approx(np.linalg.norm(pair.uv, axis=2).mean(), rel=1e-5)


def test_no_part_is_larger_than_the_whole(chairs: Chairs) -> None:
    with pytest.raises(ValueError, match="has no part of 640 x 480"):
        chairs.pair(0).cut(np.random.default_rng(0), (480, 640))


def test_light_that_does_not_change_changes_nothing(chairs: Chairs) -> None:
    images = chairs.pair(0).before, chairs.pair(0).after
    changed = disturb(np.random.default_rng(0), images, NOTHING)
    assert all(np.array_equal(one, other) for one, other in zip(images, changed, strict=True))


def test_light_changes_both_images_and_each_a_little_more(chairs: Chairs) -> None:
    image = chairs.pair(0).before
    far, near = [], []
    for seed in range(20):
        one, other = disturb(np.random.default_rng(seed), (image, image), Photometry(noise=0, blur=0))
        far.append(np.abs(one.astype(int) - image).mean())
        near.append(np.abs(one.astype(int) - other).mean())
    assert 0 < np.mean(near) < 0.6 * np.mean(far)


def test_noise_differs_from_image_to_image() -> None:
    grey = np.full((300, 1500, 3), 128, np.uint8)  # more numbers than are kept
    one, other = disturb(np.random.default_rng(0), (grey, grey), Photometry(0, 0, 0.05, 0))
    assert not np.array_equal(one, other)
    assert 0 < one.std() < 0.05 * 255


def test_pairs_of_the_world_go_there_and_back() -> None:
    source = WorldPairs(0, SIZE)
    forth, back = source.pairs(100, 0)
    assert forth.uv.shape == back.uv.shape == (*SIZE, 2)
    again = WorldPairs(0, SIZE).pairs(100, 0)
    assert np.array_equal(forth.before, again[0].before)
    assert np.array_equal(back.uv, again[1].uv)
    # Pan, zoom and tilt are slow: most of the picture goes back as far as it has come.
    assert np.abs(np.median(forth.uv, (0, 1)) + np.median(back.uv, (0, 1))).max() < 1


def test_what_is_measured_on_is_never_learnt_from() -> None:
    source = WorldPairs(0, SIZE)
    seeds = {source._make(number, place).seed for number in range(8) for place in range(2)}
    assert len(seeds) == 16
    assert max(seeds) < HELD_OUT
    one, other = held_out(2, 0.2)
    assert not np.array_equal(one.before, other.before)


def test_a_batch_has_the_shape_that_a_graph_is_fed_with(chairs: Chairs) -> None:
    pairs = [chairs.pair(number) for number in range(3)]
    batch = batched(pairs)
    assert batch.frames.shape == (3, 2, *SIZE, 3)
    assert batch.flow.shape == (3, 2, *SIZE)
    assert batch.flow[1, 1, 5, 7].item() == pairs[1].uv[5, 7, 1]
    assert batch.known.all()


# --- a user's folder ---


def write(pair: FlowPair, folder: Path, names: tuple[str, str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, (pair.before, pair.after), strict=False):
        cv2.imwrite(str(folder / name), image[..., ::-1])
    write_flow(folder / names[2], FlowField(pair.uv, pair.known))


def test_triples_are_read_as_flying_chairs_and_sintel_name_them(tmp_path: Path, chairs: Chairs) -> None:
    pair = chairs.pair(5)
    write(pair, tmp_path, ("00001_img1.ppm", "00001_img2.ppm", "00001_flow.flo"))
    write(pair, tmp_path / "scene", ("frame_0009.png", "frame_0010.png", "frame_0009.flo"))
    triples = find_triples(tmp_path)
    assert [each.after.name for each in triples] == ["00001_img2.ppm", "frame_0010.png"]
    for found in map(read_triple, triples):
        assert np.array_equal(found.before, pair.before)
        assert np.array_equal(found.after, pair.after)
        assert np.array_equal(found.uv, pair.uv)


def test_what_is_missing_is_named(tmp_path: Path, chairs: Chairs) -> None:
    with pytest.raises(TrainingError, match=r"holds no \.flo files"):
        find_triples(tmp_path)
    write(chairs.pair(0), tmp_path, ("a_img1.png", "a_img2.png", "a_flow.flo"))
    (tmp_path / "a_img2.png").unlink()
    with pytest.raises(TrainingError, match=r"a_flow\.flo has no a_img1 and a_img2 beside it"):
        find_triples(tmp_path)


def test_what_does_not_go_together_is_named(tmp_path: Path, chairs: Chairs) -> None:
    write(chairs.pair(0), tmp_path, ("1_img1.png", "1_img2.png", "1_flow.flo"))
    cv2.imwrite(str(tmp_path / "1_img2.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(TrainingError, match="differ in size"):
        read_triple(find_triples(tmp_path)[0])
    (tmp_path / "1_img2.png").write_bytes(b"no image")
    with pytest.raises(TrainingError, match=r"1_img2\.png is no image"):
        read_triple(find_triples(tmp_path)[0])

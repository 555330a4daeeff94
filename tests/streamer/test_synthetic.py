"""The camera that needs nothing: the same pictures for everybody, at its own pace."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import ManualClock

from engines.world import World as City
from streamer.errors import ConfigError
from streamer.sources import open_source
from streamer.sources.synthetic import Spec, SyntheticSource, World, city_of


@dataclass
class Waiting:
    """Time passes by waiting for it; *stop_at* is when somebody says stop."""

    clock: ManualClock = field(default_factory=ManualClock)
    stop_at: float = float("inf")
    waits: list[float] = field(default_factory=list)

    def __call__(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.clock.advance(seconds)
        return self.clock.seconds >= self.stop_at


def camera(waiting: Waiting, fps: float = 10) -> SyntheticSource:
    return SyntheticSource("gate", Spec((64, 48), fps), waiting.clock, waiting)


def test_frames_come_when_they_are_due() -> None:
    waiting = Waiting()
    start = waiting.clock.seconds
    with camera(waiting).open() as frames:
        for index, frame in enumerate(islice(frames, 5)):
            assert frame.pts == index / 10
            assert waiting.clock.seconds - start == pytest.approx(index / 10, abs=1e-6)


def test_a_late_reader_is_not_made_to_wait() -> None:
    waiting = Waiting()
    with camera(waiting).open() as frames:
        next(frames)
        waiting.clock.advance(0.35)
        waiting.waits.clear()
        assert [frame.pts for frame in islice(frames, 3)] == pytest.approx([0.1, 0.2, 0.3])
        assert not waiting.waits


def test_a_slow_camera_looks_often_whether_to_stop() -> None:
    waiting = Waiting()
    waiting.stop_at = waiting.clock.seconds + 1
    with camera(waiting, fps=0.01).open() as frames:
        assert len(list(frames)) == 1
    assert waiting.clock.seconds - waiting.stop_at < 0.1
    assert max(waiting.waits) <= 0.1


def test_an_event_can_stop_it() -> None:
    stop = threading.Event()
    stop.set()
    with SyntheticSource("gate", Spec(fps=0.01), wait=stop.wait).open() as frames:
        assert len(list(frames)) == 1


def test_a_clip_ends_and_waits_for_nothing() -> None:
    waiting = Waiting()
    source = SyntheticSource("gate", Spec((64, 48), frames=30), waiting.clock, waiting)
    with source.open() as frames:
        assert len(list(frames)) == 30
    assert not waiting.waits


def test_opened_again_it_shows_the_same() -> None:
    source = open_source("gate", "synthetic://?size=64x48&frames=5&seed=7")
    with source.open() as first, source.open() as second:
        assert all((a.to_rgb() == b.to_rgb()).all() for a, b in zip(first, second, strict=True))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**40), st.integers(16, 200), st.integers(16, 200), st.floats(0, 1e6))
def test_the_world_is_a_function_of_seed_size_and_time(seed: int, width: int, height: int, t: float) -> None:
    image = World(seed, (width, height)).render(t)
    assert image.shape == (height, width, 3)
    assert image.dtype == np.uint8
    assert not image.flags.writeable
    assert (image == World(seed, (width, height)).render(t)).all()


def test_seeds_differ_and_shapes_move() -> None:
    world = World(1, (320, 180))
    assert (world.render(0) != World(2, (320, 180)).render(0)).mean() > 0.5
    pictures = [world.render(t / 15) for t in range(15)]
    moved = [(a != b).any(axis=2).mean() for a, b in pairwise(pictures)]
    assert min(moved) > 0
    assert max(moved) < 0.6  # the background stands still


def test_there_is_texture_everywhere() -> None:
    grey = World(1, (320, 180)).render(0).mean(axis=2)
    tiles = grey[:176].reshape(11, 16, 20, 16).std(axis=(1, 3))
    assert tiles.min() > 3


# --- a world with known truth ---


def test_a_city_shows_the_world_of_its_seed() -> None:
    source = open_source("gate", "synthetic://city?size=160x96&frames=3&seed=7&fps=5&objects=4")
    world = City(7, (160, 96), 4)
    with source.open() as frames:
        for index, frame in enumerate(frames):
            assert (frame.to_rgb() == world.render(index / 5)).all()


def test_a_city_paces_as_any_synthetic_camera_does() -> None:
    waiting = Waiting()
    source = SyntheticSource("gate", Spec((64, 48), 10, scene="city"), waiting.clock, waiting)
    assert source.live
    with source.open() as frames:
        assert [frame.pts for frame in islice(frames, 3)] == pytest.approx([0, 0.1, 0.2])
    assert waiting.waits


def test_the_world_behind_a_url_is_found_again() -> None:
    world = city_of("synthetic://city?size=160x96&seed=7&objects=4")
    assert world is not None
    assert (world.render(3) == City(7, (160, 96), 4).render(3)).all()
    assert city_of("synthetic://?seed=7") is None
    assert city_of("rtsp://gate/1") is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("synthetic://town", "unless it is city"),
        ("synthetic://city/1", "no host or path"),
        ("synthetic://city?objects=201", "up to 200"),
        ("synthetic://city?objects=few", "up to 200"),
        ("synthetic://city?object=3", "did you mean 'objects'"),
        ("synthetic://?objects=3", "'objects' is no setting"),
    ],
)
def test_what_is_no_city_is_refused(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        open_source("gate", url)

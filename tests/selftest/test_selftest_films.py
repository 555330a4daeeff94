"""The films: of worlds that no training has seen, coded as cameras do, with the truth of each frame."""

from __future__ import annotations

import av
import numpy as np
import pytest

from engines.train.data import world, worldpairs
from engines.world import World
from streamer.selftest.expected import printed
from streamer.selftest.films import BETWEEN, FILMS, SEEN, STEP, UNSEEN, Film, Footage
from streamer.selftest.known import Known
from streamer.types import Frame

_IMAGES = 8_000_000  # more than any training looks at


def test_nothing_has_learnt_from_the_films_worlds() -> None:
    assert all(film.seed in UNSEEN for film in FILMS)
    assert len({film.seed for film in FILMS}) == len(FILMS)


def test_nothing_will_learn_from_worlds_that_films_are_made_of() -> None:
    """Flow and actions stay below a million; detectors begin there, and far beyond with each seed of a training."""
    turn = world._WORLDS * world._TIMES
    learnt = world.FIRST_TRAINED + _IMAGES // turn * world._WORLDS
    assert UNSEEN.start >= worldpairs.HELD_OUT
    assert learnt <= UNSEEN.start
    assert UNSEEN.stop <= world.FIRST_TRAINED + world._SEEDS_APART


@pytest.mark.parametrize("index", [0, 1, 17, 120])
def test_a_frame_is_found_by_its_media_time(index: int) -> None:
    film = FILMS[0]
    assert film.index(round(index / film.fps, 3)) == index  # as rounded as it is on the wire
    assert film.time(index) == pytest.approx(film.start + index / film.fps)


def test_the_last_frame_is_one_that_motion_and_detectors_are_looked_for_in() -> None:
    for film in FILMS:
        assert (film.frames - 1) % BETWEEN == 0
        assert (film.frames - 1) % STEP == 0


def test_a_film_is_coded_as_cameras_do(footage: tuple[Footage, ...]) -> None:
    with av.open(str(footage[0].path)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt, codec.has_b_frames) == ("h264", "yuv420p", True)
        assert codec.colorspace == codec.color_primaries == codec.color_trc == 1  # BT.709
        assert sum(1 for _ in container.decode(video=0)) == footage[0].film.frames


def test_the_truth_is_that_of_the_world(footage: tuple[Footage, ...]) -> None:
    each = footage[0]
    true = World(each.film.seed, each.film.size, each.film.objects)
    scene = true.at(each.film.time(20))
    moment = each.moments[20]
    np.testing.assert_array_equal(moment.objects.xyxy, scene.xyxy)
    np.testing.assert_array_equal(moment.action, scene.action)
    last = [each.film.time(each.film.frames - 1 - back) for back in (BETWEEN, 0)]
    np.testing.assert_array_equal(each.motion.uv, true.flow(*last).uv)


def test_films_of_two_worlds_look_apart(footage: tuple[Footage, ...]) -> None:
    assert printed(footage[0]) != printed(footage[1])
    assert len(bytes.fromhex(printed(footage[0]))) == 3 * 4 * 3


def test_a_film_counts_its_first_and_its_last_frame() -> None:
    assert Film("one", 2_000_001, 0.0, seconds=2.0, fps=10).frames == 21


def test_who_can_be_seen_is_known_by_camera_and_time(footage: tuple[Footage, ...]) -> None:
    for each in footage:
        known, moment = Known(each.path.parent), each.moments[20]
        found = known(frame(each.film, 20 / each.film.fps))
        assert found is not None
        np.testing.assert_array_equal(found.xyxy, moment.objects.xyxy[moment.visible >= SEEN])
        np.testing.assert_array_equal(found.track_id, moment.objects[moment.visible >= SEEN].track_id)
        assert known(frame(each.film, 1000.0)) is None


def frame(film: Film, pts: float) -> Frame:
    width, height = film.size
    return Frame(film.name, 0, pts, 0.0, 0, np.zeros((height, width, 3), np.uint8))

"""Flow, lines, zones and actions as they are drawn."""

from __future__ import annotations

import colorsys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moving import packet, tracked

from engines.regions import Region
from engines.track.lines import Line, LineCount
from engines.track.zones import ZoneState
from engines.types import Flow, Image, Scores
from streamer.draw import Annotator, hues, paint_flow, wheel
from streamer.types import Action, Actions, Crossings, Occupancy
from streamer.wire import NodeFacts

GREY = np.full((240, 320, 3), 128, np.uint8)


def flow(u: float, v: float, grid: tuple[int, int] = (30, 40)) -> Flow:
    return Flow(np.full((*grid, 2), [u, v], np.float32))


def changed(image: Image, rows: slice = slice(None), columns: slice = slice(None)) -> bool:
    return bool((image[rows, columns] != 128).any())


# --- the wheel of Baker et al. ---


def test_the_wheel_has_55_hues_that_go_round_once() -> None:
    wheel = hues()
    assert wheel.shape == (55, 3)
    assert wheel.max(1) == pytest.approx(1)
    assert wheel.min(1) == pytest.approx(0)
    turned = np.diff([colorsys.rgb_to_hsv(*map(float, colour))[0] for colour in wheel])
    assert (turned > 0).all()


@pytest.mark.parametrize(
    ("u", "v", "like"),
    [(1, 0, (255, 0, 0)), (-1, 0, (0, 209, 255)), (0, 1, (255, 229, 0)), (0, -1, (88, 0, 255))],
    ids=["right", "left", "down", "up"],
)
def test_each_direction_has_its_colour(u: float, v: float, like: tuple[int, int, int]) -> None:
    """As in the colour code that comes with their evaluation: red to the right, yellow down, cyan left, violet up."""
    colour = wheel(np.array([[[u, v]]], np.float32), 1.0)[0, 0]
    assert np.abs(colour.astype(int) - like).max() <= 12


def test_what_is_still_is_white_and_what_is_slow_pale_and_what_is_too_fast_dark() -> None:
    still, slow, full, fast = wheel(np.array([[[0, 0], [0.5, 0], [1, 0], [9, 0]]], np.float32), 1.0)[0].astype(int)
    assert still.tolist() == [255, 255, 255]
    assert slow[0] == full[0] == 255
    assert abs(slow[1] - 128) <= 1
    assert fast.tolist() == [191, 0, 0]


def test_flow_is_laid_over_what_moves_and_nothing_else() -> None:
    uv = np.zeros((30, 40, 2), np.float32)
    uv[:, 20:] = [6, 0]
    canvas = GREY.copy()
    paint_flow(canvas, Flow(uv))
    assert not changed(canvas, columns=slice(0, 150))
    red, green, blue = canvas[120, 300].astype(int)
    assert red > 180
    assert green < 128 > blue
    assert green > 40  # what is under it shines through


# --- packets ---


@pytest.mark.parametrize("style", ["wheel", "arrows", "none"])
def test_flow_is_drawn_as_it_is_asked_for(style: Any) -> None:
    annotator = Annotator({"flow": NodeFacts()}, style)
    image = annotator(packet(GREY, 0, flow=flow(6, 0)))
    share = (image != 128).any(-1).mean()
    assert {"wheel": share == 1, "arrows": 0.005 < share < 0.3, "none": share == 0}[style]


def test_flow_stays_for_a_moment_and_does_not_outlive_a_break() -> None:
    annotator = Annotator({"flow": NodeFacts()})
    annotator(packet(GREY, 0, flow=flow(6, 0)))
    assert changed(annotator(packet(GREY, 1)))
    assert not changed(annotator(packet(GREY, 9)))
    annotator(packet(GREY, 10, flow=flow(6, 0)))
    assert not changed(annotator(packet(GREY, 11, pts=0.1)))


def test_what_is_no_number_is_drawn_as_still() -> None:
    for style in ("wheel", "arrows"):
        image = Annotator({"flow": NodeFacts()}, style)(packet(GREY, 0, flow=flow(float("nan"), float("nan"))))
        assert not changed(image)


def doing(track: int | None, label: int = 0) -> Actions:
    probs = np.zeros(2, np.float32)
    probs[label] = 0.9
    return Actions((Action(track, 0, 1, Scores(probs)),))


def test_an_action_is_written_at_its_track_for_a_while() -> None:
    facts = {"tracks": NodeFacts(("person",)), "actions": NodeFacts(("walking", "waving"))}
    plain, annotator = Annotator(facts), Annotator(facts)
    here = tracked([(100, 80, 200, 180)], [7])
    for seq, other in enumerate((doing(7), None, doing(8))):
        values: dict[str, Any] = {} if other is None else {"actions": other}
        with_action = annotator(packet(GREY, seq, tracks=here, **values))
        without = plain(packet(GREY, seq, tracks=here))
        assert changed(np.where(with_action == without, 128, 0), slice(160, 180), slice(100, 200))
    late = packet(GREY, 40, tracks=here)
    assert (annotator(late) == plain(late)).all()


def test_an_action_of_the_scene_is_written_with_the_caption() -> None:
    annotator = Annotator({"actions": NodeFacts(("walking", "waving"))})
    image = annotator(packet(GREY, 0, actions=doing(None, 1)))
    assert changed(image, slice(0, 20), slice(0, 60))
    assert not changed(image, slice(40, None))


def test_lines_and_zones_are_outlined_with_their_counts() -> None:
    door = Line("door", (0.5, 0.9), (0.5, 0.2))
    yard = Region("yard", ((0.6, 0.5), (0.9, 0.5), (0.9, 0.9), (0.6, 0.9)))
    facts = {"lines": NodeFacts(lines=(door,)), "zones": NodeFacts(zones=(yard,))}
    crossed = Crossings((LineCount("door", 3, 1),))
    inside = Occupancy((ZoneState("yard", np.array([1], np.int32), np.array([2.0]), 4, 3),))
    first, then = Annotator(facts)(packet(GREY, 0)), Annotator(facts)(packet(GREY, 0, lines=crossed, zones=inside))
    assert first[150, 160].max() > 200  # on the line
    assert first[160, 192].max() > 200  # on the zone's left edge
    assert ((first != 128).any(-1)).sum() < ((then != 128).any(-1)).sum()
    assert (then[60:200, 165:185] == 128).all()


def test_only_the_nodes_that_are_asked_for() -> None:
    image = Annotator({"yolo": NodeFacts()})(packet(GREY, 0, flow=flow(9, 9), actions=doing(None)))
    assert not changed(image)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 200), st.integers(1, 200)),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.floats(-1e6, 1e6, width=32),
    st.sampled_from(["wheel", "arrows"]),
)
def test_any_size_and_any_flow(size: tuple[int, int], grid: tuple[int, int], u: float, style: Any) -> None:
    image = np.full((*size, 3), 128, np.uint8)
    drawn = Annotator({"flow": NodeFacts()}, style)(packet(image, 0, flow=replace(flow(u, -u, grid))))
    assert drawn.shape == image.shape
    assert (image == 128).all()

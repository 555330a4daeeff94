from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pytest

from engines.track.lines import Line, LineCount, LineCounter, LineCrossed
from engines.track.watch import WatchOptions
from engines.types import Detections

SIZE = (480, 640)  # height, width
UP = Line("door", (300, 400), (300, 100))  # drawn upwards: left and right are those of the picture


def standing(*feet: tuple[float, float], ids: Sequence[int] = (), side: float = 100.0) -> Detections:
    """Square objects that stand at *feet*."""
    x, y = np.array(feet, np.float64).reshape(-1, 2).T
    n = len(feet)
    xyxy = np.stack([x - side / 2, y - side, x + side / 2, y], axis=1).astype(np.float32)
    track_id = np.array(ids or range(1, n + 1), np.int32)
    return Detections(xyxy, np.full(n, 3, np.int32), np.ones(n, np.float32), track_id)


def walk(counter: LineCounter, path: Iterable[tuple[float, float]], track_id: int = 1) -> list[LineCrossed]:
    """One object along *path*, ten steps a second."""
    return [
        event
        for step, place in enumerate(path)
        for event in counter.update(standing(place, ids=[track_id]), step / 10, SIZE)
    ]


def straight(start: tuple[float, float], end: tuple[float, float], steps: int = 20) -> list[tuple[float, float]]:
    return [(x, y) for x, y in np.linspace(start, end, steps).tolist()]


def test_left_and_right_are_those_of_who_looks_along_the_line() -> None:
    counter = LineCounter([UP])
    (event,) = walk(counter, straight((200, 250), (400, 250)))
    assert (event.line, event.track_id, event.class_id, event.direction) == ("door", 1, 3, "left_to_right")
    assert event.pts == pytest.approx(1.0, abs=0.2)
    assert counter.counts == (LineCount("door", 1, 0),)
    assert [e.direction for e in walk(LineCounter([UP]), straight((400, 250), (200, 250)))] == ["right_to_left"]


def test_of_a_line_drawn_to_the_right_left_is_above() -> None:
    down = straight((320, 100), (320, 400))
    assert walk(LineCounter([Line("kerb", (0, 240), (640, 240))]), down)[0].direction == "left_to_right"
    assert walk(LineCounter([Line("kerb", (640, 240), (0, 240))]), down)[0].direction == "right_to_left"


def test_shares_of_the_image_are_the_same_line() -> None:
    path = straight((200, 250), (400, 250))
    shares = Line("door", (300 / 640, 400 / 480), (300 / 640, 100 / 480))
    assert walk(LineCounter([shares]), path) == walk(LineCounter([UP]), path)


def test_whoever_goes_round_an_end_is_not_counted() -> None:
    around = [*straight((200, 250), (200, 50)), *straight((200, 50), (400, 50)), *straight((400, 50), (400, 250))]
    counter = LineCounter([UP])
    assert walk(counter, around) == []
    back = counter.update(standing((200, 250)), 6.1, SIZE)
    assert [event.direction for event in back] == ["right_to_left"]


def test_who_trembles_on_the_line_is_counted_once() -> None:
    rng = np.random.default_rng(0)
    on_it = [(300 + dx, 250.0) for dx in rng.normal(0, 2, 300).tolist()]
    path = [*straight((200, 250), (300, 250)), *on_it, *straight((300, 250), (400, 250))]
    assert len(walk(LineCounter([UP]), path)) == 1
    assert len(walk(LineCounter([UP], WatchOptions(margin=0)), path)) > 20
    assert walk(LineCounter([UP]), [*straight((200, 250), (300, 250)), *on_it, *straight((300, 250), (200, 250))]) == []


def test_who_appears_on_the_line_has_come_from_no_side() -> None:
    assert walk(LineCounter([UP]), straight((298, 250), (400, 250))) == []


def test_who_was_hidden_while_crossing_is_counted() -> None:
    counter = LineCounter([UP])
    counter.update(standing((200, 250)), 0.0, SIZE)
    assert counter.update(standing(), 1.0, SIZE) == ()
    assert len(counter.update(standing((400, 250)), 2.0, SIZE)) == 1


def test_a_break_forgets_where_objects_were_but_not_the_counts() -> None:
    counter = LineCounter([UP])
    walk(counter, straight((200, 250), (400, 250)))
    counter.reset()
    assert counter.remembered == 0
    assert counter.update(standing((200, 250)), 9, SIZE) == ()
    assert counter.counts == (LineCount("door", 1, 0),)


def test_several_objects_and_lines_at_once() -> None:
    counter = LineCounter([UP, Line("second", (350, 400), (350, 100))])
    counter.update(standing((250, 200), (450, 300), (250, 50)), 0, SIZE)
    events = counter.update(standing((450, 300), (250, 50), (400, 200), ids=[2, 3, 1]), 0.1, SIZE)
    assert [(event.line, event.track_id) for event in events] == [("door", 1), ("second", 1)]
    assert counter.counts == (LineCount("door", 1, 0), LineCount("second", 1, 0))


def test_memory_is_bounded_while_ids_keep_coming() -> None:
    counter = LineCounter([UP], WatchOptions(memory=1.0))
    for frame in range(500):
        counter.update(standing((frame, 200), (frame, 300), ids=[2 * frame + 1, 2 * frame + 2]), frame / 10, SIZE)
        assert counter.remembered <= 2 * 12


def test_time_that_goes_back_begins_anew() -> None:
    counter = LineCounter([UP])
    counter.update(standing((200, 250)), 100, SIZE)
    assert counter.update(standing((400, 250)), 5, SIZE) == ()


def test_no_lines_and_no_objects() -> None:
    assert LineCounter([]).update(standing((1, 1)), 0, SIZE) == ()
    assert LineCounter([UP]).update(Detections.empty(), 0, SIZE) == ()


def test_what_a_detector_gives_cannot_be_watched() -> None:
    found = standing((1, 1))
    with pytest.raises(ValueError, match="no track ids"):
        LineCounter([UP]).update(Detections(found.xyxy, found.class_id, found.confidence), 0, SIZE)


@pytest.mark.parametrize(("a", "b"), [((0, 0), (0, 0)), ((0, float("nan")), (1, 1)), ((0, 0), (float("inf"), 1))])
def test_lines_that_are_none_are_refused(a: tuple[float, float], b: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="line 'door'"):
        Line("door", a, b)


@pytest.mark.parametrize("wrong", [{"margin": -1.0}, {"memory": -1.0}, {"margin": float("nan")}])
def test_options_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        WatchOptions(**wrong)

"""Objects of the user's own classes: one a camera or one for all, told of breaks, closed, and taken at their word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from worlds import one_box

from engines.types import Detections
from streamer.stages.python import EachBatch, EachCamera, Place
from streamer.types import Frame, Note, Packet, Port

BOXES = Place((Port("yolo", Detections),), Port("mine", Note), "Mine")


def packet(seq: int, camera: str = "gate", **values: object) -> Packet:
    return Packet(Frame(camera, seq, seq / 10, 0.0, 0, np.zeros((4, 4, 3), np.uint8)), values)


class Diary:
    """A user's object that writes down what it is told."""

    def __init__(self, log: list[str], answer: object = None) -> None:
        self.log, self.answer = log, answer
        log.append("made")

    def __call__(self, frame: Frame, found: Detections | None) -> object:
        self.log.append(f"{frame.seq} {'-' if found is None else len(found)}")
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def forget(self) -> None:
        self.log.append("forget")

    def close(self) -> None:
        self.log.append("closed")


def test_one_object_is_made_ahead_and_all_are_closed() -> None:
    log: list[str] = []
    stage = EachCamera(lambda: Diary(log), BOXES)
    assert log == ["made"]
    stage.forget("gate")  # nobody knows it yet
    given = [packet(0, yolo=one_box(2)), packet(0, "yard")]
    assert [done.values for done in stage.process(given)] == [one.values for one in given]
    stage.forget("yard")
    stage.close()
    assert log == ["made", "0 1", "made", "0 -", "forget", "closed", "closed"]


def test_no_more_objects_are_kept_than_said() -> None:
    log: list[str] = []
    stage = EachCamera(lambda: Diary(log), BOXES, cameras=2)
    stage.process([packet(0, name) for name in ("a", "b", "a", "c")])
    assert log.count("closed") == 1
    stage.process([packet(1, "a")])
    assert log.count("made") == 3, "a was seen after b, so b went"


def test_what_is_not_as_promised_names_class_and_node() -> None:
    stage = EachCamera(lambda: Diary([], one_box(1)), BOXES)
    with pytest.raises(TypeError, match="node mine: Mine returned Detections, but writes Note; return that, or None"):
        stage.process([packet(0)])


def test_what_the_code_raises_is_raised_and_says_where() -> None:
    stage = EachCamera(lambda: Diary([], KeyError("x")), BOXES)
    with pytest.raises(KeyError) as caught:
        stage.process([packet(7)])
    assert caught.value.__notes__ == ["in node mine: Mine, frame 7 of camera gate"]


def test_a_close_that_fails_does_not_keep_the_others_open(caplog: pytest.LogCaptureFixture) -> None:
    class Sticky(Diary):
        def close(self) -> None:
            super().close()
            raise OSError("stuck")

    log: list[str] = []
    stage = EachCamera(lambda: Sticky(log), BOXES)
    stage.process([packet(0, "a"), packet(0, "b")])
    stage.close()
    assert log.count("closed") == 2
    assert "node mine: Mine could not be closed" in caplog.text


class Batches:
    """A user's class that takes batches; *done* is what it makes of them."""

    def __init__(self, done: object) -> None:
        self.done = done

    def process(self, packets: Sequence[Packet]) -> Any:
        return self.done(packets) if callable(self.done) else self.done


@pytest.mark.parametrize(
    ("done", "says"),
    [
        (None, "node mine: Mine must return the packets it took, in order"),
        (lambda packets: packets[::-1], "must return the packets it took"),
        (lambda packets: packets[:1], "must return the packets it took"),
        (lambda packets: [p.put(Port("mine", Detections), one_box(1)) for p in packets], "returned Detections"),
    ],
)
def test_what_a_batch_becomes_is_checked(done: object, says: str) -> None:
    stage = EachBatch(Batches(done), BOXES)
    with pytest.raises(TypeError, match=says):
        stage.process([packet(0), packet(1)])
    stage.forget("gate")  # it has neither, and need not
    stage.close()

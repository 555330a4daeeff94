"""Figures of messages that are made of the truth, and then of less."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from engines.types import Flow
from engines.world import ACTIONS, CLASSES
from engines.world.truth import outlines
from streamer.selftest.films import Film, Footage
from streamer.selftest.liverows import _rate
from streamer.selftest.measures import measure
from streamer.selftest.reading import Reel
from streamer.selftest.spans import spans
from streamer.wire import Action, ActionsResult, Detection, DetectionsResult, FlowField, LabelScore, MaskRle, Message

Footages = tuple[Footage, ...]
Edit = Callable[[list[Detection]], list[Detection]]


def message(film: Film, index: int, results: dict[str, object]) -> Message:
    return Message.model_validate(
        {
            "schema": 1,
            "camera": film.name,
            "seq": index,
            "pts": round(index / film.fps, 3),
            "captured_at": 1_790_000_000 + index / film.fps,
            "size": film.size,
            "results": results,
            "latency_ms": {},
        }
    )


def objects(footage: Footage, index: int) -> list[Detection]:
    """Say what is true of a frame as a tracker would; with masks where a scene is kept."""
    true = footage.moments[index].objects
    assert true.track_id is not None
    scene = footage.scenes.get(index)
    masks = [None] * len(true) if scene is None else outlines(scene)
    columns = zip(true.xyxy.tolist(), true.class_id.tolist(), true.track_id.tolist(), masks, strict=True)
    return [
        Detection(
            box=tuple(box),
            label=CLASSES[c],
            class_id=c + 1,
            confidence=0.9,
            track_id=t,
            mask=None if rle is None else MaskRle(size=rle.size, counts=rle.counts.decode()),
        )
        for box, c, t, rle in columns
    ]


def reels(footage: Footages, edit: Edit = list, fields: Sequence[FlowField] = ()) -> list[Reel]:
    made = []
    for each in footage:
        found = (
            DetectionsResult(kind="detections", items=tuple(edit(objects(each, i)))) for i in range(each.film.frames)
        )
        messages = tuple(message(each.film, i, {"tracks": one, "masks": one}) for i, one in enumerate(found))
        mine = [field for field in fields if field.camera == each.film.name]
        made.append(Reel(each, messages, dict(zip(["flow"], mine, strict=False))))
    return made


def moved(found: list[Detection]) -> list[Detection]:
    shift = np.array([15, 15, 15, 15])
    return [one.model_copy(update={"box": tuple((np.array(one.box) + shift).tolist())}) for one in found]


@pytest.mark.parametrize(("how", "node"), [("boxes", "tracks"), ("masks", "masks"), ("identity", "tracks")])
def test_the_truth_is_without_fault(footage: Footages, how: str, node: str) -> None:
    assert measure(how, reels(footage), node) == pytest.approx(100)  # type: ignore[arg-type]  # parametrised


def test_boxes_aside_are_worse_and_other_classes_are_wrong(footage: Footages) -> None:
    assert measure("boxes", reels(footage, moved), "tracks") < 80
    renamed = reels(footage, lambda found: [one.model_copy(update={"label": "zebra"}) for one in found])
    assert measure("boxes", renamed, "tracks") == 0


def test_masks_are_measured_only_where_all_have_one(footage: Footages) -> None:
    without = reels(footage, lambda found: [one.model_copy(update={"mask": None}) for one in found])
    assert np.isnan(measure("masks", without, "masks"))


def test_numbers_that_change_in_the_middle_cost_identity(footage: Footages) -> None:
    count = iter(range(10_000))

    def confused(found: list[Detection]) -> list[Detection]:
        later = next(count) % footage[0].film.frames > footage[0].film.frames // 2
        return [one.model_copy(update={"track_id": (one.track_id or 0) + 500 * later}) for one in found]

    assert 40 < measure("identity", reels(footage, confused), "tracks") < 75


def test_nothing_published_is_no_figure(footage: Footages) -> None:
    empty = [Reel(each, (), {}) for each in footage]
    for how in ("boxes", "masks", "identity", "endpoint", "action"):
        assert np.isnan(measure(how, empty, "tracks"))


# --- the clock ---


def rate(footage: Footages, captured: Callable[[float], float]) -> float:
    """Take the rate of a film whose frames, of so many seconds of it, are captured then."""
    whole = reels(footage)[0]
    told = [one.model_copy(update={"captured_at": 1.79e9 + captured(one.pts)}) for one in whole.all]
    return _rate(replace(whole, all=tuple(told)))


@pytest.mark.parametrize(
    ("speed", "least", "most"), [(1.0, 0.999, 1.001), (0.5, 0.4, 0.6), (1.5, 1.4, 1.6), (0, -0.1, 0.1)]
)
def test_the_clocks_rate_is_found(footage: Footages, speed: float, least: float, most: float) -> None:
    assert least < rate(footage, lambda t: speed * t) < most


@pytest.mark.parametrize("begin", [0.0, 0.4, 0.8, 0.9])
def test_a_machine_that_is_busy_for_a_moment_is_no_fault_of_the_clock(footage: Footages, begin: float) -> None:
    """For nearly half of the film's length nothing is grabbed, and then all of it at once."""
    seconds = footage[0].film.seconds
    end = (begin + 0.45) * seconds
    late = rate(footage, lambda t: max(t, end + 0.001 * t) if begin * seconds <= t < end else t)
    assert 0.95 < late < 1.05


# --- flow ---


def field(each: Footage, times: float = 1.0, index: int | None = None) -> FlowField:
    film = each.film
    at = film.frames - 1 if index is None else index
    return FlowField(film.name, "flow", at, at / film.fps, 0.0, film.size, Flow(each.motion.uv * np.float32(times)))


def test_flow_is_measured_against_no_motion_at_all(footage: Footages) -> None:
    for times, share in ((1.0, 0), (0.0, 100), (0.5, 50)):
        found = reels(footage, fields=[field(each, times) for each in footage])
        assert measure("endpoint", found, "flow") == pytest.approx(share, abs=0.5)


def test_the_flow_of_another_frame_is_none_of_the_last(footage: Footages) -> None:
    assert np.isnan(measure("endpoint", reels(footage, fields=[field(each, index=3) for each in footage]), "flow"))
    assert np.isnan(measure("endpoint", reels(footage, fields=[field(footage[0])]), "flow"))


# --- actions ---


def told(reel: Reel, track: int, first: int, last: int, label: str) -> Reel:
    """Let a recogniser say what a track does."""
    action = Action(track_id=track, first_seq=first, last_seq=last, labels=(LabelScore(label=label, score=0.8),))
    result = ActionsResult(kind="actions", items=(action,))
    there = reel.all[last]
    spoken = there.model_copy(update={"results": {**there.results, "r3d": result}})
    return replace(reel, all=(*reel.all[:last], spoken, *reel.all[last + 1 :]))


def steady(each: Footage, first: int, last: int) -> tuple[int, int]:
    """Find an object that does one thing and is well seen, and what it does."""
    ids = each.moments[first].objects.track_id
    assert ids is not None
    for row, track in enumerate(ids.tolist()):
        done = {_action(each, index, track) for index in range(first, last + 1)}
        if len(done) == 1 and None not in done:
            return track, int(each.moments[first].action[row])
    raise AssertionError("the film has nobody who does one thing")


def _action(each: Footage, index: int, track: int) -> int | None:
    moment = each.moments[index]
    assert moment.objects.track_id is not None
    rows = np.flatnonzero((moment.objects.track_id == track) & (moment.visible >= 0.4)).tolist()
    return int(moment.action[rows[0]]) if rows else None


def test_a_clip_is_judged_by_what_its_object_does(footage: Footages) -> None:
    (reel, *_) = reels(footage)
    track, action = steady(footage[0], 5, 25)
    right, wrong = ACTIONS[action], ACTIONS[(action + 1) % len(ACTIONS)]
    assert measure("action", [told(reel, track, 5, 25, right)], "r3d") == 100
    assert measure("action", [told(reel, track, 5, 25, wrong)], "r3d") == 0


def test_a_clip_of_nobody_or_of_who_was_hidden_is_not_judged(footage: Footages) -> None:
    (reel, *_) = reels(footage)
    track, _ = steady(footage[0], 5, 25)
    assert list(spans(told(reel, track, 5, 25, "still"), "r3d"))
    assert not list(spans(told(reel, 999_999, 5, 25, "still"), "r3d"))
    assert not list(spans(told(hidden(reel, 15), track, 5, 25, "still"), "r3d"))


def hidden(reel: Reel, index: int) -> Reel:
    """Let nobody be seen well enough in one frame."""
    moments = list(reel.footage.moments)
    moments[index] = replace(moments[index], visible=np.full_like(moments[index].visible, 0.1))
    return replace(reel, footage=replace(reel.footage, moments=tuple(moments)))

"""Actions: scores over time, beginnings and ends, whatever is in a batch and however far the model works ahead."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from windowed import ACTIONS, CLIPS, RAW, Reads, plain, short, told, window, with_clips

from streamer.stages.progress import ActionOptions, News, Progress
from streamer.stages.recognise import Recognise
from streamer.types import ActionEnded


def stage(options: ActionOptions = RAW, model: Reads | None = None) -> Recognise:
    return Recognise(model or Reads(), CLIPS, ACTIONS, options)


def test_windows_of_all_cameras_share_a_batch_and_come_back_to_their_own() -> None:
    model = Reads()
    node = stage(model=model)
    out = node.process(
        [with_clips(0, window(0.1, 1), window(0.2, 2)), plain(1), with_clips(0, window(0.3, 1), camera="yard")]
    )
    node.close()
    assert model.batches == [3, -1]
    found = [one.get(ACTIONS) for one in out]
    assert found[1] is None
    scores = [[float(item.scores.probs[0]) for item in value.items] for value in found if value is not None]
    assert scores == [pytest.approx([0.1, 0.2]), pytest.approx([0.3])]


def test_without_windows_the_model_is_left_alone() -> None:
    model = Reads()
    assert stage(model=model).process([plain(0), with_clips(1)])[0].get(ACTIONS) is None
    assert model.batches == []


def test_an_action_starts_and_ends_once_however_it_wavers() -> None:
    shares = [0.5, 0.65, 0.55, 0.41, 0.61, 0.39, 0.59, 0.7]
    out = stage().process([with_clips(seq, window(share, 7)) for seq, share in enumerate(shares)])
    first = [one for one in short(out) if one[3] == 0]
    assert first == [(1, "Started", 7, 0), (5, "Ended", 7, 0), (7, "Started", 7, 0)]
    ended = next(event for event in told(out) if isinstance(event, ActionEnded) and event.class_id == 0)
    assert [ended.pts, ended.duration] == pytest.approx([0.5, 0.4])


@given(st.lists(st.floats(0, 1, width=32), max_size=40))
def test_starts_and_ends_take_turns(shares: list[float]) -> None:
    out = stage().process([with_clips(seq, window(share, 1)) for seq, share in enumerate(shares)])
    for class_id in (0, 1):
        verbs = [verb for _, verb, _, one in short(out) if one == class_id]
        assert verbs == [("Started", "Ended")[i % 2] for i in range(len(verbs))]


def test_who_is_gone_ends_what_he_did_and_begins_anew() -> None:
    out = stage(ActionOptions(smooth=5.0, start=0.6, stop=0.4)).process(
        [
            with_clips(0, window(0.9, 1), window(0.9, 2)),
            with_clips(3, window(0.9, 2), gone=(1,)),
            with_clips(9, window(0.1, 1)),
        ]
    )
    assert short(out) == [(0, "Started", 1, 0), (0, "Started", 2, 0), (3, "Ended", 1, 0), (9, "Started", 1, 1)]
    ended = told(out)[2]
    assert isinstance(ended, ActionEnded)
    assert (ended.pts, ended.duration) == (0.0, 0.0)  # he was last seen when it started


@pytest.mark.parametrize("ahead", [False, True])
def test_a_break_ends_everything_and_the_next_packet_tells(ahead: bool) -> None:
    """Also when packets before the break are still with the model."""
    node = stage()
    before = [with_clips(0, window(0.9)), with_clips(0, window(0.9), camera="yard")]
    after = [plain(1), plain(1, "yard"), with_clips(2, window(0.9))]
    if ahead:
        finish = node.begin(before)
        node.forget("gate")
        later = node.begin(after)
        out = [*finish(), *later()]
    else:
        out = [*node.process(before)]
        node.forget("gate")
        out += node.process(after)
    found = [(one.frame.camera, *event) for one in out for event in short([one])]
    assert found == [
        ("gate", 0, "Started", None, 0),
        ("yard", 0, "Started", None, 0),
        ("gate", 1, "Ended", None, 0),
        ("gate", 2, "Started", None, 0),
    ]


@given(st.lists(st.tuples(st.floats(0.01, 5), st.floats(0, 1, width=32)), min_size=1, max_size=20), st.floats(0.1, 9))
def test_smoothed_scores_stay_probabilities(steps: list[tuple[float, float]], smooth: float) -> None:
    progress, pts = Progress(ActionOptions(smooth=smooth)), 0.0
    seen: list[float] = []
    for passed, share in steps:
        pts += passed
        probs = progress.smoothed(1, np.array([share, 1 - share], np.float32), pts)
        seen.append(share)
        assert probs.sum() == pytest.approx(1, abs=1e-5)
        assert min(seen) - 1e-6 <= probs[0] <= max(seen) + 1e-6


def test_scores_fade_with_time_and_not_with_the_number_of_windows() -> None:
    """After *smooth* seconds of one answer, 1/e is left of the other, at any stride."""
    for windows in (1, 2, 10, 50):
        progress = Progress(ActionOptions(smooth=2.0))
        progress.smoothed(None, np.array([1, 0], np.float32), 0.0)
        for i in range(windows):
            probs = progress.smoothed(None, np.array([0, 1], np.float32), 2.0 * (i + 1) / windows)
        assert probs[0] == pytest.approx(1 / np.e, abs=1e-4)


def test_memory_stays_bounded_however_many_come_and_nobody_says_they_are_gone() -> None:
    node, progress = stage(), Progress(RAW)
    for seq in range(0, 40_000, 100):
        node.process([with_clips(seq, window(0.9, seq))])
        for track in progress.lost(seq / 10):
            list(progress.end(track))
        progress.smoothed(seq, np.array([1, 0], np.float32), seq / 10)
        assert progress.remembered <= 8
    last = node.process([with_clips(50_000, window(0.9, 1))])
    assert 0 < len(short(last)) <= 8


def test_what_cameras_that_went_for_good_would_have_told_is_bounded() -> None:
    news, found = News(RAW), window(0.9)
    for index in range(1200):
        news.scored(f"camera {index}", found, Reads()([found.clip])[0], 0.0)
        news.broken(f"camera {index}")
    told_of = [news.take(f"camera {index}") is not None for index in range(1200)]
    assert told_of == [False] * 176 + [True] * 1024

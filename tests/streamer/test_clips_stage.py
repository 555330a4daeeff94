"""Streaming equals offline: clips are what NumPy's slices of the whole video are, and no clip spans a break."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moving import field, inner, moved, packet, shift, texture, tracked, turn

from engines.crops import Box, Rect, around, cut_flow, cut_image, middle_and_size, whole
from engines.types import Detections, Float, Flow, Image
from streamer.stages import clips as clips_module
from streamer.stages.clips import ClipOptions, ClipPorts, Clips
from streamer.stages.rings import Ring, Ticks
from streamer.types import Packet, Port, Window, Windows

WINDOWS, TRACKS, FLOW = Port("clips", Windows), Port("tracks", Detections), Port("flow", Flow)
SIZE = (16, 24)
SCENE = ClipOptions(length=4, stride=2, fps=10, size=SIZE)
OBJECTS = replace(SCENE, margin=0.0, smooth=0.0)


def video(count: int, size: tuple[int, int] = SIZE) -> Image:
    """Frames (N, H, W, 3) that all differ, everywhere."""
    return np.random.default_rng(count).integers(0, 256, (count, *size, 3), np.uint8)


def frames(pixels: Image, camera: str = "gate", fps: float = 10, **values: Sequence[object]) -> list[Packet]:
    def one(seq: int, image: Image) -> Packet:
        here = {name: each[seq] for name, each in values.items() if each[seq] is not None}
        return packet(image, seq, camera, seq / fps, **here)

    return [one(seq, image) for seq, image in enumerate(pixels)]


def windows(packets: Sequence[Packet], camera: str = "gate") -> list[Window]:
    values = [one.get(WINDOWS) for one in packets if one.frame.camera == camera]
    return [window for value in values if value is not None for window in value.items]


def gone(packets: Sequence[Packet]) -> list[tuple[int, tuple[int | None, ...]]]:
    values = [(one.frame.seq, one.get(WINDOWS)) for one in packets]
    return [(seq, value.gone) for seq, value in values if value is not None and value.gone]


def seqs(found: Sequence[Window]) -> list[tuple[int, int]]:
    return [(one.first_seq, one.last_seq) for one in found]


def scene(**options: Any) -> Clips:
    return Clips(ClipPorts(), WINDOWS, replace(SCENE, **options))


def objects(**options: Any) -> Clips:
    return Clips(ClipPorts(around=TRACKS), WINDOWS, replace(OBJECTS, **options))


# --- the whole scene ---


@settings(deadline=None)
@given(
    length=st.integers(1, 9),
    stride=st.integers(1, 9),
    count=st.integers(0, 30),
    cut=st.integers(1, 7),
    every=st.integers(1, 3),
)
def test_clips_are_slices_of_the_video(length: int, stride: int, count: int, cut: int, every: int) -> None:
    """With *every*, samples are an Nth as dense as frames; batches are cut anywhere."""
    pixels, stage = video(count), scene(length=length, stride=stride, fps=10 / every)
    packets = frames(pixels)
    out = [done for start in range(0, count, cut) for done in stage.process(packets[start : start + cut])]
    sampled = pixels[::every]
    starts = range(0, len(sampled) - length + 1, stride)
    found = windows(out)
    assert [one.first_seq for one in found] == [every * start for start in starts]
    for one, start in zip(found, starts, strict=True):
        np.testing.assert_array_equal(one.clip.rgb, sampled[start : start + length])
        assert one.last_seq == every * (start + length - 1)
        assert one.track_id is None


def test_two_cameras_mixed_in_batches_are_as_if_each_were_alone() -> None:
    stage = scene()
    gate, yard = video(20), video(11)
    mixed = [one for pair in zip(frames(gate), frames(np.repeat(yard, 2, 0)[:20], "yard"), strict=True) for one in pair]
    out = [done for start in range(0, 40, 7) for done in stage.process(mixed[start : start + 7])]
    for camera, pixels in (("gate", gate), ("yard", np.repeat(yard, 2, 0)[:20])):
        found = windows(out, camera)
        assert seqs(found) == [(start, start + 3) for start in range(0, 17, 2)]
        assert all((one.clip.rgb == pixels[one.first_seq : one.last_seq + 1]).all() for one in found)


@pytest.mark.parametrize(("camera", "model"), [(30, 15), (25, 25), (24, 12), (29.97, 14.985), (25, 15), (60, 10)])
@pytest.mark.parametrize("decimals", [9, 3])
def test_whatever_the_rate_of_the_camera_samples_are_evenly_spread(camera: float, model: float, decimals: int) -> None:
    """Rounded pts, as containers have them, change nothing."""
    ticks = Ticks(1 / model)
    pts = [round(5.0 + i / camera, decimals) for i in range(400)]
    taken = [(at, tick) for at in pts if (tick := ticks.reached(at)) is not None]
    assert [tick for _, tick in taken] == list(range(len(taken)))
    late = np.array([at - 5.0 - tick / model for at, tick in taken])
    assert np.ptp(late) <= 1 / camera + 2e-3
    if camera % model == 0:
        assert np.ptp(late) < 2e-3


def test_a_slow_camera_fills_ticks_with_the_frame_that_comes() -> None:
    pixels = video(12)
    out = scene(length=6, stride=6, fps=20).process(frames(pixels))
    found = windows(out)
    np.testing.assert_array_equal(found[0].clip.rgb, pixels[[1, 1, 2, 2, 3, 3]])
    np.testing.assert_array_equal(found[1].clip.rgb, pixels[[4, 4, 5, 5, 6, 6]])


def test_a_dropped_frame_is_filled_and_a_long_gap_is_a_break(caplog: pytest.LogCaptureFixture) -> None:
    pixels = video(30)
    kept = [i for i in range(30) if i not in (5, 6, *range(14, 20))]
    packets = frames(pixels)
    out = scene(gap=3).process([packets[i] for i in kept])
    ends = {one.last_seq: one.clip.rgb for one in windows(out)}
    np.testing.assert_array_equal(ends[7], pixels[[4, 7, 7, 7]])
    assert [end for end in ends if end > 13] == [23, 25, 27, 29]
    np.testing.assert_array_equal(ends[23], pixels[20:24])
    assert gone(out) == [(20, (None,))]
    assert "no frame for 0.6 s" in caplog.text


def test_forgotten_scenes_are_never_mixed() -> None:
    stage, pixels = scene(), video(20)
    packets = frames(pixels)
    first = stage.process(packets[:7])
    stage.forget("gate")
    stage.forget("never seen")
    assert seqs(windows(first)) == [(0, 3), (2, 5)]
    assert seqs(windows(stage.process(packets[7:15]))) == [(7, 10), (9, 12), (11, 14)]


@pytest.mark.parametrize("second", [{"pts": 0.1}, {"image": np.zeros((17, 24, 3), np.uint8)}])
def test_time_that_runs_back_and_another_size_are_breaks(second: dict[str, Any]) -> None:
    stage, packets = scene(), frames(video(3))
    image = second.get("image", packets[0].frame.image)
    after = [packet(image, 3 + i, pts=second.get("pts", 0.3) + i / 10) for i in range(4)]
    out = stage.process([*packets, *after])
    assert seqs(windows(out)) == [(3, 6)]
    assert gone(out) == [(3, (None,))]


@pytest.mark.parametrize(
    ("image", "clip", "fit", "rect"),
    [
        ((90, 160), (112, 112), "crop", Rect(35, 0, 90, 90)),
        ((160, 90), (112, 112), "crop", Rect(0, 35, 90, 90)),
        ((90, 160), (112, 112), "stretch", Rect(0, 0, 160, 90)),
        ((100, 100), (10, 40), "crop", Rect(0, 37, 100, 25)),
        ((16, 24), (16, 24), "crop", Rect(0, 0, 24, 16)),
    ],
)
def test_what_of_a_scene_is_shown(image: tuple[int, int], clip: tuple[int, int], fit: Any, rect: Rect) -> None:
    assert whole(image, clip, fit) == rect


# --- around tracked objects ---


def walkers(count: int) -> list[Detections]:
    """Two objects of the clip's size; one walks right, the other, which comes later and goes earlier, down."""
    boxes = [((3 * i, 10, 3 * i + 24, 26), (70, 2 * i, 94, 2 * i + 16)) for i in range(count)]
    return [tracked(both, [1, 2]) if 5 <= i < 15 else tracked(both[:1], [1]) for i, both in enumerate(boxes)]


def test_clips_around_objects_are_slices_too() -> None:
    pixels, found = video(24, (64, 120)), walkers(24)
    out = objects().process(frames(pixels, tracks=found))
    one = [window for window in windows(out) if window.track_id == 1]
    two = [window for window in windows(out) if window.track_id == 2]
    assert seqs(one) == [(start, start + 3) for start in range(0, 21, 2)]
    assert seqs(two) == [(start, start + 3) for start in range(5, 12, 2)]
    for window in one:
        expected = [pixels[i, 10:26, 3 * i : 3 * i + 24] for i in range(window.first_seq, window.last_seq + 1)]
        np.testing.assert_array_equal(window.clip.rgb, expected)
    for window in two:
        expected = [pixels[i, 2 * i : 2 * i + 16, 70:94] for i in range(window.first_seq, window.last_seq + 1)]
        np.testing.assert_array_equal(window.clip.rgb, expected)
    assert gone(out) == [(20, (2,))]


@settings(deadline=None)
@given(
    length=st.integers(1, 6),
    stride=st.integers(1, 9),
    count=st.integers(1, 12),
    first_id=st.integers(1, 50),
    cut=st.integers(1, 7),
)
def test_objects_that_appear_together_take_turns_after_their_first_windows(
    length: int, stride: int, count: int, first_id: int, cut: int
) -> None:
    """Whatever the numbers and however frames are cut into batches; what a window holds is a slice of the video."""
    total = length + 5 * stride
    pixels, ids = video(total, (20, 30)), list(range(first_id, first_id + count))
    packets = frames(pixels, tracks=[tracked([(2, 2, 26, 18)] * count, ids)] * total)
    stage = objects(length=length, stride=stride)
    out = [done for start in range(0, total, cut) for done in stage.process(packets[start : start + cut])]
    found = windows(out)
    for window in found:
        np.testing.assert_array_equal(window.clip.rgb, pixels[window.first_seq : window.last_seq + 1, 2:18, 2:26])
    for track in ids:
        ends = [window.last_seq for window in found if window.track_id == track]
        steps = np.diff(ends).tolist()
        assert ends[0] == length - 1  # no later than ever
        assert stride / 2 <= steps[0] <= 1.5 * stride
        assert set(steps[1:]) == {stride}
    settled = Counter(window.last_seq for window in found if window.last_seq > length + 1.5 * stride)
    assert max(settled.values()) == -(-count // stride)


def test_a_moment_out_of_sight_is_filled_and_a_longer_one_is_not() -> None:
    pixels = video(30, (64, 120))
    box = tracked([(10, 10, 34, 26)], [7])
    nobody = Detections.empty()
    seen = [nobody if i in (6, 7) or 15 <= i < 22 else box for i in range(30)]
    out = objects(gap=4).process(frames(pixels, tracks=seen))
    ends = {one.last_seq: one.clip.rgb for one in windows(out)}
    np.testing.assert_array_equal(ends[8], pixels[[5, 8, 8, 8], 10:26, 10:34])
    assert [end for end in ends if end > 14] == [25, 27, 29]
    assert gone(out) == [(20, (7,))]


def test_frames_that_nobody_looked_at_are_not_sampled() -> None:
    """With `every: 2` of a detector in front, each second frame has no tracks."""
    pixels = video(20, (64, 120))
    box = tracked([(10, 10, 34, 26)], [7])
    out = objects(fps=5).process(frames(pixels, tracks=[box if i % 2 == 0 else None for i in range(20)]))
    found = windows(out)
    assert seqs(found) == [(start, start + 6) for start in range(0, 13, 4)]
    np.testing.assert_array_equal(found[1].clip.rgb, pixels[4:11:2, 10:26, 10:34])


def test_objects_without_numbers_have_no_clips() -> None:
    box = replace(tracked([(10, 10, 34, 26)], [7]), track_id=None)
    assert windows(objects().process(frames(video(8, (64, 120)), tracks=[box] * 8))) == []


boxes = st.tuples(*[st.floats(-50, 250, width=32)] * 2, *[st.floats(0, 300, width=32)] * 2)


@given(
    boxes, st.floats(0, 2), st.tuples(st.integers(1, 200), st.integers(1, 200)), st.sampled_from([(16, 24), (32, 32)])
)
def test_a_crop_has_the_shape_of_the_clip_and_lies_in_the_image_where_it_fits(
    box: tuple[float, ...], margin: float, image: tuple[int, int], clip: tuple[int, int]
) -> None:
    x, y, width, height = box
    place = middle_and_size(np.array([x, y, x + width, y + height], np.float32), image)
    rect = around(place, margin, image, clip)
    assert abs(rect.width - rect.height * clip[1] / clip[0]) <= 1.6
    assert rect.width + 1 >= place[2]
    assert rect.height + 1 >= place[3]
    for start, length, limit in ((rect.left, rect.width, image[1]), (rect.top, rect.height, image[0])):
        assert (0 <= start <= limit - length) if length <= limit else (start <= 0 and start + length >= limit)
    assert cut_image(np.zeros((*image, 3), np.uint8), rect, clip).shape == (*clip, 3)


def test_what_lies_beyond_the_image_repeats_its_border() -> None:
    image = video(1, (10, 10))[0]
    cut = cut_image(image, Rect(-5, 0, 20, 10), (10, 20))
    np.testing.assert_array_equal(cut[:, 5:15], image)
    np.testing.assert_array_equal(cut[:, :5], np.repeat(image[:, :1], 5, 1))


def test_a_crop_is_an_average_and_not_a_choice_of_pixels() -> None:
    image = video(1, (32, 48))[0]
    expected = image.reshape(16, 2, 24, 2, 3).mean((1, 3))
    assert np.abs(cut_image(image, Rect(0, 0, 48, 32), SIZE) - expected).max() <= 0.51


def test_smoothed_boxes_do_not_jitter_and_do_not_stay_behind() -> None:
    rng = np.random.default_rng(0)
    steady = np.array([(100 + 4 * i, 50, 140 + 4 * i, 130) for i in range(60)])
    noisy = (steady + rng.normal(0, 4, steady.shape)).astype(np.float32)

    def followed(smooth: float) -> Box:
        ring, places = Ring(4, 2), []
        for i, xyxy in enumerate(noisy):
            places.append(ring.follow(middle_and_size(xyxy, (240, 640)), i / 15, smooth))
            ring.pts = i / 15
        return np.stack(places)

    assert np.diff(followed(0.5)[:, 2:], axis=0).std() < np.diff(followed(0.0)[:, 2:], axis=0).std() / 4
    behind = 120 + 4 * np.arange(60) - followed(0.5)[:, 0]
    assert 0 < behind[20:].mean() < 0.25 * 40  # of a width


# --- flow ---


def flows(count: int, seconds: float | None = 0.1) -> list[Flow | None]:
    rng = np.random.default_rng(9)
    return [None, *(Flow(rng.normal(0, 3, (*SIZE, 2)).astype(np.float32), seconds) for _ in range(count - 1))]


def test_a_clip_has_the_flow_into_each_of_its_samples() -> None:
    pixels, moving = video(12), flows(12)
    stage = Clips(ClipPorts(flow=FLOW), WINDOWS, SCENE)
    found = windows(stage.process(frames(pixels, flow=moving)))
    assert seqs(found) == [(start, start + 3) for start in range(1, 9, 2)]  # the first frame has none
    for one in found:
        wanted = np.stack([flow.uv for flow in moving[one.first_seq : one.last_seq + 1] if flow is not None])
        assert one.clip.flow is not None
        np.testing.assert_allclose(one.clip.flow, wanted, atol=1e-5)


@pytest.mark.parametrize("fault", ["late", "early", "swapped", "negated"])
def test_a_flow_that_is_shifted_by_a_frame_or_swapped_is_noticed(fault: str) -> None:
    """What the test above compares does tell these apart."""
    right = np.stack([flow.uv for flow in flows(12)[2:10] if flow is not None])
    wrong = {
        "late": np.roll(right, 1, 0),
        "early": np.roll(right, -1, 0),
        "swapped": right[..., ::-1],
        "negated": -right,
    }[fault]
    assert np.abs(right - wrong).mean(axis=(1, 2, 3)).min() > 1


@pytest.mark.parametrize(("seconds", "times"), [(0.1, 1), (0.3, 1 / 3), (0.05, 2), (None, 1)])
def test_flow_is_that_of_one_sampling_step(seconds: float | None, times: float) -> None:
    flow = Flow(np.full((*SIZE, 2), [6, -3], np.float32), seconds)
    stage = Clips(ClipPorts(flow=FLOW), WINDOWS, SCENE)
    (one, *_) = windows(stage.process(frames(video(6), flow=[flow] * 6)))
    assert one.clip.flow is not None
    np.testing.assert_allclose(one.clip.flow[0, 0, 0], [6 * times, -3 * times], rtol=1e-5)


@pytest.mark.parametrize("motion", ["shift", "turn", "zoom"])
def test_flow_in_a_crop_is_the_motion_of_the_crops_pixels(motion: str) -> None:
    source, grid, rect, size = (240, 400), (60, 100), Rect(120, 40, 150, 100), (32, 48)
    known = {"shift": shift(5, -2), "turn": turn(3, 1, source), "zoom": turn(0, 1.05, source)}[motion]
    y, x = np.mgrid[: grid[0], : grid[1]]
    points = np.stack([(x + 0.5) * 4 - 0.5, (y + 0.5) * 4 - 0.5], axis=-1).astype(np.float64)
    got = cut_flow(Flow(field(known, points).astype(np.float32)), rect, source, size)
    scale = np.array([48 / 150, 32 / 100])
    y, x = np.mgrid[: size[0], : size[1]]
    inside = (np.stack([x, y], axis=-1) + 0.5) / scale - 0.5 + [120, 40]
    np.testing.assert_allclose(got, field(known, inside) * scale, atol=0.05)


def test_the_flow_of_a_crop_moves_its_pixels_where_the_next_crop_has_them() -> None:
    """Independent of all formulas: what a crop shows, carried along its flow, is what the next crop shows."""
    source, rect, size = (240, 400), Rect(100, 40, 168, 112), (56, 84)
    image, known = texture(source), turn(2, 1.03, source)
    before, after = (cut_image(one, rect, size).astype(np.float32) for one in (image, moved(image, known)))
    y, x = np.mgrid[: source[0], : source[1]]
    uv = cut_flow(Flow(field(known, np.stack([x, y], -1).astype(np.float64)).astype(np.float32)), rect, source, size)
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    carried = cv2.remap(after, columns + uv[..., 0], rows + uv[..., 1], cv2.INTER_LINEAR)

    def unlike(one: Any, other: Float) -> float:
        return float(np.abs(inner(one) - inner(other)).mean())

    assert unlike(carried, before) < 0.2 * unlike(after, before)
    swapped = cv2.remap(after, columns + uv[..., 1], rows + uv[..., 0], cv2.INTER_LINEAR)
    assert unlike(swapped, before) > unlike(carried, before) * 3


# --- work and memory ---


def test_windows_that_overlap_share_their_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    cuts: list[str] = []

    def counted(what: str, function: Any) -> Any:
        def cut(*args: Any) -> Any:
            cuts.append(what)
            return function(*args)

        return cut

    monkeypatch.setattr(clips_module, "cut_image", counted("image", cut_image))
    monkeypatch.setattr(clips_module, "cut_flow", counted("flow", cut_flow))
    stage = Clips(ClipPorts(flow=FLOW), WINDOWS, replace(SCENE, length=8, stride=1))
    found = windows(stage.process(frames(video(20), flow=flows(20))))
    assert len(found) == 12
    assert sorted(cuts) == ["flow"] * 19 + ["image"] * 19


def test_at_most_so_many_objects_and_those_that_were_there_go_first() -> None:
    pixels = video(12, (64, 200))
    small, large, larger = (5, 5, 29, 21), (40, 0, 88, 32), (100, 0, 160, 40)
    seen = [tracked([small, large], [1, 2]) if i < 3 else tracked([larger, small, large], [3, 1, 2]) for i in range(12)]
    out = objects(tracks=2).process(frames(pixels, tracks=seen))
    assert {one.track_id for one in windows(out)} == {1, 2}
    out = objects(tracks=2).process(frames(pixels, tracks=seen[3:4] * 12))
    assert {one.track_id for one in windows(out)} == {2, 3}


def test_memory_is_what_is_promised_however_many_ids_come() -> None:
    """cameras x tracks x length x height x width x 11 bytes with flow, and little else."""
    size, length, tracks, cameras = (32, 32), 8, 4, 2
    options = ClipOptions(length, 4, 10, size, gap=2, tracks=tracks)
    stage = Clips(ClipPorts(around=TRACKS, flow=FLOW), WINDOWS, options)
    image, flow = texture((64, 96)), Flow(np.zeros((16, 24, 2), np.float32), 0.1)
    promised = cameras * tracks * length * 32 * 32 * 11
    tracemalloc.start()
    try:
        peak = 0
        for seq in range(300):
            ids = range(seq // 3 * 10, seq // 3 * 10 + 10)  # ten new ones every three frames
            found = tracked([(4, 4, 30 + i, 40) for i in range(10)], list(ids))
            stage.process([packet(image, seq, camera, tracks=found, flow=flow) for camera in ("gate", "yard")])
            peak = max(peak, tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert peak < promised + 100_000

"""Clips to learn actions from: what is cut, of whom, and that it is the same each time."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from engines.geometry import Size
from engines.manifest import ClipInput
from engines.train.data.clips import ClipSpec, batched
from engines.train.data.folders import FolderClips, find_videos, sampled
from engines.train.data.worldclips import Handling, Shown, WorldClips, held_clips, held_out
from engines.train.data.worldpairs import HELD_OUT
from engines.train.errors import TrainingError
from engines.types import Detections, Image
from engines.world import ACTIONS, CLEAR, World
from streamer.stages.clips import ClipOptions, ClipPorts, Clips
from streamer.types import Frame, Packet, Port, Windows

SIZE: Size = (32, 40)
RGB = ClipSpec(ClipInput(length=6, fps=10), SIZE)
FLOW = ClipSpec(ClipInput(length=4, fps=10, input="flow"), SIZE)


# --- the same as in a stream ---


def test_clips_are_cut_as_a_clips_node_cuts_them() -> None:
    world = World(7, (320, 180), conditions=CLEAR)
    shown = Shown(world, 5, 10, 12.0)
    (track, _), *_ = shown.subjects()
    options = ClipOptions(length=5, stride=5, fps=10, size=SIZE, tracks=99)
    around, writes = Port("tracks", Detections), Port("clips", Windows)
    node = Clips(ClipPorts(around), writes, options)
    for seq, scene in enumerate(shown.scenes):
        frame = Frame("a", seq, seq / 10, 0.0, 0, scene.image)
        found = Detections(scene.xyxy, scene.class_id, scene.visible, scene.track_id)
        (done,) = node.process([Packet(frame, {}).put(around, found)])
    (window,) = [each for each in (done.get(writes) or Windows()).items if each.track_id == track]
    cut = shown.cut(np.random.default_rng(0), shown.images(), track, SIZE, Handling())
    assert np.array_equal(window.clip.rgb, cut)


# --- of the world ---


@pytest.mark.parametrize("spec", [RGB, FLOW], ids=["rgb", "flow"])
def test_a_step_gives_the_same_clips_whatever_was_asked_before(spec: ClipSpec) -> None:
    source = WorldClips(0, spec)
    first = source.batch(3, 4)
    source.batch(40, 2)
    again, other = WorldClips(0, spec).batch(3, 4), source.batch(4, 4)
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(first, again, strict=True))
    assert [each.label for each in first] == [each.label for each in again]
    assert not np.array_equal(first[0].samples, other[0].samples)
    batch = batched(first)
    assert batch.samples.shape == (4, spec.told.length, *SIZE, 3 if spec is RGB else 2)
    assert batch.labels.tolist() == [each.label for each in first]


def test_every_clip_is_of_one_action_and_of_somebody_in_sight() -> None:
    shown = Shown(World(7, (320, 180)), 8, 10, 12.0)
    for track, action in shown.subjects():
        rows = [np.flatnonzero(scene.track_id == track).item() for scene in shown.scenes]
        assert {scene.action[row] for scene, row in zip(shown.scenes, rows, strict=True)} == {action}
        assert min(scene.visible[row] for scene, row in zip(shown.scenes, rows, strict=True)) > 0
    assert shown.subjects()


def test_motion_that_is_searched_for_is_nearly_that_which_is_there() -> None:
    shown = Shown(World(7, (640, 360), conditions=CLEAR), 2, 10, 12.0)
    true, found = shown.motion(25)[1], shown.searched(25)[1]
    fine = np.repeat(np.repeat(found, 2, 0), 2, 1)
    error = np.linalg.norm(true - fine, axis=2).mean()
    assert error < 0.6 * np.linalg.norm(true, axis=2).mean()


def test_motion_is_told_in_pixels_of_the_clip_and_for_a_tick_whatever_the_camera() -> None:
    shown = Shown(World(7, (640, 360)), 2, 10, 12.0)
    slow, fast = shown.motion(10)[1], shown.motion(30)[1]
    assert np.abs(slow - fast).mean() < 0.25 * np.abs(slow).mean() + 0.1
    (track, _), *_ = shown.subjects()
    rng, how = np.random.default_rng(0), Handling(0, (0.1, 0.1), (0, 0))
    small = shown.cut(rng, [slow, slow], track, (16, 16), how)
    large = shown.cut(rng, [slow, slow], track, (64, 64), how)
    assert np.allclose(large.mean((1, 2)), 4 * small.mean((1, 2)), rtol=0.1, atol=0.3)


def test_figures_are_taken_of_worlds_that_nothing_learns_from() -> None:
    examples = list(held_out(RGB, 2))
    assert len(examples) > 5
    assert {each.label for each in examples} <= set(range(len(ACTIONS)))
    source = WorldClips(0, RGB)
    assert max(source._make(number, 0).seed for number in range(6)) < HELD_OUT
    clips = list(held_clips(RGB.told.length, RGB.told.fps, SIZE, 2))
    assert [label for _, label in clips] == [each.label for each in examples]
    assert np.array_equal(clips[0][0].rgb, examples[0].samples)
    assert clips[0][0].flow is not None


# --- of a user's folder ---


def write_video(path: Path, frames: list[Image], rate: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, rate)
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def sliding(step: int, count: int = 30) -> list[Image]:
    """Paint a textured wall that slides to the right."""
    coarse = np.random.default_rng(0).integers(0, 255, (12, 40, 3), np.uint8)
    wall = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    return [np.ascontiguousarray(wall[:, 160 - step * i : 288 - step * i]) for i in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    for label, step in (("Slides Right", 2), ("stands_still", 0)):
        for number in range(3):
            write_video(root / label / f"{number}.mp4", sliding(step), 20)
    return root


LABELS = ("stands still", "slides right")


def test_videos_are_found_by_the_names_of_their_folders(folder: Path) -> None:
    assert [video.label for video in find_videos(folder, LABELS)] == [1, 1, 1, 0, 0, 0]
    with pytest.raises(TrainingError, match="no label for"):
        find_videos(folder, ("stands still",))
    with pytest.raises(TrainingError, match="holds no videos"):
        find_videos(folder / "stands_still", LABELS)


def test_frames_are_sampled_at_steady_steps(folder: Path) -> None:
    frames = sampled(folder / "Slides Right" / "0.mp4", 10, 5, None)
    assert len(frames) == 5
    moved = [np.abs(a.astype(int)[:, :-4] - b[:, 4:]).mean() for a, b in pairwise(frames)]
    assert max(moved) < 12  # two frames of 2 pixels each, and what the codec makes of edges
    assert len(sampled(folder / "Slides Right" / "0.mp4", 10, 40, np.random.default_rng(0))) == 40  # it begins again


def test_motion_is_what_the_videos_show(folder: Path) -> None:
    source = FolderClips(folder, LABELS, ClipSpec(ClipInput(length=3, fps=10, input="flow"), (32, 32)), 0)
    for example in source.batch(0, 4):
        u = float(np.median(example.samples[..., 0]))
        # 4 pixels from sample to sample of a part that is 62 to 96 pixels high and becomes 32.
        assert (1.0 < u < 2.5) if example.label else abs(u) < 0.2
    held = source.measured()
    assert sorted(each.label for each in held) == [0, 1]


def test_a_step_gives_the_same_clips_of_a_folder(folder: Path) -> None:
    one, other = (FolderClips(folder, LABELS, RGB, 0).batch(5, 3) for _ in range(2))
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(one, other, strict=True))
    assert one[0].samples.shape == (6, *SIZE, 3)


def test_a_damaged_video_is_named(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a" / "x.mp4"
    path.parent.mkdir()
    path.write_bytes(b"no video")
    with pytest.raises(TrainingError, match=r"x\.mp4 cannot be read"):
        sampled(path, 10, 2, None)
    with pytest.raises(TrainingError, match="no label with two videos"):
        FolderClips(tmp_path, ("a",), RGB, 0)

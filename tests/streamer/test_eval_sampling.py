"""Clips of a video for `streamer eval`: those that the streamer itself would make, evenly spread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import scenes
import videos

from engines.classical import open_classical
from engines.motion import FlowModel
from engines.recognition import ClipSpec
from engines.types import Clip
from engines.types import Flow as Field
from streamer.cli.eval.sampling import Sampler
from streamer.errors import SourceError, SourceUnusable
from streamer.sources import open_source
from streamer.stages.base import Stage
from streamer.stages.clips import ClipOptions, ClipPorts, Clips
from streamer.stages.flow import Flow
from streamer.types import Frame, Packet, Port, Windows

SIZE = (48, 64)


def spec(length: int = 4, fps: float = 10, *, flow: bool = False) -> ClipSpec:
    return ClipSpec(length, fps, SIZE, frozenset({"flow"} if flow else {"rgb"}))


@pytest.fixture(scope="module")
def dis() -> Iterator[FlowModel]:
    model = open_classical("dis", 3)
    yield model
    model.close()


def numbers(clip: Clip) -> list[int]:
    """Read back which pictures of the pattern a clip shows."""
    return [videos.index_of(image) for image in clip.rgb]


def streamed(path: Path, wanted: ClipSpec, flow: FlowModel | None) -> list[Clip]:
    """Make all clips of a video with the stages of a pipeline, frame by frame."""
    fields, windows = Port("flow", Field), Port("clips", Windows)
    stages: list[Stage] = [] if flow is None else [Flow(flow, fields)]
    options = ClipOptions(wanted.length, 1, wanted.fps, wanted.size)
    last = Clips(ClipPorts(flow=fields if flow else None), windows, options)
    clips: list[Clip] = []
    with open_source("v", str(path)).open() as frames:
        for seq, raw in enumerate(frames):
            packet = Packet(Frame("v", seq, raw.pts, 0.0, 0, raw.to_rgb()))
            for stage in [*stages, last]:
                (packet,) = stage.process([packet])
            clips += [window.clip for window in (packet.get(windows) or Windows()).items]
    return clips


@pytest.mark.parametrize(("rate", "fps"), [(10, 10), (30, 10), (25, 15), (10, 25), (10, 4)])
@pytest.mark.parametrize("with_flow", [False, True])
def test_clips_are_those_of_the_pipeline(
    tmp_path: Path, dis: FlowModel, rate: int, fps: float, with_flow: bool
) -> None:
    path = videos.write(tmp_path / "v.mp4", videos.Clip(frames=24, fps=rate))
    wanted, flow = spec(4, fps, flow=with_flow), dis if with_flow else None
    expected = streamed(path, wanted, flow)
    sampled = Sampler(wanted, views=100, flow=flow)(path)
    assert len(sampled.clips) == len(expected) > 0
    for clip, other in zip(sampled.clips, expected, strict=True):
        assert np.array_equal(clip.rgb, other.rgb)
        assert (clip.flow is None) == (not with_flow)
        if clip.flow is not None and other.flow is not None:
            assert np.array_equal(clip.flow, other.flow)
    assert sampled.whole


def test_views_are_spread_evenly_from_the_first_to_the_last(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "v.mp4", videos.Clip(frames=20))
    assert [numbers(clip) for clip in Sampler(spec(), 3)(path).clips] == [
        [0, 1, 2, 3], [8, 9, 10, 11], [16, 17, 18, 19]
    ]  # fmt: skip
    assert len(Sampler(spec(), 100)(path).clips) == 17
    assert len(Sampler(spec(), 1)(path).clips) == 1


def test_samples_keep_the_models_pace(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "v.mp4", videos.Clip(frames=20, fps=20))
    assert [numbers(clip) for clip in Sampler(spec(fps=5), 1)(path).clips] == [[0, 4, 8, 12]]


def test_a_video_that_is_too_short_begins_again(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "v.mp4", videos.Clip(frames=3))
    sampled = Sampler(spec(8), 5)(path)
    assert [numbers(clip) for clip in sampled.clips] == [[0, 1, 2, 0, 1, 2, 0, 1]]
    assert not sampled.whole


def test_too_few_pictures_a_second_make_no_clip_as_in_the_pipeline(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "v.mp4", videos.Clip(frames=10, fps=2))
    assert streamed(path, spec(4, 25), None) == []
    sampled = Sampler(spec(4, 25), 5)(path)
    assert (len(sampled.clips), sampled.whole) == (1, False)


def test_flow_is_in_pixels_of_the_clip_a_step(tmp_path: Path, dis: FlowModel) -> None:
    """A scene of 96 x 128 that moves 2 pixels a picture, at 10 a second, in clips of half the size and 5 a second."""
    scene = scenes.pattern((96, 160))
    (tmp_path / "frames").mkdir()
    for n in range(12):
        cv2.imwrite(str(tmp_path / f"frames/{n}.png"), scene[:, 30 - 2 * n :][:, :128, ::-1])
    (clip,) = Sampler(spec(4, 5, flow=True), 1, dis)(tmp_path / "frames").clips
    assert clip.flow is not None
    assert np.median(clip.flow[..., 0]) == pytest.approx(2 / 2 * 2, abs=0.1)
    assert np.median(clip.flow[..., 1]) == pytest.approx(0, abs=0.05)


def test_a_folder_of_pictures_is_a_video(tmp_path: Path) -> None:
    for n in range(12):
        cv2.imwrite(str(tmp_path / f"{n}.png"), videos.pattern(n)[..., ::-1])
    assert numbers(Sampler(spec(), 1)(tmp_path).clips[0]) == [0, 1, 2, 3]


def test_a_single_picture_has_no_motion(tmp_path: Path, dis: FlowModel) -> None:
    path = videos.write(tmp_path / "v.mp4", videos.Clip(frames=1))
    assert not Sampler(spec(), 1)(path).whole
    with pytest.raises(SourceUnusable, match="a single picture, which shows no motion"):
        Sampler(spec(flow=True), 1, dis)(path)


def test_what_is_cut_short_is_told(tmp_path: Path) -> None:
    (tmp_path / "cut.mp4").write_bytes(b"no video")
    with pytest.raises(SourceError, match=r"cut\.mp4"):
        Sampler(spec(), 1)(tmp_path / "cut.mp4")
    path = videos.write(tmp_path / "v.mp4", videos.Clip(frames=60, muxer={"movflags": "faststart"}))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    sampled = Sampler(spec(), 1)(path)
    assert len(sampled.lost) == 1
    assert "cut short or damaged" in sampled.lost[0]


@pytest.mark.parametrize("name", ["a?b.mp4", "what [is] it.mp4", "10%.mp4", "rtsp:.mp4", "v?fps=3.mp4"])
def test_names_are_no_urls(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    videos.write(tmp_path / "v.mp4").rename(path)
    assert len(Sampler(spec(), 2)(path).clips) == 2

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from videos import Clip, index_of, write

from streamer.cli.models.frames import read_frames
from streamer.errors import InputError, SourceError


@pytest.fixture
def clip(tmp_path: Path) -> str:
    return str(write(tmp_path / "a.mp4", Clip(frames=24)))


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [0]), (2, [0, 23]), (4, [0, 8, 16, 23]), (24, list(range(24))), (99, list(range(24)))]
)
def test_frames_are_spread_over_the_whole_video(clip: str, count: int, expected: list[int]) -> None:
    found = [index_of(image) for image in read_frames([clip], count)]
    assert len(found) == len(expected)
    assert np.abs(np.array(found) - expected).max() <= (24 // count if count < 24 else 0)


def test_several_videos_share_the_count(clip: str, tmp_path: Path) -> None:
    short = str(write(tmp_path / "b.mp4", Clip(frames=3, size=(64, 48))))
    shapes = [image.shape[:2] for image in read_frames([short, clip], 10)]
    assert shapes == [(48, 64)] * 3 + [(96, 128)] * 7


def test_a_camera_gives_a_frame_a_second() -> None:
    images = read_frames(["synthetic://?fps=50&size=64x48"], 2)
    assert len(images) == 2
    assert not np.array_equal(images[0], images[1])


def test_a_video_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.mp4"):
        read_frames([str(tmp_path / "none.mp4")], 4)


def test_a_source_without_frames() -> None:
    with pytest.raises(InputError, match="there is no frame in synthetic"):
        read_frames(["synthetic://?frames=0"], 4)

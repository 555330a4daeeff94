"""A folder of pictures, played as people would sort it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from videos import index_of, pattern, same_colours

from engines.types import Image
from streamer.errors import SourceError
from streamer.sources import open_source
from streamer.sources.images import natural, read
from streamer.types import RawFrame


def save(path: Path, index: int = 0) -> Path:
    assert cv2.imwrite(str(path), pattern(index)[..., ::-1])
    return path


def frames_of(url: str) -> list[RawFrame]:
    with open_source("gate", url).open() as frames:
        return list(frames)


def test_numbers_sort_by_value(tmp_path: Path) -> None:
    for index in (10, 2, 1, 20, 3):
        save(tmp_path / f"img{index}.png", index)
    assert [index_of(frame.to_rgb()) for frame in frames_of(str(tmp_path))] == [1, 2, 3, 10, 20]


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_natural_order_is_numeric_order(numbers: list[int]) -> None:
    names = sorted((Path(f"frame_{number}.png") for number in numbers), key=natural)
    assert names == [Path(f"frame_{number}.png") for number in sorted(numbers)]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1)))
def test_any_names_can_be_sorted(names: list[str]) -> None:
    sorted(map(Path, names), key=natural)


def test_time_follows_the_frame_rate(tmp_path: Path) -> None:
    for index in range(3):
        save(tmp_path / f"{index}.jpg")
    assert [frame.pts for frame in frames_of(str(tmp_path))] == pytest.approx([0, 0.1, 0.2])
    assert [frame.pts for frame in frames_of(f"{tmp_path}?fps=4")] == pytest.approx([0, 0.25, 0.5])
    assert [frame.pts for frame in frames_of(f"{tmp_path.as_uri()}?fps=2")] == pytest.approx([0, 0.5, 1])


def test_patterns_single_pictures_and_odd_names(tmp_path: Path) -> None:
    save(tmp_path / "a1.png", 1)
    save(tmp_path / "b2.PNG", 2)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "deep").mkdir()
    save(tmp_path / "deep" / "c[3].png", 3)

    def shown(pattern: str) -> list[int]:
        return [index_of(frame.to_rgb()) for frame in frames_of(str(tmp_path / pattern))]

    assert shown("") == [1, 2]
    assert shown("a*") == [1]
    assert shown("a?.png") == [1]
    assert shown("b2.PNG") == [2]
    assert shown("**/*.png") == [1, 3]
    assert shown("deep/c[3].png") == [3]


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    frame = frames_of(str(save(tmp_path / "a.png").parent))[0]
    save(tmp_path / "a.png", 9)
    assert index_of(frame.to_rgb()) == 9


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.webp", "a.tiff", "naïve ☃.png"])
def test_formats(name: str, tmp_path: Path) -> None:
    image = read(save(tmp_path / name))
    assert image.shape == (96, 128, 3)
    assert same_colours(image)
    assert not image.flags.writeable


@pytest.mark.parametrize(
    "picture", [np.full((8, 6), 77, np.uint8), np.full((8, 6, 4), 77, np.uint8), np.full((8, 6), 77 * 257, np.uint16)]
)
def test_grey_transparent_and_deep_pictures_become_rgb(picture: Image, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    assert (read(tmp_path / "a.png") == np.full((8, 6, 3), 77, np.uint8)).all()


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg")
    plain = path.read_bytes()
    tag = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"  # orientation: turn a quarter clockwise
    body = b"Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x01" + tag + b"\x00\x00\x00\x00"
    path.write_bytes(plain[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + plain[2:])
    image = read(path)
    assert image.shape == (128, 96, 3)
    assert same_colours(image, rotated=3)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_a_damaged_picture_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.png is damaged or not an image"):
        read(tmp_path / "a.png")


def test_a_picture_that_went_away_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"a\.png cannot be read: No such file"):
        read(tmp_path / "a.png")

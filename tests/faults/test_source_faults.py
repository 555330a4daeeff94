"""What may go wrong with cameras and recordings: each in one sentence, in time, and nothing lost in silence."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import cv2
import httpfiles
import pytest
import rtsp
from videos import Clip, index_of, pattern, same_colours, silence, write

from streamer.errors import SourceError, SourceUnusable
from streamer.events import Event, FrameLost, ignore
from streamer.sources import SourceOptions, open_source
from streamer.types import RawFrame

CLIP = Clip(frames=100, size=(320, 240))
QUICK = SourceOptions(open_timeout=1, read_timeout=1)


def read(url: str | Path, options: SourceOptions = QUICK, observer: Callable[[Event], None] = ignore) -> list[RawFrame]:
    with open_source("gate", str(url), options, observer).open() as frames:
        return list(frames)


def refused(url: str | Path, options: SourceOptions = QUICK) -> SourceError:
    """Read *url*, which fails, and check the manners of what it says."""
    with pytest.raises(SourceError) as caught:
        read(url, options)
    message = str(caught.value)
    assert "\n" not in message
    assert not re.search(r"Errno|\w+Error|s3cret", message)
    return caught.value


# --- files that are not what they should be ---


def bad_file(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def audio_only(folder: Path) -> Path:
    path = folder / "sound.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=48_000)
        out.mux(stream.encode(silence(4800)))
        out.mux(stream.encode())
    return path


def without_index(folder: Path) -> Path:
    """An MP4 whose end, where the index stands, is cut off."""
    path = write(folder / "whole.mp4", CLIP)
    path.write_bytes(path.read_bytes()[:-4000])
    return path


def folder_without_images(folder: Path) -> Path:
    (folder / "notes.txt").write_text("no pictures here")
    return folder


UNUSABLE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no such file": (lambda folder: folder / "gone.mp4", "does not exist"),
    "empty": (bad_file("a.mp4", b""), "is empty"),
    "garbage": (bad_file("a.mp4", bytes(range(256)) * 400), "cut short or not a video"),
    "text named mp4": (bad_file("a.mp4", b"It was a dark and stormy night.\n" * 50), "cut short or not a video"),
    "text": (bad_file("a.txt", b"It was a dark and stormy night.\n" * 50), "not a video|holds no video"),
    "index cut off": (without_index, "cut short or not a video"),
    "sound only": (audio_only, "holds no video"),
    "no frames": (lambda folder: write(folder / "a.mp4", Clip(frames=0)), "holds no frames"),
    "no images": (folder_without_images, "holds no images"),
    "a pattern that means nothing": (lambda folder: folder / "*.png", "holds no images"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_file(name: str, tmp_path: Path) -> None:
    make, sentence = UNUSABLE[name]
    path = make(tmp_path)
    fault = refused(path)
    assert isinstance(fault, SourceUnusable)
    assert re.search(sentence, str(fault))
    assert str(path) in str(fault)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything; run the tests as an ordinary user")
def test_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4")
    path.chmod(0)
    assert "cannot be read: Permission denied" in str(refused(path))


def test_device_that_is_not_there_may_come_back() -> None:
    fault = refused("/dev/video99")
    assert not isinstance(fault, SourceUnusable)
    assert "/dev/video99 is not there" in str(fault)


# --- recordings that are damaged ---


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.flv"])
def test_recording_that_is_cut_is_read_up_to_the_cut_and_the_loss_told(name: str, tmp_path: Path) -> None:
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    path = write(tmp_path / name, Clip(100, (320, 240), codec=codec, muxer={"movflags": "faststart"}))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    lost: list[Event] = []
    frames = read(path, observer=lost.append)
    assert 40 <= len(frames) <= 70
    (event,) = lost
    assert isinstance(event, FrameLost)
    assert event.camera == "gate"
    assert len(frames) + event.count == pytest.approx(100, abs=1)
    assert "cut short or damaged" in event.detail


def test_recording_with_a_hole_goes_on_behind_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", CLIP)
    damaged = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.pos is not None][50]
        assert packet.pos is not None
        damaged[packet.pos : packet.pos + packet.size] = bytes([255]) * packet.size
    path.write_bytes(damaged)
    lost: list[Event] = []
    frames = read(path, observer=lost.append)
    assert frames[-1].pts == pytest.approx(9.9)
    assert len(frames) + sum(event.count for event in lost if isinstance(event, FrameLost)) == 100
    assert lost


def test_damaged_image_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.png"), pattern(index)[..., ::-1])
    (tmp_path / "1.png").write_bytes(b"not a picture")
    lost: list[Event] = []
    first, second, third = read(tmp_path, observer=lost.append)
    with pytest.raises(SourceError, match="damaged or not an image"):
        second.to_rgb()
    assert [index_of(frame.to_rgb()) for frame in (first, third)] == [0, 2]
    (event,) = lost
    assert isinstance(event, FrameLost)
    assert "1.png" in event.detail


def test_size_that_changes_midway_is_a_break(tmp_path: Path) -> None:
    small, large = (write(tmp_path / f"{s[0]}.ts", Clip(10, s)).read_bytes() for s in ((128, 96), (320, 240)))
    both = tmp_path / "both.ts"
    both.write_bytes(small + large)
    frames = read(both)
    images = [frame.to_rgb() for frame in frames]
    assert [image.shape[1] for image in images] == [128] * 10 + [320] * 10
    assert all(same_colours(image) for image in images)
    assert [index for index, frame in enumerate(frames) if frame.breaks] == [10]


# --- servers that fail ---


@dataclass(frozen=True)
class Camera:
    """A live camera, and the two ways in which it fails."""

    url: str
    transport: Literal["tcp", "udp"]
    die: Callable[[], None]
    fall_silent: Callable[[], None]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write(tmp_path / "clip.mp4", Clip(frames=100, fps=20))


@pytest.fixture(params=["tcp", "udp", "mjpeg"])
def camera(request: pytest.FixtureRequest, clip: Path) -> Iterator[Camera]:
    if request.param == "mjpeg":
        with httpfiles.serve(clip.parent) as web:
            yield Camera(web.url + "/camera.mjpeg", "tcp", web.over.set, web.frozen.set)
        return
    if lacking := rtsp.missing():
        pytest.skip(lacking)
    with rtsp.serve(clip) as server:
        yield Camera(server.url, request.param, server.kill, server.freeze)


@pytest.mark.parametrize("how", ["dies", "falls silent"])
def test_camera_that_fails_midway_is_noticed_in_time(how: str, camera: Camera) -> None:
    options = SourceOptions(camera.transport, open_timeout=10, read_timeout=1)
    seen, said = 0, ""
    with open_source("gate", camera.url, options).open() as frames:
        try:
            for _ in frames:
                seen += 1
                if seen == 5:
                    (camera.die if how == "dies" else camera.fall_silent)()
                    failed_at = time.monotonic()
        except SourceError as error:
            said = str(error)
    assert 5 <= seen < 60
    assert time.monotonic() - failed_at < 10  # far above the timeout, far below for ever
    assert how == "dies" or "sent no picture for 1 s" in said


def test_camera_that_accepts_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for url in (f"rtsp://127.0.0.1:{port}/live", f"http://127.0.0.1:{port}/camera.mjpeg"):
            fault = refused(url)
            assert not isinstance(fault, SourceUnusable)
            assert "did not answer within 1 s" in str(fault)


def test_nobody_listens() -> None:
    fault = refused("rtsp://bob:s3cret@127.0.0.1:9/live")
    assert not isinstance(fault, SourceUnusable)
    assert str(fault).startswith("rtsp://***@127.0.0.1:9/live refuses the connection")


def test_rtsp_password(clip: Path) -> None:
    if lacking := rtsp.missing():
        pytest.skip(lacking)
    with rtsp.serve(clip, "bob", "s3cret") as server:
        assert len(read(server.url, SourceOptions(read_timeout=5))) == 100
        for wrong in (server.url.replace("s3cret", "s3cretly"), server.url.replace("bob:s3cret@", "")):
            fault = refused(wrong)
            assert isinstance(fault, SourceUnusable)
            assert "refuses the user name and password" in str(fault)


def test_stream_that_the_server_does_not_have(tmp_path: Path) -> None:
    with httpfiles.serve(tmp_path) as server:
        assert isinstance(refused(server.url + "/gone.mp4"), SourceUnusable)
        live = refused(server.url + "/gone.m3u8")
    assert not isinstance(live, SourceUnusable)  # a playlist may be there a moment later
    assert "404" in str(live)


def test_recording_over_http_survives_a_broken_connection(clip: Path) -> None:
    with httpfiles.serve(clip.parent) as server:
        server.breaks["/clip.mp4"] = [len(clip.read_bytes()) // 2]
        assert len(read(server.url + "/clip.mp4")) == 100
        assert server.breaks == {"/clip.mp4": []}  # it did break


def test_recording_over_http_that_breaks_for_good_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "clip.mp4", Clip(100, (320, 240), options={"qp": "1", "g": "5"}, muxer={"movflags": "faststart"}))
    with httpfiles.serve(tmp_path) as server:
        server.breaks["/clip.mp4"] = [(tmp_path / "clip.mp4").stat().st_size // 2, *[0] * 1000]
        assert "/clip.mp4" in str(refused(server.url + "/clip.mp4"))

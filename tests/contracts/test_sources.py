"""What every source promises, whatever it reads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import cv2
import gstworld
import httpfiles
import pytest
import rtsp
from videos import Clip, index_of, pattern, same_colours, write

from streamer.errors import SourceError
from streamer.sources import SourceOptions, open_source
from streamer.sources.base import Source
from streamer.types import RawFrame

CLIP = Clip(frames=20, fps=20)
HEVC = replace(CLIP, codec="libx265", options={"x265-params": "keyint=10:log-level=none"})
ENOUGH = 12  # frames to read of a source that does not end


TCP, UDP = SourceOptions("tcp"), SourceOptions("udp")


@dataclass(frozen=True)
class World:
    """A place to make sources in, and what closes them again."""

    folder: Path
    stack: ExitStack

    def web(self) -> str:
        return self.stack.enter_context(httpfiles.serve(self.folder)).url

    def video(self, name: str, clip: Clip = CLIP) -> Path:
        return write(self.folder / name, clip)

    def images(self) -> Path:
        folder = self.folder / "images"
        folder.mkdir()
        for index in range(CLIP.frames):
            cv2.imwrite(str(folder / f"img{index}.png"), pattern(index)[..., ::-1])
        return folder

    def rtsp(self, clip: Clip = CLIP) -> str:
        if lacking := rtsp.missing():
            pytest.skip(lacking)
        return self.stack.enter_context(rtsp.serve(self.video("camera.mp4", clip))).url


@dataclass(frozen=True)
class Kind:
    """One kind of source: how to make its URL, and what is to be expected."""

    url: Callable[[World], str]
    live: bool = False
    frames: int | None = CLIP.frames  # None: without end, or any number
    options: SourceOptions = TCP
    whole: bool = True  # no frame may be missing between two others


def hls(world: World) -> str:
    muxer = {"hls_time": "0.5", "hls_list_size": "0", "hls_playlist_type": "vod"}
    world.video("index.m3u8", Clip(20, fps=20, muxer=muxer))
    return world.web() + "/index.m3u8"


KINDS = {
    "mp4": Kind(lambda w: str(w.video("a.mp4"))),
    "file url": Kind(lambda w: w.video("a b%.mp4").as_uri()),
    "mp4 with B-frames off": Kind(lambda w: str(w.video("a.mp4", Clip(20, fps=20, options={"bf": "0"})))),
    "mp4 of h265": Kind(lambda w: str(w.video("a.mp4", HEVC))),
    "mkv": Kind(lambda w: str(w.video("a.mkv"))),
    "mpegts": Kind(lambda w: str(w.video("a.ts"))),
    "avi": Kind(lambda w: str(w.video("a.avi", Clip(20, fps=20, codec="mpeg4")))),
    "webm": Kind(lambda w: str(w.video("a.webm", Clip(20, fps=20, codec="libvpx-vp9")))),
    "images": Kind(lambda w: f"{w.images()}?fps=20"),
    "glob": Kind(lambda w: f"{w.images()}/img*.png"),
    "http mp4": Kind(lambda w: f"{w.web()}/{w.video('a.mp4').name}"),
    "hls": Kind(hls, live=True),
    "mjpeg": Kind(lambda w: w.web() + "/camera.mjpeg", live=True, frames=None),
    "rtsp over tcp": Kind(lambda w: w.rtsp(), live=True, frames=CLIP.frames),
    "rtsp of h265": Kind(lambda w: w.rtsp(HEVC), live=True),
    "rtsp over udp": Kind(lambda w: w.rtsp(), live=True, frames=None, options=UDP, whole=False),
    "synthetic": Kind(lambda w: "synthetic://?size=128x96&fps=100", live=True, frames=None),
    "synthetic clip": Kind(lambda w: "synthetic://?size=128x96&frames=20"),
}


@dataclass(frozen=True)
class Subject:
    kind: Kind
    source: Source

    @property
    def painted(self) -> bool:
        return "synthetic" not in type(self.source).__module__


BACKENDS: tuple[Literal["av", "gstreamer"], ...] = ("av", "gstreamer")
WITHOUT_DECODER = {"images", "glob", "synthetic", "synthetic clip"}
CASES = [(name, backend) for backend in BACKENDS for name in KINDS if backend == "av" or name not in WITHOUT_DECODER]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]} by {case[1]}")
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    name, backend = request.param
    if backend == "gstreamer" and (lacking := gstworld.missing()):
        pytest.skip(lacking)
    kind = KINDS[name]
    options = replace(kind.options, backend=backend)
    with ExitStack() as stack:
        yield Subject(kind, open_source("gate", kind.url(World(tmp_path, stack)), options))


def read(source: Source, limit: int | None = None) -> list[RawFrame]:
    frames = []
    with source.open() as stream:
        for frame in stream:
            frames.append(frame)
            if len(frames) == limit:
                break
    return frames


def test_gives_frames_in_order_of_time(subject: Subject) -> None:
    assert subject.source.camera == "gate"
    assert subject.source.live is subject.kind.live
    frames = read(subject.source, None if subject.kind.frames else ENOUGH)
    assert len(frames) == (subject.kind.frames or ENOUGH)
    assert all(a.pts < b.pts for a, b in pairwise(frames))
    assert abs(frames[0].pts) < 0.2
    assert not any(frame.breaks for frame in frames)


def test_pixels_survive_and_outlive_the_source(subject: Subject) -> None:
    frames = read(subject.source, ENOUGH)  # the source is closed before any pixel is asked for
    images = [frame.to_rgb() for frame in frames]
    assert all(image.shape == (96, 128, 3) and image.dtype == "uint8" for image in images)
    assert not any(image.flags.writeable for image in images)
    if subject.painted:
        assert all(same_colours(image) for image in images)
        indices = [index_of(image) for image in images]
        assert indices == (list(range(indices[0], indices[0] + ENOUGH)) if subject.kind.whole else sorted(indices))


def test_can_be_opened_again(subject: Subject) -> None:
    assert len(read(subject.source, 2)) == len(read(subject.source, 2)) == 2


def test_closing_early_frees_threads_and_files(subject: Subject, request: pytest.FixtureRequest) -> None:
    if request.node.callspec.id == "hls by gstreamer":
        pytest.skip(
            "GStreamer 1.22's hlsdemux2 keeps two files and some sockets for each stream that is closed early, in any "
            "program: `uridecodebin3 uri=….m3u8 ! fakesink`, started and stopped, shows it; a later one may not"
        )
    read(subject.source, 1)  # what a library keeps for good, it has now
    assert any(stays_within_resources(subject.source) for _ in range(4))  # a pool grows once, a leak every time


def stays_within_resources(source: Source) -> bool:
    before = resources()
    for _ in range(3):
        read(source, 1)
    return settles(lambda: all(now <= then for now, then in zip(resources(), before, strict=True)), timeout=2.0)


def resources() -> tuple[int, int]:
    """Count this process's threads and open files; those of the test's own servers come and go."""
    return len([*Path("/proc/self/task").iterdir()]), len([*Path("/proc/self/fd").iterdir()])


def settles(condition: Callable[[], bool], timeout: float = 5.0) -> bool:
    """Wait until *condition* holds, for *timeout* seconds at most."""
    never, tries = threading.Event(), int(timeout / 0.02)
    return any(condition() or never.wait(0.02) for _ in range(tries))


def test_an_error_in_the_reader_is_not_the_sources(subject: Subject) -> None:
    with pytest.raises(ZeroDivisionError), subject.source.open() as frames:  # noqa: PT012 - the block is the reader
        next(frames)
        raise ZeroDivisionError


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scheme", ["rtsp", "http", "https", "rtmp", "tcp"])
def test_no_message_holds_a_password(scheme: str, backend: Literal["av", "gstreamer"]) -> None:
    if backend == "gstreamer" and (lacking := gstworld.missing()):
        pytest.skip(lacking)
    options = SourceOptions(open_timeout=2, backend=backend)
    source = open_source("gate", f"{scheme}://bob:s3cret@127.0.0.1:9/stream", options)
    with pytest.raises(SourceError) as caught:
        read(source)
    assert "s3cret" not in str(caught.value) + repr(source)
    assert caught.value.__cause__ is None
    assert f"{scheme}://***@127.0.0.1:9/stream" in str(caught.value)

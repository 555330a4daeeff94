"""Cameras that fail in every way there is, on real sockets: each comes back by itself, and nobody else notices."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Literal

import halfopen
import pytest
import rtsp
import vigil
from reels import reel
from videos import Clip

from streamer.backoff import Backoff
from streamer.clock import SYSTEM_CLOCK
from streamer.events import Event, FrameGrabbed
from streamer.grabber import Grabber, Timeline
from streamer.intake import Grabbed
from streamer.mailbox import Mailbox
from streamer.sources import Source, SourceOptions, open_source

pytestmark = pytest.mark.skipif(rtsp.missing() is not None, reason=str(rtsp.missing()))

_REQUIRED = 5.0  # seconds within which results must flow again once the stream is back
_DEADLINE = 60  # seconds for one test, so that nothing ever hangs
_PAUSE = 3.0  # seconds without results that a healthy camera may have on a busy machine
OPTIONS = SourceOptions(open_timeout=5, read_timeout=4, backend="av")  # the defaults of a pipeline file


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    def give_up(_: int, __: FrameType | None) -> None:
        raise TimeoutError(f"not done after {_DEADLINE} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(_DEADLINE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reels")


@pytest.fixture(scope="module")
def film(folder: Path) -> Path:
    """Two minutes of H.264 with B-frames, a keyframe a second."""
    return reel(folder / "film.mp4", 120, Clip(60, (320, 240), 20, options={"g": "20", "bf": "2"}))


@pytest.fixture(scope="module")
def steady(film: Path) -> Iterator[rtsp.Camera]:
    """The other camera: always there."""
    with rtsp.serve(film) as camera:
        yield camera


@pytest.fixture(scope="module")
def _server(film: Path) -> Iterator[rtsp.Camera]:
    with rtsp.serve(film) as camera:
        yield camera


@pytest.fixture
def shaky(_server: rtsp.Camera, film: Path) -> Iterator[rtsp.Camera]:
    """The camera that is to fail, well again at the beginning of each test."""
    yield _server
    _server.kill()
    _server.start()


@contextmanager
def beside(steady: rtsp.Camera, url: str, transport: Literal["tcp", "udp"] = "tcp") -> Iterator[vigil.Vigil]:
    """Run both cameras through a whole pipeline; at the end, the steady one must have noticed nothing."""

    def make(witness: vigil.Witness) -> list[Source]:
        return [
            open_source("shaky", url, replace(OPTIONS, transport=transport), witness),
            open_source("steady", steady.url, OPTIONS, witness),
        ]

    with vigil.over(make) as watch:
        for camera in ("shaky", "steady"):
            watch.wait_for_result(camera, count=5)
        yield watch
    watch.check_undisturbed("steady", _PAUSE)


def anything(_: vigil.Result) -> bool:
    return True


def back_in_time(watch: vigil.Vigil, returned: float, like: Callable[[vigil.Result], bool] = anything) -> None:
    """Check that results flow again soon after the stream's return, and keep flowing."""
    took = watch.wait_for_result("shaky", since=returned, count=10, like=like) - returned
    print(f"results again {took:.2f} s after the stream's return")
    assert took < _REQUIRED


def test_server_killed_and_restarted(steady: rtsp.Camera, shaky: rtsp.Camera) -> None:
    with beside(steady, shaky.url) as watch:
        broken = time.monotonic()
        shaky.kill()
        shaky.start()
        returned = time.monotonic()
        watch.wait_for_trouble("shaky", broken)
        back_in_time(watch, returned)


def test_port_closed_for_a_while(steady: rtsp.Camera, shaky: rtsp.Camera) -> None:
    with beside(steady, shaky.url) as watch:
        broken = time.monotonic()
        shaky.kill()
        assert "refuses the connection" in watch.wait_for_trouble("shaky", broken, times=4)
        shaky.start()
        back_in_time(watch, time.monotonic())


def test_half_open_connection(steady: rtsp.Camera, shaky: rtsp.Camera) -> None:
    with halfopen.link(shaky.plan.port) as link, beside(steady, f"rtsp://127.0.0.1:{link.port}/live") as watch:
        broken = time.monotonic()
        link.cut()
        assert "sent no picture for 4 s" in watch.wait_for_trouble("shaky", broken)
        assert "did not answer within 5 s" in watch.wait_for_trouble("shaky", broken, times=2)
        link.mend()
        back_in_time(watch, time.monotonic())


def test_server_that_hangs(steady: rtsp.Camera, shaky: rtsp.Camera) -> None:
    with beside(steady, shaky.url) as watch:
        broken = time.monotonic()
        shaky.freeze()
        assert "did not answer within 5 s" in watch.wait_for_trouble("shaky", broken, times=2)
        shaky.thaw()
        back_in_time(watch, time.monotonic())


def test_stream_that_freezes_while_the_server_answers(steady: rtsp.Camera, shaky: rtsp.Camera) -> None:
    with beside(steady, shaky.url) as watch:
        broken = time.monotonic()
        shaky.withhold(True)
        assert "sent no picture for 4 s" in watch.wait_for_trouble("shaky", broken)
        shaky.withhold(False)
        back_in_time(watch, time.monotonic())


def test_stream_that_sends_garbage(steady: rtsp.Camera, shaky: rtsp.Camera) -> None:
    with beside(steady, shaky.url) as watch:
        broken = time.monotonic()
        shaky.garble(1.0)
        watch.wait_for_trouble("shaky", broken)
        shaky.garble(0.0)
        back_in_time(watch, time.monotonic())
        assert watch.witness.lost["shaky"] > 0


def test_stream_with_some_garbage_goes_on(steady: rtsp.Camera, shaky: rtsp.Camera) -> None:
    with beside(steady, shaky.url) as watch:
        shaky.garble(0.002)
        watch.wait_for_result("shaky", since=time.monotonic(), count=40)
        shaky.garble(0.0)
        back_in_time(watch, time.monotonic())


def test_password_that_is_wrong_and_later_right(steady: rtsp.Camera, film: Path) -> None:
    with rtsp.serve(film, "bob", "s3cret") as camera, beside(steady, camera.url) as watch:
        broken = time.monotonic()
        camera.kill()
        camera.start(password="another")
        said = watch.wait_for_trouble("shaky", broken, times=3)
        assert "refuses the user name and password" in said
        assert "s3cret" not in said
        camera.kill()
        camera.start()
        back_in_time(watch, time.monotonic())


def test_720p_becomes_1080p_in_the_stream(steady: rtsp.Camera, shaky: rtsp.Camera, folder: Path) -> None:
    small, large = (
        Clip(20, size, 10, options={"g": "10", "preset": "ultrafast"}) for size in ((1280, 720), (1920, 1080))
    )
    shaky.show(reel(folder / "sizes.ts", 2, small, large, small))
    with beside(steady, shaky.url) as watch:
        watch.wait_for_result("shaky", count=45)
        sizes = [result.size for result in watch.of("shaky")[:45]]
        assert [size for size, _ in itertools.groupby(sizes)] == [small.size, large.size, small.size]
        assert not watch.errors("shaky")  # all in one connection


def test_h264_becomes_h265_with_another_size(steady: rtsp.Camera, shaky: rtsp.Camera, folder: Path) -> None:
    quiet = {"x265-params": "log-level=none:keyint=10:bframes=2"}
    other = reel(folder / "h265.mp4", 60, Clip(20, (640, 360), 10, codec="libx265", options=quiet))
    with beside(steady, shaky.url) as watch:
        shaky.show(other)
        back_in_time(watch, time.monotonic(), like=lambda result: result.size == (640, 360))


def test_30_percent_of_the_packets_lost(steady: rtsp.Camera, film: Path) -> None:
    with rtsp.serve(film, loss=0.3) as camera, beside(steady, camera.url, "udp") as watch:
        watch.wait_for_result("shaky", since=time.monotonic(), count=60)
        assert not watch.errors("shaky")
        first, *_, last = watch.of("shaky")
        assert last.seq - first.seq < 0.9 * 20 * (last.pts - first.pts)  # they did get lost


def test_stop_is_noticed_while_a_camera_hangs(shaky: rtsp.Camera) -> None:
    came, stop, box = threading.Event(), threading.Event(), Mailbox[Grabbed](1000)

    def observe(event: Event) -> None:
        if isinstance(event, FrameGrabbed):
            came.set()

    source = open_source("shaky", shaky.url, SourceOptions(open_timeout=5, read_timeout=1))
    grabber = Grabber(source, box, stop, Timeline(SYSTEM_CLOCK), Backoff(), observe)
    thread = threading.Thread(target=grabber.run, daemon=True)
    thread.start()
    assert came.wait(_REQUIRED)
    shaky.freeze()
    stop.set()
    thread.join(1 + _PAUSE)
    assert not thread.is_alive()
    shaky.thaw()

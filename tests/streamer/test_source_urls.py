"""URLs are checked word for word before anything is opened, and a wrong one says what was probably meant."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import ConfigError
from streamer.sources import SourceOptions, open_source, parse_url
from streamer.sources.address import SCHEMES


@pytest.mark.parametrize(
    ("url", "scheme", "target"),
    [
        ("rtsp://10.0.0.5/stream1", "rtsp", "rtsp://10.0.0.5/stream1"),
        ("RTSP://10.0.0.5/Stream1", "rtsp", "rtsp://10.0.0.5/Stream1"),
        ("rtsps://cam.example:322/s?channel=1", "rtsps", "rtsps://cam.example:322/s?channel=1"),
        ("rtsp://bob:p%40ss@[fe80::1]:554/s", "rtsp", "rtsp://bob:p%40ss@[fe80::1]:554/s"),
        ("rtsp://10.0.0.5/user=bob&mail=b@c", "rtsp", "rtsp://10.0.0.5/user=bob&mail=b@c"),
        ("http://10.0.0.5:8080/video", "http", "http://10.0.0.5:8080/video"),
        ("https://example.org/live.m3u8", "https", "https://example.org/live.m3u8"),
        ("udp://@239.0.0.1:1234", "udp", "udp://@239.0.0.1:1234"),
        ("udp://:5000", "udp", "udp://:5000"),
        ("tcp://0.0.0.0:5000?listen=1", "tcp", "tcp://0.0.0.0:5000?listen=1"),
        ("file:///data/a%20b.mp4", "file", "/data/a b.mp4"),
        ("file://localhost/data/a.mp4", "file", "/data/a.mp4"),
        ("/data/garage.mp4", "file", "/data/garage.mp4"),
        ("videos/what?.mp4", "file", "videos/what?.mp4"),
        ("odd:name.mp4", "file", "odd:name.mp4"),
        ("/dev/video0", "v4l2", "/dev/video0"),
        ("v4l2:///dev/video2", "v4l2", "/dev/video2"),
        ("v4l2:///dev/v4l/by-id/usb-cam-0", "v4l2", "/dev/v4l/by-id/usb-cam-0"),
        ("synthetic://", "synthetic", ""),
    ],
)
def test_good_urls(url: str, scheme: str, target: str) -> None:
    address = parse_url(url)
    assert (address.scheme, address.target, dict(address.settings)) == (scheme, target, {})


def test_settings_arrive_in_their_types() -> None:
    assert parse_url("synthetic://?size=640x360&fps=12.5&seed=3&frames=100&realtime=0").settings == {
        "size": (640, 360),
        "fps": 12.5,
        "seed": 3,
        "frames": 100,
        "realtime": False,
    }
    assert parse_url("shots/*.png?fps=5").settings == {"fps": 5}
    assert parse_url("shots/*.png?fps=5").target == "shots/*.png"
    assert parse_url("/dev/video0?size=1280x720&format=mjpeg").settings == {"size": (1280, 720), "format": "mjpeg"}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("rtps://10.0.0.5/s", "did you mean rtsp://?"),
        ("htpp://10.0.0.5/s", "did you mean http://?"),
        ("gopher://10.0.0.5/s", "there are rtsp, rtsps, http"),
        ("rtsp:/10.0.0.5/s", "write rtsp://"),
        ("rtsp:10.0.0.5/s", "write rtsp://"),
        ("rtsp:///s", "names no host"),
        ("udp://239.0.0.1", "names no port"),
        ("file://data/a.mp4", "write three slashes: file:///data"),
        ("file://", "names no file"),
        ("v4l2://video0", "write v4l2:///dev/video0"),
        ("synthetic://640x360", "has no host or path"),
        ("synthetic://?sise=640x360", "did you mean 'size'?"),
        ("synthetic://?zoom=2", "there are size, fps, seed, frames, realtime"),
        ("synthetic://?size=640", "size=640 is not a size; write WIDTHxHEIGHT"),
        ("synthetic://?size=1x1", "at least 16 each"),
        ("synthetic://?fps=0", "fps=0 is not a frame rate"),
        ("synthetic://?fps=nan", "fps=nan is not a frame rate"),
        ("synthetic://?frames=-1", "frames=-1 is not a whole number"),
        ("synthetic://?realtime=yes", "realtime=yes is not a flag; write 0 or 1"),
        ("shots/*.png?pfs=5", "did you mean 'fps'?"),
        ("", "the URL is empty"),
        ("  ", "the URL is empty"),
    ],
)
def test_wrong_urls(url: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_url(url)
    assert said in str(caught.value)


@pytest.mark.parametrize("url", ["rtsp://bob:s3#cret@10.0.0.5/s", "rtsp://bob:12?s3cret@h/s", "rtsp://bob:s3/cret@h/s"])
def test_a_password_that_breaks_the_url_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="percent-encoding") as caught:
        parse_url(url)
    assert "bob" not in str(caught.value)
    assert "cret" not in str(caught.value)


@given(st.text(max_size=40), st.sampled_from(["", *(f"{scheme}://" for scheme in SCHEMES)]))
def test_any_text_is_read_or_refused(text: str, scheme: str) -> None:
    with suppress(ConfigError):
        assert parse_url(scheme + text).scheme in SCHEMES


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_has_its_factory(scheme: str) -> None:
    module, _, name = SCHEMES[scheme].factory.partition(":")
    assert callable(getattr(import_module(module), name))


@pytest.mark.parametrize(
    ("url", "live"),
    [
        ("rtsp://h/s", True),
        ("udp://:5000", True),
        ("/dev/video0", True),
        ("http://h/video", True),
        ("https://h/live.m3u8", True),
        ("https://h/clips/a.MP4?token=1", False),
        ("a.mp4", False),
        ("a.m3u8", False),
        ("shots/*.png", False),
        ("synthetic://", True),
        ("synthetic://?realtime=0", False),
        ("synthetic://?frames=10", False),
        ("synthetic://?frames=10&realtime=1", False),
    ],
)
def test_what_is_live(url: str, live: bool) -> None:
    assert open_source("gate", url).live is live


def test_the_user_knows_better_what_is_live() -> None:
    assert not open_source("gate", "https://h/recording.m3u8", SourceOptions(live=False)).live
    assert open_source("gate", "http://h/endless.mp4", SourceOptions(live=True)).live


def test_a_frame_rate_is_for_images_only(tmp_path: Path) -> None:
    assert open_source("gate", f"{tmp_path}?fps=5").camera == "gate"
    with pytest.raises(ConfigError, match="only a folder of images takes fps"):
        open_source("gate", f"{tmp_path}/a.mp4?fps=5")


def test_reading_urls_needs_no_vision_library() -> None:
    code = (
        "import sys; from streamer.sources import open_source, parse_url; parse_url('rtsp://h/s');"
        "sys.exit(str({'av', 'cv2'} & set(sys.modules)) if {'av', 'cv2'} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""What FFmpeg's frames become: right colours, upright, at the right time, and no false alarm on healthy files."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate, islice, pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import rtsp
from hypothesis import given
from hypothesis import strategies as st
from reels import reel
from videos import Clip, index_of, pattern, same_colours, silence, write

from streamer.errors import SourceError, SourceUnusable
from streamer.events import Event, FrameLost
from streamer.sources import SourceOptions, open_source
from streamer.sources.address import parse_url
from streamer.sources.av import AvSource
from streamer.sources.convert import to_rgb
from streamer.sources.mediatime import MediaTime
from streamer.types import RawFrame

STREET = Path(__file__).resolve().parents[2] / "../shared/media/street.mp4"
needs_street = pytest.mark.skipif(
    not STREET.exists(), reason=f"{STREET} is not there; put the shared folder beside this"
)


def read(path: Path, options: SourceOptions = SourceOptions()) -> tuple[list[RawFrame], list[Event]]:  # noqa: B008 - frozen
    events: list[Event] = []
    with open_source("gate", str(path), options, events.append).open() as frames:
        return list(frames), events


# --- colours ---


def solid(pix_fmt: str, yuv: tuple[int, int, int], color_range: int, colorspace: int) -> av.VideoFrame:
    frame = av.VideoFrame(64, 64, pix_fmt)
    for plane, value in zip(frame.planes, yuv, strict=False):
        plane.update(bytes([value]) * plane.buffer_size)
    frame.color_range, frame.colorspace = color_range, colorspace
    return frame


def by_the_book(yuv: tuple[int, int, int], full: bool, kr: float, kb: float) -> list[float]:
    """Convert one 8-bit Y'CbCr colour as ITU-T H.273 says."""
    y, u, v = yuv
    luma, scale = (float(y), 1.0) if full else ((y - 16) * 255 / 219, 255 / 224)
    cb, cr = (u - 128) * scale, (v - 128) * scale
    red, blue = luma + 2 * (1 - kr) * cr, luma + 2 * (1 - kb) * cb
    return [red, (luma - kr * red - kb * blue) / (1 - kr - kb), blue]


@pytest.mark.parametrize(
    ("pix_fmt", "color_range", "colorspace", "full", "kr", "kb"),
    [
        pytest.param("yuv420p", 0, 2, False, 0.299, 0.114, id="untagged"),
        pytest.param("yuv420p", 1, 5, False, 0.299, 0.114, id="601 limited"),
        pytest.param("yuv420p", 2, 5, True, 0.299, 0.114, id="601 full"),
        pytest.param("yuvj420p", 2, 5, True, 0.299, 0.114, id="JPEG"),
        pytest.param("yuv420p", 1, 1, False, 0.2126, 0.0722, id="709 limited"),
        pytest.param("yuv422p", 1, 1, False, 0.2126, 0.0722, id="709 4:2:2"),
        pytest.param("yuv444p", 1, 1, False, 0.2126, 0.0722, id="709 4:4:4"),
        pytest.param("yuv420p", 2, 1, True, 0.2126, 0.0722, id="709 full"),
    ],
)
def test_colours_follow_the_tags(
    pix_fmt: str, color_range: int, colorspace: int, full: bool, kr: float, kb: float
) -> None:
    yuv = 120, 100, 160
    pixel = to_rgb(solid(pix_fmt, yuv, color_range, colorspace))[32, 32]
    assert pixel.tolist() == pytest.approx(by_the_book(yuv, full, kr, kb), abs=3)


@pytest.mark.parametrize(
    "pix_fmt",
    [
        *("yuv420p", "yuvj420p", "yuv422p", "yuv444p", "nv12", "nv21", "yuyv422", "uyvy422"),
        *("yuv420p10le", "yuv422p10le", "p010le", "rgb24", "bgr24", "bgra", "gbrp"),
    ],
)
@pytest.mark.parametrize("size", [(128, 96), (122, 90)], ids=["even rows", "padded rows"])
def test_every_pixel_format_shows_the_same_picture(pix_fmt: str, size: tuple[int, int]) -> None:
    image = to_rgb(av.VideoFrame.from_ndarray(pattern(5, size), format="rgb24").reformat(format=pix_fmt))
    assert image.shape == (size[1], size[0], 3)
    assert same_colours(image)
    assert index_of(image) == 5
    assert cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).shape == image.shape[:2]  # rows may be padded: OpenCV copes


def test_grey_pictures_become_rgb() -> None:
    frame = av.VideoFrame.from_ndarray(np.full((48, 64), 77, np.uint8), format="gray")
    assert np.abs(to_rgb(frame).astype(int) - 77).max() <= 1


def test_an_image_outlives_its_frame() -> None:
    image = to_rgb(av.VideoFrame.from_ndarray(pattern(3, (640, 480)), format="rgb24").reformat(format="yuv420p"))
    for index in range(4, 10):  # what would overwrite memory that was given back
        to_rgb(av.VideoFrame.from_ndarray(pattern(index, (640, 480)), format="rgb24").reformat(format="yuv420p"))
    assert index_of(image) == 3


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "nv12", "yuyv422", "yuv420p10le", "rgb24", "gray"])
@pytest.mark.parametrize("size", [(64, 48), (400, 300), (320, 240)], ids=["smaller", "larger", "the same"])
def test_pictures_are_scaled_to_the_size_asked_for(pix_fmt: str, size: tuple[int, int]) -> None:
    whole = av.VideoFrame.from_ndarray(pattern(5, (320, 240)), format="rgb24").reformat(format=pix_fmt)
    image = to_rgb(whole, size)
    assert image.shape == (size[1], size[0], 3)
    by_opencv = cv2.resize(to_rgb(whole), size, interpolation=cv2.INTER_AREA)
    assert np.abs(image.astype(int) - by_opencv).mean() < 3  # they differ along the edges


def test_a_rotated_picture_is_scaled_as_it_is_seen(tmp_path: Path) -> None:
    turned = remux(write(tmp_path / "a.mp4"), tmp_path / "b.mp4", rotation=90)
    frames, _ = read(turned, SourceOptions(size=(48, 64)))
    image = frames[0].to_rgb()
    assert image.shape == (64, 48, 3)
    assert same_colours(image, 1)


def test_frames_are_converted_while_others_are_decoded(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", Clip(100, (320, 240), options={"bf": "0"}))
    alone = [frame.to_rgb().copy() for frame in read(path)[0]]
    with ThreadPoolExecutor(2) as batchers, open_source("gate", str(path)).open() as frames:
        together = [batchers.submit(frame.to_rgb) for frame in frames]
    assert all((a == b.result()).all() for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (270, 3)])
def test_a_phones_rotation_is_applied(degrees: int, turns: int, tmp_path: Path) -> None:
    turned = remux(write(tmp_path / "a.mp4"), tmp_path / "b.mp4", rotation=degrees)
    image = read(turned)[0][0].to_rgb()
    assert image.shape == ((128, 96, 3) if turns % 2 else (96, 128, 3))
    assert same_colours(image, turns)


@needs_street
def test_pixels_are_those_of_opencv() -> None:
    capture = cv2.VideoCapture(str(STREET))
    with open_source("gate", str(STREET)).open() as frames:
        for frame in islice(frames, 40):
            there, bgr = capture.read()
            assert there
            assert (cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB) == frame.to_rgb()).all()
    capture.release()


# --- time ---


def test_media_time_starts_at_0_and_goes_on_by_stamps(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.ts", "a.mkv"):  # a transport stream's own clock starts elsewhere
        frames, _ = read(write(tmp_path / name, Clip(20, fps=10)))
        assert [frame.pts for frame in frames] == pytest.approx([index / 10 for index in range(20)], abs=2e-3)


@given(st.lists(st.none() | st.floats(-1e5, 1e5)), st.floats(0.001, 2.0), st.none() | st.floats(-1e5, 1e5))
def test_time_runs_forward_between_breaks(stamps: list[float | None], step: float, start: float | None) -> None:
    clock = MediaTime(step, start)
    placed = [clock.place(stamp) for stamp in stamps]
    assert all(breaks or after > before for (before, _), (after, breaks) in pairwise(placed))


def placed(*stamps: float | None, step: float = 0.1, start: float | None = None) -> tuple[list[float], list[int]]:
    """Return the times, and which of them break."""
    clock = MediaTime(step, start)
    results = [clock.place(stamp) for stamp in stamps]
    return [pts for pts, _ in results], [index for index, (_, breaks) in enumerate(results) if breaks]


@pytest.mark.parametrize(
    ("stamps", "expected", "breaks"),
    [
        pytest.param((50.0, 50.1, 50.2), [0, 0.1, 0.2], [], id="any start"),
        pytest.param((None, 50.1, 50.2), [0, 0.1, 0.2], [], id="a first one without stamp"),
        pytest.param((0.0, None, None, 0.3), [0, 0.1, 0.2, 0.3], [], id="stamps missing"),
        pytest.param((0.0, 0.1, 0.1, 0.2), [0, 0.1, 0.101, 0.2], [], id="a stamp twice"),
        pytest.param((0.0, 0.2, 0.1, 0.3), [0, 0.2, 0.201, 0.3], [], id="jitter"),
        pytest.param((0.0, 0.1, 4.0), [0, 0.1, 4.0], [], id="a pause"),
        pytest.param((0.0, 0.1, 9.0, 9.1), [0, 0.1, 9.0, 9.1], [2], id="a gap"),
        pytest.param((60.0, 60.1, 10.0, 10.1), [0, 0.1, -50.0, -49.9], [2], id="a jump back"),
        pytest.param((95443.6, 95443.7, 0.083, 0.182), [0, 0.1, 0.2, 0.3], [], id="33 bits are full"),
        pytest.param((47721.8, 0.042, 0.142), [0, 0.1, 0.2], [], id="32 bits are full"),
        pytest.param((47721.8, None, 0.142), [0, 0.1, 0.2], [], id="32 bits are full, and a stamp is missing"),
    ],
)
def test_stamps_become_media_time(stamps: tuple[float | None, ...], expected: list[float], breaks: list[int]) -> None:
    times, broken = placed(*stamps)
    assert times == pytest.approx(expected, abs=1e-3)
    assert broken == breaks


@given(st.floats(0, 1e5), st.lists(st.floats(0.002, 4.0)), st.sampled_from([2**32, 2**33]))
def test_counters_that_begin_again_are_followed(start: float, steps: list[float], counts: int) -> None:
    moments = [*accumulate(steps, initial=start)]
    times, broken = placed(*(moment % (counts / 90_000) for moment in moments))
    assert times == pytest.approx([moment - start for moment in moments], abs=1e-6)
    assert broken == []


def test_a_slow_camera_does_not_break_at_every_frame() -> None:
    assert placed(0.0, 10.0, 20.0, step=10.0)[1] == []


def test_recordings_joined_end_to_end_break_where_the_clock_starts_again(tmp_path: Path) -> None:
    part = write(tmp_path / "part.ts", Clip(20, fps=10)).read_bytes()
    (tmp_path / "joined.ts").write_bytes(part + part)
    frames, _ = read(tmp_path / "joined.ts")
    assert [index for index, frame in enumerate(frames) if frame.breaks] == [20]


def test_capture_times_come_from_the_sender_reports_of_the_camera(tmp_path: Path) -> None:
    if lacking := rtsp.missing():
        pytest.skip(lacking)
    film = reel(tmp_path / "a.mp4", 20, Clip(40, fps=20, options={"g": "20", "bf": "0"}))
    timed: list[RawFrame] = []
    with rtsp.serve(film) as camera, open_source("gate", camera.url, SourceOptions(read_timeout=5)).open() as frames:
        for raw in frames:
            if raw.captured_at is not None:
                assert abs(time.time() - raw.captured_at) < 1  # the server's clock is ours
                timed.append(raw)
            if len(timed) == 20:
                break
    for before, after in pairwise(timed):
        assert before.captured_at is not None
        assert after.captured_at is not None
        assert after.captured_at - before.captured_at == pytest.approx(after.pts - before.pts, abs=0.005)


def test_a_recording_has_no_capture_times(tmp_path: Path) -> None:
    assert {frame.captured_at for frame in read(write(tmp_path / "a.mp4"))[0]} == {None}


# --- loss ---


@needs_street
def test_a_healthy_recording_is_whole() -> None:
    frames, events = read(STREET)
    assert (len(frames), events) == (795, [])
    assert frames[-1].pts == pytest.approx(79.4)


def remux(source: Path, target: Path, first: int = 0, rotation: int = 0) -> Path:
    """Copy coded packets; frames before *first* become what an edit list hides."""
    with av.open(str(source)) as a, av.open(str(target), "w", options={"avoid_negative_ts": "disabled"}) as b:
        template = a.streams.video[0]
        stream = b.add_stream_from_template(template)
        if rotation:
            stream.set_display_rotation(rotation)
        assert template.time_base is not None
        assert template.average_rate is not None
        shift = int(first / template.average_rate / template.time_base)
        for packet in a.demux(template):
            if packet.dts is not None and packet.pts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                b.mux(packet)
    return target


def cut_by_edit_list(folder: Path) -> Path:
    whole = write(folder / "whole.mp4", Clip(60, options={"g": "30", "bf": "0"}))
    cut = remux(whole, folder / "cut.mp4", first=13)
    with av.open(str(cut)) as container:
        assert container.streams.video[0].frames == 60  # the header still counts what nobody is to see
    return cut


def with_a_pause(folder: Path) -> Path:
    """A recording of variable frame rate, with nothing between second 1 and 3."""
    path = folder / "pause.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height = 128, 96
        for index in [*range(10), *range(30, 40)]:
            picture = av.VideoFrame.from_ndarray(pattern(index), format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, 10)
            out.mux(stream.encode(picture))
        out.mux(stream.encode())
    return path


HEALTHY: dict[str, Callable[[Path], Path]] = {
    "B-frames": lambda folder: write(folder / "a.mp4", Clip(60, options={"bf": "3", "g": "30"})),
    "fragments": lambda folder: write(folder / "a.mp4", Clip(60, muxer={"movflags": "frag_keyframe+empty_moov"})),
    "edit list": cut_by_edit_list,
    "pause": with_a_pause,
    "sound that goes on": lambda folder: write(folder / "a.mkv", Clip(30), audio=True),
    "hidden frames": lambda folder: write(
        folder / "a.webm", Clip(60, codec="libvpx", options={"auto-alt-ref": "1", "lag-in-frames": "16"})
    ),
    "flv": lambda folder: write(folder / "a.flv", Clip(60)),
    "gif": lambda folder: write(folder / "a.gif", Clip(20, codec="gif", pix_fmt="rgb8", options={})),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_no_false_alarm(name: str, tmp_path: Path) -> None:
    frames, events = read(HEALTHY[name](tmp_path))
    assert len(frames) >= 20
    assert events == []


def test_pictures_that_the_decoder_has_mended_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.mp4", Clip(30, size=(320, 240)))
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][10]
    damaged = bytearray(path.read_bytes())
    assert packet.pos is not None
    middle = packet.pos + packet.size // 2
    damaged[middle : middle + 40] = bytes([85]) * 40
    path.write_bytes(damaged)
    frames, events = read(path)
    assert len(frames) == 30
    assert events == []
    assert "data is damaged in 1 of 30 frames or more" in caplog.text


def test_a_live_source_tells_at_once_what_it_could_not_decode(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", Clip(30, codec="mjpeg", pix_fmt="yuvj420p", options={}))
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes().replace(packets[4], bytes(len(packets[4]))))
    events: list[Event] = []
    with open_source("gate", str(path), SourceOptions(live=True), events.append).open() as frames:
        told = [len(events) for _ in frames]
    assert told == [0] * 4 + [1] * 25
    assert isinstance(events[0], FrameLost)


@dataclass
class Ticking:
    """A clock that goes on by *tick* seconds whenever somebody looks at it."""

    tick: float
    seconds: float = 0.0

    def monotonic_ns(self) -> int:
        self.seconds += self.tick
        return int(self.seconds * 1e9)

    def time(self) -> float:
        return self.seconds


def test_a_live_source_that_sends_but_shows_nothing_counts_as_broken(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", Clip(30, codec="mjpeg", pix_fmt="yuvj420p", options={}))
    source = open_source("gate", str(path), SourceOptions(live=True, read_timeout=1))
    assert isinstance(source, AvSource)
    with replace(source, clock=Ticking(0.4)).open() as frames:
        assert len(list(frames)) == 30  # a picture every time
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data = path.read_bytes()
    for packet in packets[10:]:
        data = data.replace(packet, bytes(len(packet)))
    path.write_bytes(data)
    with replace(source, clock=Ticking(0.4)).open() as frames:
        assert len(list(islice(frames, 10))) == 10
        with pytest.raises(SourceError, match="sent no picture for 1 s"):
            next(frames)


# --- streams ---


def test_sound_is_left_alone(tmp_path: Path) -> None:
    frames, events = read(write(tmp_path / "a.mp4", Clip(20), audio=True))
    assert (len(frames), events) == (20, [])


@pytest.mark.parametrize("live", [False, True])
def test_a_stream_that_goes_on_under_another_number_is_no_endless_wait(live: bool, tmp_path: Path) -> None:
    first = write(tmp_path / "a.ts", Clip(20)).read_bytes()
    moved = {"mpegts_start_pid": "0x200", "mpegts_pmt_start_pid": "0x1100"}
    second = write(tmp_path / "b.ts", Clip(20, muxer=moved))
    (tmp_path / "ab.ts").write_bytes(first + second.read_bytes())
    assert len(read(tmp_path / "ab.ts", SourceOptions(live=live))[0]) >= 20


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as out:
        cover = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        sound = out.add_stream("aac", rate=48_000)
        out.mux(cover.encode(av.VideoFrame.from_ndarray(pattern(0, (64, 64)), format="rgb24")))
        out.mux(cover.encode())
        out.mux(sound.encode(silence(4800)))
        out.mux(sound.encode())
    with pytest.raises(SourceUnusable, match="holds no video"):
        read(path)


def test_a_password_is_in_no_repr() -> None:
    assert "s3cret" not in repr(parse_url("rtsp://bob:s3cret@h/s"))
    assert "s3cret" not in repr(open_source("gate", "rtsp://bob:s3cret@h/s"))

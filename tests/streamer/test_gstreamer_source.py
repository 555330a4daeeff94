"""What GStreamer's pictures become, what may go wrong on the way, and pipelines that users write themselves.

What every source promises is in tests/contracts; that each machine gets the right elements, in test_gstreamer_plan.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path

import av
import gstworld
import httpfiles
import numpy as np
import pytest
import rtsp
from videos import Clip, index_of, pattern, same_colours, silence, write

from engines.types import Image
from streamer.errors import ConfigError, SourceError, SourceUnusable
from streamer.events import Event, FrameLost
from streamer.sources import Source, SourceOptions, gstreamer_plan, open_pipeline, open_source
from streamer.sources.gstreamer_frame import layout_of, to_rgb
from streamer.sources.gstreamer_library import gstreamer
from streamer.sources.gstreamer_plan import Family
from streamer.types import RawFrame

pytestmark = pytest.mark.skipif(gstworld.missing() is not None, reason=str(gstworld.missing()))

STREET = Path(__file__).resolve().parents[2] / "../shared/media/street.mp4"
QUICK = SourceOptions(open_timeout=1, read_timeout=1, backend="gstreamer")
CLIP = Clip(100, (320, 240))
HEVC = {"x265-params": "keyint=10:log-level=none"}


def read(source: Source, limit: int | None = None) -> list[RawFrame]:
    with source.open() as frames:
        return list(islice(frames, limit))


def by(backend: str, path: Path, size: tuple[int, int] | None = None, limit: int = 12) -> list[Image]:
    options = SourceOptions(size=size, backend="av" if backend == "av" else "gstreamer")
    return [frame.to_rgb() for frame in read(open_source("gate", str(path), options), limit)]


def difference(ours: list[Image], theirs: list[Image]) -> tuple[int, float]:
    """Return the largest and the mean difference, in levels."""
    assert [image.shape for image in ours] == [image.shape for image in theirs]
    levels = np.abs(np.stack(ours).astype(int) - np.stack(theirs))
    return int(levels.max()), float(levels.mean())


# --- pixels ---

X264 = {"g": "10"}
CODED = {
    "h264": Clip(12, (322, 242)),
    "h264 in HD, untagged": Clip(3, (1280, 720)),
    "h264 of BT.709": Clip(12, (320, 240), options=X264 | {"x264-params": "colormatrix=bt709"}),
    "h264 of full range": Clip(12, (320, 240), options=X264 | {"x264-params": "fullrange=on"}),
    "h264 of full BT.709": Clip(12, (320, 240), options=X264 | {"x264-params": "fullrange=on:colormatrix=bt709"}),
    "h264 4:2:2": Clip(12, (320, 240), pix_fmt="yuv422p"),
    "h264 4:4:4, odd": Clip(12, (321, 243), pix_fmt="yuv444p"),
    "h264 10 bit": Clip(12, (320, 240), pix_fmt="yuv420p10le"),
    "h265": Clip(12, (322, 242), codec="libx265", options=HEVC),
    "h265 10 bit": Clip(12, (320, 240), codec="libx265", pix_fmt="yuv420p10le", options=HEVC),
    "vp8": Clip(12, (320, 240), codec="libvpx"),
    "vp9": Clip(12, (320, 240), codec="libvpx-vp9"),
    "mpeg4": Clip(12, (320, 240), codec="mpeg4"),
}


@pytest.mark.parametrize("name", CODED)
def test_pixels_are_those_of_av(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", CODED[name])
    assert difference(by("gstreamer", path), by("av", path))[0] == 0


@pytest.mark.parametrize("size", [(320, 240), (321, 243)], ids=["even", "odd"])
def test_jpeg_is_that_of_av_but_for_rounding(size: tuple[int, int], tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", Clip(12, size, codec="mjpeg", pix_fmt="yuvj420p", options={}))
    largest, mean = difference(by("gstreamer", path), by("av", path))  # two decoders, two inverse DCTs
    assert largest <= 4
    assert mean < 0.5


@pytest.mark.skipif(not STREET.exists(), reason=f"{STREET} is not there; put the shared folder beside this")
def test_real_footage_is_that_of_av() -> None:
    assert difference(by("gstreamer", STREET, limit=20), by("av", STREET, limit=20))[0] == 0
    # FFmpeg's decoder says where chroma lies between the pixels; a frame that is wrapped cannot
    assert difference(by("gstreamer", STREET, (384, 288)), by("av", STREET, (384, 288)))[1] < 0.5


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_phones_rotation_is_applied(degrees: int, tmp_path: Path) -> None:
    path = copied(write(tmp_path / "a.mp4"), tmp_path / "b.mp4", degrees)
    for size in (None, (48, 64)):
        ours, theirs = by("gstreamer", path, size), by("av", path, size)
        assert difference(ours, theirs)[1] < 1
        assert same_colours(ours[0], degrees // 90)


def copied(source: Path, target: Path, degrees: int = 0, hidden: int = 0) -> Path:
    """Copy coded pictures, to be turned by *degrees*; those before number *hidden* become what an edit list hides."""
    options = {"avoid_negative_ts": "disabled"}
    with av.open(str(source)) as read_from, av.open(str(target), "w", options=options) as out:
        template = read_from.streams.video[0]
        stream = out.add_stream_from_template(template)
        stream.set_display_rotation(degrees)
        assert template.time_base is not None
        assert template.average_rate is not None
        shift = int(hidden / template.average_rate / template.time_base)
        for packet in read_from.demux(template):
            if packet.dts is not None and packet.pts is not None:  # else it only flushes the decoder
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                out.mux(packet)
    return target


def rgb_of(text: str, options: SourceOptions = QUICK) -> list[Image]:
    return [frame.to_rgb() for frame in read(open_pipeline("gate", text, options))]


@pytest.mark.parametrize("pix_fmt", sorted({*gstreamer_plan.FORMATS} - {"GRAY8"}))
@pytest.mark.parametrize("size", ["width=128,height=96", "width=121,height=93"], ids=["even", "odd"])
def test_every_format_shows_the_same_picture(pix_fmt: str, size: str) -> None:
    text = "videotestsrc num-buffers=1 pattern=ball ! video/x-raw,format={},{} ! appsink name=out"
    (image,), (rgb,) = rgb_of(text.format(pix_fmt, size)), rgb_of(text.format("RGB", size))
    assert image.shape == rgb.shape
    assert not image.flags.writeable
    assert np.abs(image.astype(int) - rgb).mean() < 3


def test_grey_stays_as_it_is() -> None:
    text = "videotestsrc num-buffers=1 ! video/x-raw,format={},width=64,height=48 ! appsink name=out"
    (image,), (planar,) = (
        read(open_pipeline("gate", text.format("GRAY8"))),
        read(open_pipeline("gate", text.format("I420"))),
    )
    assert (np.ptp(image.to_rgb(), axis=2) == 0).all()
    assert image.to_rgb().shape == planar.to_rgb().shape


def test_padding_that_only_the_buffer_knows_is_left_out() -> None:
    lib, (width, height, stride) = gstreamer(), (128, 96, 192)
    frame = av.VideoFrame.from_ndarray(pattern(3), format="rgb24").reformat(format="nv12").to_ndarray()
    memory = np.full((200, stride), 99, np.uint8)
    memory[8 : 8 + height, :width], memory[110 : 110 + height // 2, :width] = frame[:height], frame[height:]
    buffer = lib.Gst.Buffer.new_wrapped(memory.tobytes())
    form, flags = lib.GstVideo.VideoFormat.NV12, lib.GstVideo.VideoFrameFlags.NONE
    offsets, strides = [8 * stride, 110 * stride, 0, 0], [stride, stride, 0, 0]
    lib.GstVideo.buffer_add_video_meta_full(buffer, flags, form, width, height, 2, offsets, strides)
    image = to_rgb(buffer, layout_of(lib.Gst.Caps.from_string("video/x-raw,format=NV12,width=128,height=96")))
    assert same_colours(image)
    assert index_of(image) == 3


def test_a_buffer_that_is_too_small_is_a_corrupt_frame() -> None:
    lib = gstreamer()
    layout = layout_of(lib.Gst.Caps.from_string("video/x-raw,format=I420,width=128,height=96"))
    with pytest.raises(SourceError, match="too small"):
        to_rgb(lib.Gst.Buffer.new_wrapped(bytes(1000)), layout)


# --- hardware ---


@pytest.fixture
def broken_hardware(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a decoder that exists and does not work, in one of the ways in which they do not."""
    family = Family("Broken", {gstreamer_plan.H264: f"h264parse ! {request.param} ! avdec_h264"})
    monkeypatch.setattr(gstreamer_plan, "_FAMILIES", (family, *gstreamer_plan._FAMILIES))


FAILS, KEEPS_SILENT = "identity error-after=1", "identity drop-probability=1.0"


@pytest.mark.parametrize("broken_hardware", [FAILS, KEEPS_SILENT], indirect=True)
def test_hardware_that_fails_is_left_out_and_told_once(
    broken_hardware: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = open_source("gate", str(write(tmp_path / "a.mp4", CLIP)), QUICK)
    for _ in range(2):
        frames = read(source)
        assert [index_of(frame.to_rgb()) for frame in frames[:20]] == list(range(20))
        assert len(frames) == 100
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told.startswith("gate: the decoder of Broken fails")


@pytest.mark.parametrize("broken_hardware", [KEEPS_SILENT], indirect=True)
def test_a_camera_that_sends_nothing_is_not_the_decoders_fault(
    broken_hardware: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with httpfiles.serve(tmp_path) as web:
        web.frozen.set()
        with pytest.raises(SourceError, match=r"did not answer|sent no picture"):
            read(open_source("gate", web.url + "/camera.mjpeg", QUICK))
    assert not caplog.records


def test_pictures_from_few_buffers_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pooled = Family("Pooled", {gstreamer_plan.H264: "h264parse ! avdec_h264"}, pooled=True)
    monkeypatch.setattr(gstreamer_plan, "_FAMILIES", (pooled,))
    frames = read(open_source("gate", str(write(tmp_path / "a.mp4")), QUICK))
    assert [index_of(frame.to_rgb()) for frame in frames] == list(range(20))


# --- what may go wrong ---


def sound_only(folder: Path) -> Path:
    with av.open(str(folder / "sound.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=48_000)
        out.mux([*stream.encode(silence(4800)), *stream.encode()])
    return folder / "sound.mp4"


def file_of(content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "a.mp4").write_bytes(content)
        return folder / "a.mp4"

    return make


UNUSABLE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no such file": (lambda folder: folder / "gone.mp4", "does not exist"),
    "empty": (file_of(b""), "is empty"),
    "garbage": (file_of(bytes(range(256)) * 400), "cut short or not a video"),
    "text": (file_of(b"It was a dark and stormy night.\n" * 50), "cut short or not a video"),
    "sound only": (sound_only, "holds no video"),
    "no frames": (lambda folder: write(folder / "a.mp4", Clip(frames=0)), "cut short or not a video|holds no frames"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_file(name: str, tmp_path: Path) -> None:
    make, sentence = UNUSABLE[name]
    path = make(tmp_path)
    with pytest.raises(SourceUnusable, match=sentence) as caught:
        read(open_source("gate", str(path), QUICK))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture(params=["tcp", "udp", "mjpeg"])
def camera(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    """A camera's URL, how it dies, and how it falls silent."""
    if request.param == "mjpeg":
        with httpfiles.serve(tmp_path) as web:
            yield web.url + "/camera.mjpeg", web.over.set, web.frozen.set
        return
    if lacking := rtsp.missing():
        pytest.skip(lacking)
    with rtsp.serve(write(tmp_path / "clip.mp4", Clip(200, fps=20))) as server:
        yield f"{server.url}#{request.param}", server.kill, server.freeze


@pytest.mark.parametrize("how", ["dies", "falls silent"])
def test_camera_that_fails_midway_is_noticed_in_time(
    how: str, camera: tuple[str, Callable[[], None], Callable[[], None]]
) -> None:
    url, die, fall_silent = camera
    options = replace(QUICK, open_timeout=10, transport="udp" if url.endswith("#udp") else "tcp")
    seen, said = 0, ""
    try:
        with open_source("gate", url.partition("#")[0], options).open() as frames:
            for _ in frames:
                seen += 1
                if seen == 5:
                    (die if how == "dies" else fall_silent)()
                    failed_at = time.monotonic()
    except SourceError as error:
        said = str(error)
    assert 5 <= seen < 60
    assert time.monotonic() - failed_at < 10  # far above the timeout, far below for ever
    assert how == "dies" or "sent no picture for 1 s" in said


def test_camera_that_accepts_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for url in ("rtsp://127.0.0.1:{}/live", "http://127.0.0.1:{}/camera.mjpeg"):
            with pytest.raises(SourceError) as caught:
                read(open_source("gate", url.format(listener.getsockname()[1]), QUICK))
            assert not isinstance(caught.value, SourceUnusable)


def test_rtsp_password(tmp_path: Path) -> None:
    if lacking := rtsp.missing():
        pytest.skip(lacking)
    with rtsp.serve(write(tmp_path / "clip.mp4"), "bob", "s3cret") as server:
        assert len(read(open_source("gate", server.url, QUICK), 5)) == 5
        for wrong in (server.url.replace("s3cret", "s3cretly"), server.url.replace("bob:s3cret@", "")):
            with pytest.raises(SourceUnusable, match="refuses the user name and password") as caught:
                read(open_source("gate", wrong, QUICK))
            assert "s3cret" not in str(caught.value)


def test_captured_at_is_the_cameras_word(tmp_path: Path) -> None:
    """gst-rtsp-server says when a picture was sent, by this machine's clock: what comes is a moment old."""
    if lacking := rtsp.missing():
        pytest.skip(lacking)
    with rtsp.serve(write(tmp_path / "clip.mp4", Clip(300, fps=20))) as server:
        with open_source("gate", server.url, QUICK).open() as frames:
            told = next(frame.captured_at for frame in frames if frame.captured_at is not None)
        assert -1 < time.time() - told < 10


def test_recording_that_is_damaged_is_read_and_the_loss_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", CLIP)
    damaged = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.pos is not None][50]
        assert packet.pos is not None
        damaged[packet.pos : packet.pos + packet.size] = bytes([255]) * packet.size
    path.write_bytes(damaged)
    events: list[Event] = []
    frames = read(open_source("gate", str(path), QUICK, events.append))
    assert frames[-1].pts == pytest.approx(9.9)
    assert len(frames) + sum(event.count for event in events if isinstance(event, FrameLost)) == 100
    assert events


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "b.mp4"])
def test_no_false_alarm_over_a_healthy_recording(name: str, tmp_path: Path) -> None:
    events: list[Event] = []
    path = write(tmp_path / name, CLIP, audio=name == "b.mp4")
    assert len(read(open_source("gate", str(path), QUICK, events.append))) == 100
    assert not events


def test_what_an_edit_list_hides_is_not_missed(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.mp4", Clip(60, options={"g": "30", "bf": "0"}))
    cut, events = copied(whole, tmp_path / "cut.mp4", hidden=13), list[Event]()
    frames = read(open_source("gate", str(cut), QUICK, events.append))
    assert (len(frames), index_of(frames[0].to_rgb()), events) == (47, 13, [])


def test_size_and_codec_that_change_midway_are_breaks(tmp_path: Path) -> None:
    clips = Clip(10, (128, 96)), Clip(10, (320, 240)), Clip(20, (320, 240), codec="libx265", options=HEVC)
    parts = [write(tmp_path / f"{index}.ts", clip).read_bytes() for index, clip in enumerate(clips)]
    (tmp_path / "all.ts").write_bytes(b"".join(parts))
    frames = read(open_source("gate", str(tmp_path / "all.ts"), QUICK))
    images = [frame.to_rgb() for frame in frames]
    assert [image.shape[1] for image in images] == [128] * 10 + [320] * 30
    assert all(same_colours(image) for image in images)
    assert [index for index, frame in enumerate(frames) if frame.breaks] == [10, 20]


@pytest.mark.parametrize("kind", ["file", "rtsp"])
def test_30_openings_leave_no_thread_and_no_file_behind(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4")
    if kind == "rtsp" and (lacking := rtsp.missing()):
        pytest.skip(lacking)
    with ExitStack() as stack:
        url = stack.enter_context(rtsp.serve(path)).url if kind == "rtsp" else str(path)
        source = open_source("gate", url, QUICK)
        for _ in range(3):
            read(source, 1)
        before = resources()
        for _ in range(30):
            read(source, 1)[0].to_rgb()
        threads, files = (now - then for now, then in zip(resources(), before, strict=True))
    assert threads < 5
    assert files < 5


def resources() -> tuple[int, int]:
    return len([*Path("/proc/self/task").iterdir()]), len([*Path("/proc/self/fd").iterdir()])


# --- the user's own pipeline ---


def test_a_pipeline_of_ones_own(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4")
    source = open_pipeline("gate", f"filesrc location={path} ! qtdemux ! avdec_h264 ! appsink name=out")
    assert (source.camera, source.live) == ("gate", False)
    for _ in range(2):  # a fresh pipeline each time
        assert [index_of(frame.to_rgb()) for frame in read(source)] == list(range(20))


def test_a_pipeline_of_a_camera_is_live_and_scaled_on_request() -> None:
    text = "videotestsrc is-live=true ! video/x-raw,width=128,height=96,framerate=50/1 ! appsink name=out"
    source = open_pipeline("gate", text, replace(QUICK, size=(64, 32)))
    assert source.live
    assert [frame.to_rgb().shape for frame in read(source, 3)] == [(32, 64, 3)] * 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rtspsrc ! h265parze ! appsink name=out", "no element.*did you mean h265parse"),
        ("videotestsrc ! fakesink name=out", "no appsink named out"),
        ("videotestsrc ! appsink", "no appsink named out"),
        ("appsink name=out", "no appsink named out"),
        ("videotestsrc colour=red ! appsink name=out", "no property"),
        ("videotestsrc ! ! appsink name=out", "cannot be built"),
        ("", "cannot be built"),
        ('videotestsrc ! appsink name=out caps="video/x-raw,format=ARGB64"', "takes video/x-raw.*ARGB64 only.*NV12"),
        ("rtspsrc location=rtsp://bob:s3cret@h/ user-pw=s3cret zoom=2 ! appsink name=out", "no property"),
        ("s3cret://bob:s3cret@h/ ! appsink name=out", "cannot be built"),
    ],
)
def test_a_pipeline_that_cannot_be_is_told_before_it_starts(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        open_pipeline("gate", text)
    assert "\n" not in str(caught.value)
    assert "bob:s3cret" not in str(caught.value)


def test_a_pipeline_that_fails_says_so_without_its_password() -> None:
    text = "rtspsrc location=rtsp://bob:s3cret@127.0.0.1:9/live user-pw=s3cret ! decodebin ! appsink name=out"
    source = open_pipeline("gate", text, QUICK)
    assert "s3cret" not in repr(source)
    with pytest.raises(SourceError, match="its GStreamer pipeline cannot be reached") as caught:
        read(source)
    assert "s3cret" not in str(caught.value)


def test_a_pipeline_holds_few_pictures() -> None:
    text = "videotestsrc is-live=true ! video/x-raw,framerate=1000/1 ! appsink name=out max-buffers=0 drop=false"
    with open_pipeline("gate", text, QUICK).open() as frames:
        first = next(frames)
        time.sleep(0.3)  # meanwhile about 300 pictures come
        waiting = [next(frames).pts for _ in range(gstreamer_plan.HELD)]
    assert waiting[-1] - first.pts > 0.2  # the newest ones are there, the others are gone


# --- a machine without GStreamer ---


def test_gstreamer_is_imported_late_and_missed_in_one_sentence() -> None:
    code = """
import sys; sys.modules["gi"] = None
from streamer.sources import SourceOptions, open_source
open_source("gate", "rtsp://10.0.0.5/s")
try:
    open_source("gate", "rtsp://10.0.0.5/s", SourceOptions(backend="gstreamer"))
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ConfigError GStreamer cannot be used")
    assert "pip install 'streamer[gstreamer]'" in done.stdout


def test_a_missing_element_is_told_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.sources.gstreamer.elements", lambda: frozenset({"parsebin", "appsink"}))
    with pytest.raises(ConfigError, match=r"needs GStreamer's rtspsrc; apt-get install gstreamer1\.0-plugins-good"):
        open_source("gate", "rtsp://10.0.0.5/s", QUICK)


def test_what_needs_no_decoder_takes_no_gstreamer() -> None:
    with pytest.raises(ConfigError, match="leave source out"):
        open_source("gate", "synthetic://", QUICK)

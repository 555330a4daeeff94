"""Annotated video: real H.264 that plays, also after a crash and on a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.types import Detections, Float
from streamer.errors import SinkError, SinkUnusable
from streamer.sinks.video import Pace, Timeline, VideoSink, fit, next_part
from streamer.types import Frame, Packet
from streamer.wire import NodeFacts

FOUND = Detections(np.array([[40, 40, 100, 90]], np.float32), np.zeros(1, np.int32), np.full(1, 0.9, np.float32))
FACTS = {"yolo": NodeFacts(("person",))}


def packet(seq: int, pts: float, size: tuple[int, int] = (120, 160), camera: str = "gate") -> Packet:
    image = np.full((*size, 3), (200, 40, 40), np.uint8)
    frame = Frame(camera, seq, pts, 0.0, 0, image)
    return Packet(frame, {"yolo": FOUND, "count": 3}).mark("publish", seq * 40_000_000)


def noise(seq: int) -> Packet:
    """A frame that H.264 cannot make small."""
    image = np.random.default_rng(seq).integers(0, 256, (240, 320, 3), np.uint8)
    return Packet(Frame("gate", seq, seq / 25, 0.0, 0, image))


def record(path: Path, *packets: Packet) -> Path:
    sink = VideoSink(path, "gate", FACTS)
    sink.publish(packets)
    sink.close()
    sink.close()
    return path


def play(path: Path) -> tuple[list[float], list[Float]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [float(f.time or 0) for f in frames], [f.to_ndarray(format="rgb24").astype(np.float32) for f in frames]


def boxes(path: Path) -> list[str]:
    """The kinds of an MP4's top-level boxes."""
    data, at, kinds = path.read_bytes(), 0, []
    while at < len(data):
        kinds.append(data[at + 4 : at + 8].decode())
        at += int.from_bytes(data[at : at + 4], "big")
    return kinds


def test_every_frame_at_its_own_time(tmp_path: Path) -> None:
    times = [5.0, 5.04, 5.08, 5.5, 7.0]
    path = record(tmp_path / "out/a.mp4", *(packet(i, t) for i, t in enumerate(times)))
    seen, images = play(path)
    assert seen == pytest.approx([0, 0.04, 0.08, 0.5, 2.0], abs=1e-4)
    assert images[0].shape == (120, 160, 3)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float((stream.duration or 0) * (stream.time_base or 0)) == pytest.approx(3.5, abs=1e-3)


def test_a_finished_file_is_an_ordinary_mp4_that_seeks(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mp4", *(packet(i, i / 10) for i in range(200)))
    assert "moov" in boxes(path)
    assert "moof" not in boxes(path)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        container.seek(int(15 / (stream.time_base or Fraction(1))), stream=stream)
        assert 9 <= float(next(container.decode(stream)).time or 0) <= 15


def test_boxes_and_caption_are_drawn_and_colours_kept(tmp_path: Path) -> None:
    _, (first, *_) = play(record(tmp_path / "a.mp4", *(packet(i, i / 25) for i in range(3))))
    assert first[70, 130] == pytest.approx((200, 40, 40), abs=12)  # as it came
    assert first[65, 40] != pytest.approx((200, 40, 40), abs=12)  # the side of the box
    assert first[3, 3] == pytest.approx((0, 0, 0), abs=40)  # the caption's plate


def test_only_nodes_that_are_asked_for(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "a.mp4", "gate", {"other": NodeFacts()})
    sink.publish([packet(0, 0)])
    sink.close()
    _, (image,) = play(tmp_path / "a.mp4")
    assert image[65, 40] == pytest.approx((200, 40, 40), abs=12)


def test_only_its_own_camera(tmp_path: Path) -> None:
    times, _ = play(record(tmp_path / "a.mp4", packet(0, 0), packet(0, 0.02, camera="garage"), packet(1, 0.04)))
    assert times == pytest.approx([0, 0.04])


def walk(sink: VideoSink, *seqs: int) -> None:
    for seq in seqs:
        box = np.array([[40 * seq, 40, 40 * seq + 20, 80]], np.float32)
        found = Detections(box, np.zeros(1, np.int32), np.ones(1, np.float32), np.array([7], np.int32))
        frame = Frame("gate", seq, seq / 5, 0.0, 0, np.full((120, 240, 3), 128, np.uint8))
        sink.publish([Packet(frame, {"yolo": found})])


def test_nothing_from_before_a_break_is_drawn_after_it(tmp_path: Path) -> None:
    whole, broken, fresh = (VideoSink(tmp_path / f"{name}.mp4", "gate", FACTS) for name in ("whole", "broken", "fresh"))
    walk(whole, 0, 1, 2, 4)
    walk(broken, 0, 1, 2)
    broken.forget("yard")
    broken.forget("gate")
    walk(broken, 4)
    walk(fresh, 4)
    for sink in (whole, broken, fresh):
        sink.close()
    last = {name: play(tmp_path / f"{name}.mp4")[1][-1] for name in ("whole", "broken", "fresh")}
    assert abs(last["broken"] - last["fresh"]).max() < 60 < abs(last["whole"] - last["fresh"]).max()


@pytest.mark.parametrize("size", [(121, 160), (120, 161), (121, 161), (1, 1)])
def test_odd_sizes_grow_by_a_pixel(tmp_path: Path, size: tuple[int, int]) -> None:
    _, images = play(record(tmp_path / "a.mp4", packet(0, 0, size), packet(1, 1, size)))
    assert images[0].shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)


def test_a_resolution_that_changes_is_fitted_into_the_first(tmp_path: Path) -> None:
    _, images = play(record(tmp_path / "a.mp4", packet(0, 0), packet(1, 1, (480, 480)), packet(2, 2, (60, 320))))
    assert [image.shape for image in images] == [(120, 160, 3)] * 3
    assert images[1][60, 5] == pytest.approx((0, 0, 0), abs=12)  # square into 4:3: bars left and right
    assert images[2][5, 80] == pytest.approx((0, 0, 0), abs=12)  # wide: above and below


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 40), st.integers(1, 40))
def test_fit_gives_the_size_asked_for(height: int, width: int, half_w: int, half_h: int) -> None:
    image = fit(np.zeros((height, width, 3), np.uint8), 2 * half_w, 2 * half_h)
    assert image.shape == (2 * half_h, 2 * half_w, 3)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_time_starts_at_zero_and_always_grows(times: list[float]) -> None:
    timeline = Timeline()
    ticks = [timeline(t) for t in times]
    assert ticks[0] == 0
    assert all(a < b for a, b in pairwise(ticks))


def test_a_stream_that_begins_anew_goes_on_at_its_own_pace() -> None:
    timeline = Timeline()
    assert [timeline(t) for t in (9.0, 9.1, 9.2, 0.0, 0.1, 0.5)] == [0, 9000, 18000, 27000, 36000, 72000]


def test_pace_is_that_of_the_pipeline() -> None:
    pace = Pace()
    assert [pace(packet(i, 0)) for i in range(3)] == ["", "  25 FPS", "  25 FPS"]


def test_an_output_in_use_or_there_already_is_refused(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "a.mp4", "gate", FACTS)
    with pytest.raises(SinkUnusable, match="written by this process already"):
        VideoSink(tmp_path / "a.mp4", "gate", FACTS, existing="replace")
    sink.publish([packet(0, 0)])
    sink.close()
    with pytest.raises(SinkUnusable, match=r"a\.mp4 exists already"):
        VideoSink(tmp_path / "a.mp4", "gate", FACTS)
    VideoSink(tmp_path / "a.mp4", "gate", FACTS, existing="replace").close()


def test_a_video_without_frames_leaves_no_file(tmp_path: Path) -> None:
    assert not record(tmp_path / "a.mp4").exists()


def test_a_resumed_run_goes_on_in_another_file(tmp_path: Path) -> None:
    path = tmp_path / "a.b.mp4"
    names = []
    for _ in range(3):
        part = next_part(path)
        sink = VideoSink(path, "gate", FACTS, existing="append")
        sink.publish([packet(0, 0)])
        sink.close()
        assert part.exists()
        names.append(sink.name)
    assert names == ["video:a.b.mp4", "video:a.b.part2.mp4", "video:a.b.part3.mp4"]


def run(code: str, *args: str) -> subprocess.Popen[str]:
    """Run *code*, with this file's helpers, in another process."""
    head = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from test_video import *\n"
    return subprocess.Popen([sys.executable, "-c", head + code, *args], stdout=subprocess.PIPE, text=True)


def test_killed_it_plays_up_to_the_last_fragment(tmp_path: Path) -> None:
    code = (
        "sink = VideoSink(Path(sys.argv[1]), 'gate', FACTS)\n"
        "sink.publish([packet(i, i / 25) for i in range(300)])\n"
        "print('there', flush=True); signal.pause()"
    )
    with run(code, str(tmp_path / "a.mp4")) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "there\n"
        os.kill(other.pid, signal.SIGKILL)
    times, _ = play(tmp_path / "a.mp4")
    assert len(times) >= 120
    assert times == pytest.approx([i / 25 for i in range(len(times))], abs=1e-3)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        done = False
    if not done:
        pytest.skip("needs the right to mount a tmpfs: run as root (in a container, with --privileged)")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def publish_until_it_fails(sink: VideoSink) -> SinkError:
    packets = (noise(seq) for seq in range(2000))
    with pytest.raises(SinkError) as caught:
        deque(map(sink.publish, ([packet] for packet in packets)), maxlen=0)
    with pytest.raises(SinkError):
        sink.publish([noise(0)])
    sink.close()
    return caught.value


def test_a_full_disk_is_said_and_what_is_there_plays(small_disk: Path) -> None:
    path = small_disk / "a.mp4"
    fault = publish_until_it_fails(VideoSink(path, "gate", FACTS))
    assert str(fault).startswith(f"{path} cannot be written any further: No space left on device (")
    times, _ = play(path)
    assert times


def test_a_file_size_limit_is_said_too(tmp_path: Path) -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        "print(publish_until_it_fails(VideoSink(Path(sys.argv[1]), 'gate', FACTS)))"
    )
    with run(code, str(tmp_path / "a.mp4")) as other:
        said = other.communicate(timeout=120)[0].strip()
    assert said == f"{tmp_path}/a.mp4 cannot be written any further: File too large"
    assert play(tmp_path / "a.mp4")[0]


def test_a_disk_that_is_full_only_at_the_end(tmp_path: Path) -> None:
    """The encoder holds frames back, so that the fault may come while closing."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "sink = VideoSink(Path(sys.argv[1]), 'gate', FACTS); sink.publish([noise(i) for i in range(5)])\n"
        "try: sink.close()\n"
        "except SinkError as error: print(error)\n"
        "sink.close()"
    )
    with run(code, str(tmp_path / "a.mp4")) as other:
        said = other.communicate(timeout=120)[0].strip()
    assert said == f"{tmp_path}/a.mp4 cannot be written any further: File too large"

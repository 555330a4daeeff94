"""JSON Lines: whole after a kill, on a full disk, and with two writers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import SinkError, SinkUnusable
from streamer.sinks.jsonl import JsonlSink, ResumePoint, resume_point
from streamer.types import Frame, Packet

IMAGE = np.zeros((2, 2, 3), np.uint8)


def packet(seq: int, camera: str = "gate") -> Packet:
    return Packet(Frame(camera, seq, seq / 25, 0.0, 0, IMAGE))


def encode(packet: Packet) -> bytes:
    return json.dumps({"schema": 1, "camera": packet.frame.camera, "seq": packet.frame.seq}).encode()


def write(path: Path, *seqs: int) -> None:
    sink = JsonlSink(path, encode, existing="append")
    sink.publish([packet(seq) for seq in seqs])
    sink.close()


def seqs(path: Path) -> list[int]:
    return [json.loads(line)["seq"] for line in path.read_bytes().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results/a.jsonl"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        done = False
    if not done:
        pytest.skip("needs the right to mount a tmpfs: run as root (in a container, with --privileged)")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_one_line_a_packet_readable_at_once(path: Path) -> None:
    sink = JsonlSink(path, encode)
    sink.publish([packet(0), packet(1)])
    assert path.read_bytes() == encode(packet(0)) + b"\n" + encode(packet(1)) + b"\n"
    sink.publish([packet(2, "garage")])
    sink.close()
    sink.close()
    assert seqs(path) == [0, 1, 2]


def test_a_sink_may_be_for_one_camera(path: Path) -> None:
    sink = JsonlSink(path, encode, camera="gate")
    sink.publish([packet(0), packet(0, "garage"), packet(1)])
    sink.close()
    assert seqs(path) == [0, 1]


def test_an_output_that_exists_is_refused_gone_on_with_or_replaced(path: Path) -> None:
    write(path, 0, 1)
    with pytest.raises(SinkUnusable, match=r"a\.jsonl exists already: go on with it \(--resume\)"):
        JsonlSink(path, encode)
    write(path, 2)
    assert seqs(path) == [0, 1, 2]
    JsonlSink(path, encode, existing="replace").close()
    assert path.read_bytes() == b""
    JsonlSink(path, encode).close()  # an empty one is nobody's work


@given(whole=st.integers(0, 20), cut=st.integers(0, 40))
def test_a_torn_last_line_is_cut_off(tmp_path_factory: pytest.TempPathFactory, whole: int, cut: int) -> None:
    path = tmp_path_factory.mktemp("torn") / "a.jsonl"
    lines = b"".join(encode(packet(3 * i)) + b"\n" for i in range(whole))
    torn = encode(packet(3 * whole))[:cut]
    path.write_bytes(lines + torn)
    point = resume_point(path)
    assert path.read_bytes() == lines
    assert (point.lines, point.next_seq) == (whole, 3 * whole - 2 if whole else 0)
    assert point.last == (json.loads(encode(packet(3 * whole - 3))) if whole else None)


def test_to_append_mends_too(path: Path) -> None:
    write(path, 0)
    with path.open("ab") as file:
        file.write(encode(packet(1))[:-3])
    write(path, 1)
    assert seqs(path) == [0, 1]


def test_nothing_to_resume(path: Path) -> None:
    assert resume_point(path) == ResumePoint(0, None)
    assert not path.exists()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"dear diary", 1),
        (b"a,b\n1,2\n", 1),
        (b'{"schema": 1}\n', 1),
        (b'{"schema": 1, "camera": "x", "seq": 1}\n[1]\n', 2),
        (b'{"schema": 1, "camera": "x", "seq": 1}\n\x00\n', 2),
        (bytes(range(256)), 1),
    ],
)
@pytest.mark.parametrize("use", [resume_point, lambda path: JsonlSink(path, encode, existing="append")])
def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, content: bytes, line: int, use: object) -> None:
    path = tmp_path / "diary.txt"
    path.write_bytes(content)
    assert callable(use)
    with pytest.raises(SinkUnusable, match=rf"diary\.txt:{line}: is not a line of results"):
        use(path)
    assert path.read_bytes() == content
    path.open("ab").close()
    with pytest.raises(SinkUnusable, match="is not a line of results"):  # and the refusal left no lock behind
        use(path)


def run(code: str, *args: str) -> subprocess.Popen[str]:
    """Run *code*, with this file's helpers, in another process."""
    head = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from test_jsonl import *\n"
    return subprocess.Popen([sys.executable, "-c", head + code, *args], stdout=subprocess.PIPE, text=True)


def test_two_processes_cannot_write_one_output(path: Path) -> None:
    code = "s = JsonlSink(Path(sys.argv[1]), encode); print('open', flush=True); s.publish([packet(0)]); signal.pause()"
    with run(code, str(path)) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        for attempt in (lambda: JsonlSink(path, encode, existing="append"), lambda: resume_point(path)):
            with pytest.raises(
                SinkUnusable, match=rf"a\.jsonl is being written by another process \(pid {other.pid}\)"
            ):
                attempt()
        other.kill()
    assert resume_point(path).next_seq <= 1  # the lock died with its holder


def test_two_sinks_of_one_process_cannot_either(path: Path) -> None:
    first = JsonlSink(path, encode)
    with pytest.raises(SinkUnusable, match="written by this process already"):
        JsonlSink(path, encode, existing="replace")
    first.close()


def test_killed_at_any_moment_and_resumed_nothing_is_lost_or_doubled(path: Path) -> None:
    code = (
        "seq = resume_point(Path(sys.argv[1])).next_seq\n"
        "sink = JsonlSink(Path(sys.argv[1]), encode, existing='append')\n"
        "print('open', flush=True)\n"
        "while True: sink.publish([packet(seq), packet(seq + 1)]); seq += 2"
    )
    for _ in range(3):
        with run(code, str(path)) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            enough, deadline = path.stat().st_size + 5000, time.monotonic() + 30
            while path.stat().st_size < enough:
                assert time.monotonic() < deadline
            os.kill(writer.pid, signal.SIGKILL)
    point = resume_point(path)
    assert seqs(path) == list(range(point.lines))
    assert point.next_seq == point.lines > 0


def fill(path: Path) -> tuple[int, str]:
    """Publish three packets at a time until it fails: how many publishes went well, and what the fault says."""
    sink = JsonlSink(path, encode)
    done = 0
    try:
        while True:
            sink.publish([packet(3 * done + i) for i in range(3)])
            done += 1
    except SinkError as error:
        sink.close()
        return done, str(error)


def test_a_full_disk_leaves_whole_publishes(small_disk: Path) -> None:
    path = small_disk / "a.jsonl"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(16384))
    done, message = fill(path)
    assert message == (
        f"{path} cannot be written any further: No space left on device (0.0 MB free): make space and go on from there"
    )
    assert seqs(path) == list(range(3 * done))
    ballast.unlink()
    write(path, resume_point(path).next_seq)
    assert seqs(path) == list(range(3 * done + 1))


def test_a_publish_that_failed_may_be_repeated(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(60000))
    sink = JsonlSink(small_disk / "a.jsonl", encode)
    batch = [packet(i) for i in range(500)]
    with pytest.raises(SinkError, match="No space left"):
        sink.publish(batch)
    ballast.unlink()
    sink.publish(batch)
    sink.close()
    assert seqs(small_disk / "a.jsonl") == list(range(500))


def test_a_file_size_limit_leaves_whole_publishes(path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
    code = limit + "print(*fill(Path(sys.argv[1])), sep='|')"
    with run(code, str(path)) as other:
        done, message = other.communicate(timeout=60)[0].strip().split("|")
    assert message == f"{path} cannot be written any further: File too large"
    assert seqs(path) == list(range(3 * int(done)))


def test_a_pipe_is_an_output_too(tmp_path: Path) -> None:
    read, write_end = os.pipe()
    sink = JsonlSink(Path(f"/proc/self/fd/{write_end}"), encode)
    sink.publish([packet(0)])
    assert os.read(read, 1000) == encode(packet(0)) + b"\n"
    sink.close()
    os.close(write_end)
    os.close(read)


def test_a_device_that_is_always_full_is_said() -> None:
    sink = JsonlSink(Path("/dev/full"), encode)
    with pytest.raises(SinkError, match="/dev/full cannot be written any further: No space left on device"):
        sink.publish([packet(0)])
    sink.close()


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkUnusable, match="what should be its folder is a file"):
        JsonlSink(tmp_path / "file/a.jsonl", encode)
    with pytest.raises(SinkUnusable, match="cannot be opened for writing: Is a directory"):
        JsonlSink(tmp_path, encode)

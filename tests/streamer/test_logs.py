from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import ManualClock

from streamer import logs
from streamer.errors import SourceError
from streamer.logs.limit import RateLimit
from streamer.logs.lines import hide

log = logging.getLogger("streamer.somewhere")


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Leave logging as pytest has set it up."""
    root = logging.getLogger()
    for before in [each for each in root.handlers if isinstance(each, logs.Reporter)]:  # of tests that ran commands
        root.removeHandler(before)
        before.close()  # here, so that what it still has to tell is nobody's line
    handlers, levels = list(root.handlers), {name: logging.getLogger(name).level for name in ("", *logs.OURS)}
    hooks = threading.excepthook, sys.unraisablehook
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(capture=False)
    threading.excepthook, sys.unraisablehook = hooks


def away() -> SourceError:
    try:
        try:
            raise TimeoutError("timed out")
        except TimeoutError as error:
            raise SourceError("rtsp://10.0.0.5/1 does not answer") from error
    except SourceError as error:
        return error


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


# --- for people ---


def test_people_read_when_how_bad_where_and_what(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logging.WARNING)
    log.warning("%s: %s; trying again", "gate", away())
    log.info("not worth a line")
    (line,) = said(capsys)
    assert line[19:] == " WARNING streamer.somewhere: gate: rtsp://10.0.0.5/1 does not answer; trying again"
    assert line[:4].isdecimal()


def test_the_camera_is_named_where_the_message_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logging.WARNING)
    log.warning("a packet cannot be decoded", extra={"camera": "a"})
    log.warning("a: a packet cannot be decoded", extra={"camera": "a"})
    log.warning("the gate is open", extra={"camera": "gate"})
    assert [line.partition("somewhere: ")[2] for line in said(capsys)] == [
        "a packet cannot be decoded",
        "a: a packet cannot be decoded",
        "the gate is open",
    ]
    log.warning("it broke off", extra={"camera": "yard"})
    assert said(capsys)[0].endswith(": yard: it broke off")


def test_what_a_thread_says_that_grabs_a_camera_is_of_that_camera(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logging.WARNING)
    libav = logging.getLogger("libav.h264")
    thread = threading.Thread(target=lambda: libav.error("error while decoding MB 2 0"), name="grab gate")
    thread.start()
    thread.join()
    assert said(capsys)[0].endswith("ERROR libav.h264: gate: error while decoding MB 2 0")


def test_an_error_is_one_line_with_its_place_and_with_debug_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logging.WARNING)
    log.error("the export failed", exc_info=away())
    (line,) = said(capsys)
    assert "failed: SourceError: rtsp://10.0.0.5/1 does not answer <- TimeoutError: timed out (in test_logs.py:" in line
    logs.configure(logging.DEBUG)
    log.error("the export failed", exc_info=away())
    lines = said(capsys)
    assert "Traceback (most recent call last):" in lines[1]
    assert lines[-1].endswith("SourceError: rtsp://10.0.0.5/1 does not answer")


def test_journald_is_told_how_bad_it_is_and_knows_the_time_itself() -> None:
    """stderr as systemd connects it: JOURNAL_STREAM names the device and inode of the file behind it."""
    code = (
        "import logging, os\nstatus = os.fstat(2)\n"
        "os.environ['JOURNAL_STREAM'] = f'{status.st_dev}:{status.st_ino}'\n"
        "from streamer import logs\nlogs.configure(logs.usual('text'))\nlog = logging.getLogger('streamer.x')\n"
        "log.info('works again')\nlog.error('two\\nlines')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stderr.splitlines() == ["<6>INFO streamer.x: works again", "<3>ERROR streamer.x: two", "<3>  lines"]


# --- for machines ---


def test_json_has_time_level_logger_message_camera_and_cause(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logging.INFO, "json")
    log.warning("%s: %s; trying again", "gate", away(), extra={"camera": "gate"})
    log.info("the pipeline runs")
    first, second = map(json.loads, said(capsys))
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "warning",
        "logger": "streamer.somewhere",
        "message": "gate: rtsp://10.0.0.5/1 does not answer; trying again",
        "camera": "gate",
        "cause": "SourceError: rtsp://10.0.0.5/1 does not answer <- TimeoutError: timed out",
    }
    assert list(second) == ["time", "level", "logger", "message"]


def test_a_warning_and_an_error_that_nobody_catches_are_lines_like_any(capsys: pytest.CaptureFixture[str]) -> None:
    threading.excepthook, sys.unraisablehook = threading.__excepthook__, sys.__unraisablehook__
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logs.configure(logging.WARNING, "json")
        warnings.warn("soon gone", DeprecationWarning, stacklevel=1)

    def work() -> None:
        raise ZeroDivisionError("in a thread")

    thread = threading.Thread(target=work, name="export")
    thread.start()
    thread.join()
    warned, ended = map(json.loads, said(capsys))
    assert warned["logger"] == "py.warnings"
    assert warned["message"].endswith("DeprecationWarning: soon gone")
    assert ended["level"] == "critical"
    assert ended["message"].startswith("thread export")
    assert ended["cause"].startswith("ZeroDivisionError: in a thread (in test_logs.py:")


def test_hooks_that_somebody_else_has_set_stay() -> None:
    threading.excepthook = theirs = lambda _args: None
    logs.configure(logging.WARNING)
    assert threading.excepthook is theirs


@pytest.mark.parametrize("form", logs.FORMS)
def test_no_password_reaches_a_line(form: logs.Form, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logging.DEBUG, form)
    error = SourceError("rtsp://admin:hunter2@10.0.0.5/1 and (redis://:hunter2@h/0), user-pw=hunter2")
    log.warning("%s", error, exc_info=error)
    log.warning("http://h/v?fps=5&access_token=hunter2 is away", extra={"camera": "gate"})
    err = capsys.readouterr().err
    assert "hunter2" not in err
    assert "10.0.0.5" in err
    for line in err.splitlines() if form == "json" else ():
        assert json.loads(line)["level"] == "warning"


@given(st.text(), st.text(st.characters(blacklist_categories=["Z", "C"]), min_size=1))
def test_hiding_leaves_what_is_no_url_and_no_login_in_what_is(text: str, login: str) -> None:
    if "://" not in text and "=" not in text:
        assert hide(text) == text
    assert hide(f"rtsp://{login}:secret-of-mine@host/1").endswith("://***@host/1")


# --- not too much ---


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def texts(records: list[logging.LogRecord]) -> list[str]:
    return [record.getMessage() for record in records]


def record(message: str, *args: object, name: str = "streamer.x", camera: str | None = None) -> logging.LogRecord:
    made = logging.LogRecord(name, logging.WARNING, __file__, 1, message, args, None)
    made.camera = camera
    return made


def test_after_a_burst_a_line_a_minute_says_how_many_more_there_were(clock: ManualClock) -> None:
    limit = RateLimit(burst=2, clock=clock)
    lines = []
    for second in range(180):
        lines += texts(limit.admit(record("try %d", second)))
        clock.advance(1)
    assert lines == [
        "try 0",
        "try 1",
        "58 more like it within a minute, the last: try 59",
        "60 more like it within a minute, the last: try 119",
    ]
    assert texts(limit.settle()) == ["60 more like it within a minute, the last: try 179"]
    assert limit.settle() == []


def test_after_a_quiet_minute_it_is_news_again(clock: ManualClock) -> None:
    limit = RateLimit(burst=1, clock=clock)
    assert texts(limit.admit(record("gone"))) == ["gone"]
    clock.advance(61)
    assert texts(limit.admit(record("gone"))) == ["gone"]
    assert limit.admit(record("gone")) == []
    clock.advance(61)
    assert texts(limit.admit(record("other"))) == ["1 more like it within a minute, the last: gone", "other"]
    clock.advance(61)
    assert texts(limit.admit(record("gone"))) == ["gone"]


def test_cameras_loggers_and_templates_do_not_silence_each_other(clock: ManualClock) -> None:
    limit = RateLimit(burst=1, clock=clock)
    kinds = [
        record("%s: away", "gate", camera="gate"),
        record("%s: away", "yard", camera="yard"),
        record("%s: away", "yard", camera="yard", name="streamer.y"),
        record("%s: back", "yard", camera="yard"),
        record("%s", "one sentence"),
        record("%s", "another sentence"),
    ]
    assert [len(limit.admit(kind)) for kind in kinds] == [1] * 6
    assert [len(limit.admit(kind)) for kind in kinds] == [0] * 6


def test_numbers_that_a_library_writes_into_its_messages_make_no_new_kind(clock: ManualClock) -> None:
    limit = RateLimit(burst=1, clock=clock)
    lines = [limit.admit(record(f"error while decoding MB {n} {n % 7}", name="libav.h264")) for n in range(1000)]
    assert sum(map(len, lines)) == 1


def test_kinds_without_number_take_bounded_memory(clock: ManualClock) -> None:
    limit = RateLimit(burst=1, most=50, clock=clock)
    words = ["".join(chr(97 + int(digit)) for digit in str(n)) for n in range(500)]
    said = sum(len(limit.admit(record(f"{word} is odd"))) for word in words)
    assert said == 51  # one of each of 50 kinds, and one of all the others
    assert len(limit._tallies) == 51


def test_what_is_exempt_may_say_all(clock: ManualClock) -> None:
    limit = RateLimit(burst=1, exempt=("streamer",), clock=clock)
    assert sum(len(limit.admit(record("x"))) for _ in range(100)) == 100
    assert sum(len(limit.admit(record("x", name="streamers"))) for _ in range(100)) == 1


def test_what_was_left_out_holds_no_error_and_so_no_image(clock: ManualClock) -> None:
    limit = RateLimit(burst=1, clock=clock)
    for _ in range(2):
        limit.admit(record("%s", away()))
    (left,) = limit.settle()
    assert not left.args
    assert left.exc_info is None
    assert left.getMessage().endswith("does not answer")


def test_many_threads_lose_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logging.WARNING)

    def work(name: str) -> None:
        for number in range(200):
            log.warning("%s: number %d", name, number, extra={"camera": name})

    threads = [threading.Thread(target=work, args=(f"camera-{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said(capsys)) == 8 * 5
    logs.configure(logging.WARNING)  # closes what was there: the end, to it
    assert [line.split("somewhere: ")[1].split(": ")[0] for line in said(capsys)] == [
        "195 more like it within a minute, the last"
    ] * 8


# --- what libraries in C say ---

FFMPEG = """
import logging, sys
from streamer import logs
logs.configure(getattr(logging, sys.argv[2]))
import av
with av.open(sys.argv[1]) as container:
    for packet in container.demux(video=0):
        try:
            packet.decode()
        except av.FFmpegError:
            pass
"""


@pytest.mark.parametrize("level", ["WARNING", "DEBUG"])
def test_a_damaged_video_floods_nobody(tmp_path: Path, level: str) -> None:
    from videos import Clip, write

    video = bytearray(write(tmp_path / "v.mp4", Clip(frames=300, size=(320, 240))).read_bytes())
    for place in range(2000, len(video) * 2 // 3, 97):
        video[place] ^= 0x55
    (tmp_path / "v.mp4").write_bytes(video)
    command = [sys.executable, "-c", FFMPEG, str(tmp_path / "v.mp4"), level]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""


def test_glib_is_heard_and_limited() -> None:
    """In the system's own Python where that one has GStreamer's bindings and the virtual environment has not."""
    python = next((p for p in (sys.executable, "/usr/bin/python3") if _has_gi(p)), None)
    if python is None:
        pytest.skip("needs GStreamer's Python bindings: apt install python3-gi gir1.2-gstreamer-1.0")
    code = (
        "import ctypes, logging, gi\ngi.require_version('Gst', '1.0')\nfrom gi.repository import Gst\nGst.init(None)\n"
        "from streamer import logs\nlogs.configure(logging.WARNING)\nlogs.hear_glib()\n"
        "say = ctypes.CDLL('libglib-2.0.so.0').g_log\n"
        "for n in range(50): say(b'GStreamer', 8, b'assertion x failed')\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, env=environ, check=True, timeout=30)
    lines = done.stderr.splitlines()
    assert [line[20:] for line in lines[:5]] == ["WARNING glib.GStreamer: assertion x failed"] * 5
    assert lines[5:][0].endswith("45 more like it within a minute, the last: assertion x failed")


def _has_gi(python: str) -> bool:
    code = "import gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst"
    return (
        Path(python).exists() and subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0
    )


# --- the command line ---


def test_with_json_every_line_of_stderr_is_json(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "streamer", "models", "show", str(tmp_path / "no.yaml"), "--log-format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    told = json.loads(line)
    assert told["level"] == "critical"
    assert "no.yaml" in told["message"]
    assert "Error: " in told["cause"]

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from worlds import ManualClock

from streamer.health import Health
from streamer.stats import CameraStats, Stats
from streamer.systemd import Notifier, Watchdog, status_line

FINE = Health(alive=True, ready=True)
HANGS = Health(alive=False, ready=True, troubles=("stage yolo has been working on one batch for 31 s",))


class Systemd:
    """The receiving end, as systemd has it: a datagram socket, at a path or with an abstract name."""

    def __init__(self, name: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self.socket.setblocking(False)
        self.environ = {"NOTIFY_SOCKET": name}

    def heard(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return messages


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    one = Systemd(str(tmp_path / "notify") if request.param == "path" else f"@streamer-test-{os.getpid()}")
    yield one
    one.socket.close()


def test_what_systemd_hears(systemd: Systemd) -> None:
    notifier = Notifier(systemd.environ, ManualClock(seconds=12.5))
    notifier.ready()
    notifier.status("3 cameras\nrunning")
    notifier.watchdog()
    notifier.reloading()
    notifier.stopping()
    assert systemd.heard() == [
        "READY=1",
        "STATUS=3 cameras running",
        "WATCHDOG=1",
        "RELOADING=1\nMONOTONIC_USEC=12500000",
        "STOPPING=1",
    ]
    assert notifier.listened_to


def test_without_systemd_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({})
    notifier.ready()
    Watchdog(notifier).beat(FINE)
    assert not notifier.listened_to
    assert notifier.interval is None
    assert not caplog.records


@pytest.mark.parametrize("name", ["/nowhere/at/all", "vsock:2:1234", "notify"])
def test_a_socket_that_is_none_is_said_once_and_borne(name: str, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": name})
    for _ in range(3):
        notifier.watchdog()
    assert len(caplog.records) == 1
    assert "$NOTIFY_SOCKET" in caplog.text


def test_a_receiver_that_does_not_read_holds_nobody_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    systemd = Systemd(str(tmp_path / "notify"))
    notifier = Notifier(systemd.environ)
    qlen = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text())
    for _ in range(qlen + 5):  # more than a socket holds
        notifier.watchdog()
    assert len(caplog.records) == 1
    systemd.heard()
    notifier.ready()
    assert systemd.heard() == ["READY=1"]
    systemd.socket.close()


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getppid())}, None),  # meant for another process
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_PID": str(os.getpid())}, None),
    ],
)
def test_signs_of_life_are_due_twice_in_the_time_that_systemd_waits(
    environ: dict[str, str], interval: float | None
) -> None:
    assert Notifier(environ).interval == interval


def test_a_watchdog_that_is_too_quick_is_told(caplog: pytest.LogCaptureFixture) -> None:
    Notifier({"WATCHDOG_USEC": "1500000"})
    assert "WatchdogSec=1.5" in caplog.text


def test_signs_of_life_come_in_time_however_late_the_beats_are(systemd: Systemd) -> None:
    clock = ManualClock()
    watchdog = Watchdog(Notifier({**systemd.environ, "WATCHDOG_USEC": "20000000"}, clock), clock)
    signs: list[float] = []
    while clock.seconds < 1100:
        watchdog.beat(FINE)
        signs += [clock.seconds] * systemd.heard().count("WATCHDOG=1")
        clock.advance(1.3)
    gaps = [after - before for before, after in pairwise(signs)]
    assert 8 < max(gaps) <= 10.0, "half of what systemd waits, and no more often than need be"
    assert signs[0] == 1000


def test_signs_of_life_stay_out_while_a_stage_hangs(systemd: Systemd, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    clock = ManualClock()
    watchdog = Watchdog(Notifier({**systemd.environ, "WATCHDOG_USEC": "4000000"}, clock), clock)
    watchdog.beat(FINE)
    assert "WATCHDOG=1" in systemd.heard()
    heard = []
    for _ in range(20):
        clock.advance(1)
        watchdog.beat(HANGS)
        heard += systemd.heard()
    assert "WATCHDOG=1" not in heard
    assert heard[0] == "STATUS=hangs; stage yolo has been working on one batch for 31 s"
    assert [r.levelname for r in caplog.records] == ["ERROR"]
    assert "stage yolo" in caplog.text
    clock.advance(1)
    watchdog.beat(FINE)
    assert "WATCHDOG=1" in systemd.heard()
    assert "alive again" in caplog.text


def test_a_camera_that_is_away_is_no_reason_to_start_anew(systemd: Systemd) -> None:
    watchdog = Watchdog(Notifier({**systemd.environ, "WATCHDOG_USEC": "20000000"}))
    watchdog.beat(Health(alive=True, ready=False, troubles=("gate: retrying: it does not answer",)))
    assert systemd.heard() == ["STATUS=no camera is running; gate: retrying: it does not answer", "WATCHDOG=1"]


def test_what_has_changed_is_told_at_once(systemd: Systemd) -> None:
    clock = ManualClock()
    watchdog = Watchdog(Notifier(systemd.environ, clock), clock)
    for health in (FINE, FINE, Health(alive=True, ready=True, troubles=("redis: refused",)), FINE):
        watchdog.beat(health)
        clock.advance(1)
    assert [line for line in systemd.heard() if line.startswith("STATUS=")] == [
        "STATUS=running",
        "STATUS=running; redis: refused",
        "STATUS=running",
    ]


def test_the_status_is_one_line_with_figures() -> None:
    cameras = {
        "gate": CameraStats("running", fps_out=25.1, dropped={"late": 3, "corrupt": 1}),
        "yard": CameraStats("retrying", error="it does not answer"),
    }
    trouble = Health(alive=True, ready=True, troubles=("yard: retrying: it does not answer",))
    line = status_line(trouble, Stats(0.0, cameras))
    assert line == "1 of 2 cameras running, 25 FPS, 4 frames dropped; yard: retrying: it does not answer"
    one = Stats(0.0, {"gate": CameraStats("running", fps_out=24.9)})
    assert status_line(FINE, one) == "1 camera running, 25 FPS, 0 frames dropped"

"""What people see in the terminal, at 80 columns and at 120, and where there is no terminal."""

from __future__ import annotations

import io
import re
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from streamer.exporters.table import plain, render, screenshot
from streamer.exporters.terminal import LiveTable, ProcessProgress
from streamer.stats import (
    CameraStats,
    GpuStats,
    LatencyTarget,
    NodeStats,
    Percentiles,
    ProcessStats,
    SinkStats,
    Stats,
)

GATE = CameraStats(
    "running",
    fps_in=25.0,
    fps_out=24.9,
    dropped={"late": 12, "corrupt": 1},
    latency_ms=Percentiles(9.31, 18.4, 103.2),
    seen={"person": 5, "car": 2},
)
GARAGE = CameraStats("retrying", error="rtsp://***@10.0.0.5/stream1 cannot be opened: Connection refused", lost=3)
STATS = Stats(
    100.0,
    {"gate": GATE, "garage": GARAGE},
    {"redis": SinkStats("localhost:6379 refuses the connection", 120), "jsonl:gate.jsonl": SinkStats()},
)


class FakeClock:
    """A clock that stands still until it is told otherwise."""

    now = 0.0

    def monotonic_ns(self) -> int:
        return round(self.now * 1e9)

    def time(self) -> float:
        return self.now


def shown(stats: Stats, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(render(stats))
    return capture.get().splitlines()


def row(lines: list[str], camera: str) -> str:
    return next(re.sub(r" +", " ", line).strip() for line in lines if line.strip().startswith(camera))


def terminal() -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=80, force_terminal=True, color_system=None, _environ={"TERM": "xterm"}), file


def call(times: int, function: Callable[[], None]) -> None:
    for _ in range(times):
        function()


def pipe() -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=80, force_terminal=False), file


@pytest.mark.parametrize("width", [80, 120])
def test_a_camera_in_one_row(width: int) -> None:
    lines = shown(STATS, width)
    assert all(len(line) <= width for line in lines)
    assert row(lines, "camera") == "camera state FPS in out dropped p50/95/99 ms seen"
    assert row(lines, "gate") == "gate running 25.0 24.9 13 9.3/18/103 person 5, car 2"


@pytest.mark.parametrize("width", [80, 120])
def test_what_is_wrong_is_said_below(width: int) -> None:
    text = re.sub(r"\s+", " ", " ".join(shown(STATS, width)))
    assert "garage: rtsp://***@10.0.0.5/stream1 cannot be opened: Connection refused" in text
    assert "garage: 3 frames could not be decoded" in text
    assert "redis: localhost:6379 refuses the connection" in text
    assert "redis: 120 results were given up" in text
    assert "writing to jsonl:gate.jsonl" in text


BUSY = replace(
    STATS,
    cameras={
        "front-entrance": replace(GATE, end_to_end_ms=Percentiles(131.2, 188.0, 240.7), dropped={"late": 1203}),
        "yard": CameraStats("paused", dropped={"paused": 2}),
    },
    queues={"camera front-entrance": 2, "stage yolo": 1, "publish": 0},
    batch_size=5.34,
    latency=LatencyTarget(150.0, True, "150 ms held: yolo on one frame in 2"),
    nodes={"actions": NodeStats(12)},
    process=ProcessStats(812.5, 1.43, 812_000_000, 41, 88, 1_790_000_000.0, 0.72),
    gpus={"0": GpuStats("H200", 0.61, None, 3_100_000_000, 139_000_000_000, 45.0), "1": GpuStats("lost")},
)


@pytest.mark.parametrize("width", [80, 120])
def test_everything_at_once_still_fits(width: int) -> None:
    lines = shown(BUSY, width)
    assert all(len(line) <= width for line in lines)
    assert row(lines, "camera") == "camera state FPS in out dropped p50/95/99 ms end to end seen"
    assert row(lines, "front-entr").startswith("front-entra… running 25.0 24.9 1203 9.3/18/103 131/188/241 person 5,")
    assert row(lines, "yard") == "yard paused 0.0 0.0 2"
    text = " ".join(" ".join(lines).split())
    for said in (
        "batches of 5.3; waiting: camera front-entrance 2, stage yolo 1; dropped: late 1203, paused 2; left out: act",
        "latency: 150 ms held: yolo on one frame in 2",
        "process: 143% CPU of a core, 812 MB, 41 threads, 88 files; machine: 72% CPU; GPU 0: 61%, 3.1 of 139 GB, 45",
        "GPU 1: tells nothing",
    ):
        assert said in text


def test_the_latency_target_in_its_own_words_or_ours() -> None:
    missed = replace(BUSY, latency=LatencyTarget(150.0, False, "150 ms cannot be held: take fewer cameras"))
    assert "latency: 150 ms cannot be held: take fewer cameras" in shown(missed, 80)
    silent = replace(BUSY, latency=LatencyTarget(150.0))
    assert "latency: the target of 150 ms is held" in shown(silent, 80)


def test_a_state_that_only_a_newer_streamer_knows_is_shown() -> None:
    assert "resting" in shown(Stats(0, {"a": CameraStats("resting")}), 80)[-1]  # type: ignore[arg-type]  # the point


def test_long_names_leave_room_for_the_figures() -> None:
    many = replace(GATE, seen={"traffic light": 12, "person": 5, "car": 2, "stop sign": 1})
    lines = shown(Stats(0, {"a-very-long-camera-name": replace(many, state="connecting")}), 80)
    assert row(lines, "a-very-long-c…").startswith("a-very-long-c… connecting 25.0 24.9 13 9.3/18/103 traffic light")
    assert "stop sign 1" in " ".join(" ".join(lines).split())


def test_states_differ_in_colour_and_word() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard", _environ={})
    with console.capture() as capture:
        console.print(render(Stats(0, {"a": CameraStats("running"), "b": CameraStats("failed")})))
    assert re.search(r"\x1b\[32mrunning", capture.get())
    assert re.search(r"\x1b\[1;31mfailed", capture.get())


def test_before_the_first_camera() -> None:
    assert shown(Stats(0), 80) == ["no cameras yet"]


@given(st.text(), st.text())
def test_no_text_from_outside_steers_the_terminal(name: str, error: str) -> None:
    stats = Stats(0, {name: CameraStats("failed", error=error)}, {name: SinkStats(error)})
    assert all(c.isprintable() for line in "\n".join(shown(stats, 80)).split("\n") for c in line)
    assert plain(name, stats.cameras[name]).isprintable()


def test_markup_in_names_is_text() -> None:
    assert row(shown(Stats(0, {"[red]x[/]": GATE}), 80), "[red]x[/]")


def test_a_line_for_a_log() -> None:
    assert plain("gate", GATE) == (
        "gate: running, 25.0 FPS in, 24.9 out, 13 dropped (late 12, corrupt 1), latency 9.3/18/103 ms, person 5, car 2"
    )
    assert plain("garage", GARAGE).endswith(
        "0 dropped; rtsp://***@10.0.0.5/stream1 cannot be opened: Connection refused; 3 frames could not be decoded"
    )


def test_the_live_table_stays_in_place_and_ends_with_the_newest() -> None:
    console, file = terminal()
    with LiveTable(console) as table:
        table.export(STATS)
        table.export(replace(STATS, cameras={"gate": replace(GATE, fps_in=7.7)}))
    text = file.getvalue()
    assert "\x1b[1A" in text  # the cursor goes back up
    assert text.rindex("7.7") > text.rindex("25.0 ")


def test_without_a_terminal_a_line_now_and_then_and_one_at_the_end() -> None:
    console, file = pipe()
    with LiveTable(console, every=5) as table:
        for second in range(8):
            gate = replace(GATE, fps_in=float(second))
            table.export(Stats(100.0 + second, {"gate": gate}, {"redis": SinkStats("away")}))
    lines = file.getvalue().splitlines()
    assert [line.partition(" FPS in")[0] for line in lines[::2]] == [f"gate: running, {n}.0" for n in (0, 5, 7)]
    assert lines[1] == "redis: away"
    assert "\x1b" not in file.getvalue()


def test_progress_without_a_terminal() -> None:
    console, file = pipe()
    clock = FakeClock()
    with ProcessProgress(2, console, clock, every=5) as progress:
        progress.start("a", frames=1000)
        for _ in range(600):
            clock.now += 0.01
            progress.advance()
        progress.start("b", frames=None, done=40)
        clock.now += 2
        progress.advance(20)
    first, *rest = file.getvalue().splitlines()
    assert re.fullmatch(r"1/2 a: 50[01] of 1000 frames, 100 FPS, 0:00:05 left", first)
    assert rest == ["a: 600 of 1000 frames, 100 FPS, 0:00:06", "b: 60 frames, 40 of them earlier, 10 FPS, 0:00:02"]


def test_progress_on_a_terminal_is_a_bar_and_then_a_line_a_file() -> None:
    console, file = terminal()
    clock = FakeClock()
    with ProcessProgress(3, console, clock) as progress:
        progress.start("street", frames=795, done=95)
        for _ in range(300):
            clock.now += 0.02
            progress.advance()
        assert re.search(r"1/3 street ━+.* 39\d of 795 frames 50 FPS 0:00:0\d left", file.getvalue())
    assert "street: 395 of 795 frames, 95 of them earlier, 50 FPS, 0:00:06" in file.getvalue()
    assert "━" not in file.getvalue().rpartition("street: ")[2]  # the bar is gone


def test_a_container_that_promises_too_few_frames_does_not_break_the_bar() -> None:
    for console, file in (terminal(), pipe()):
        clock = FakeClock()
        with ProcessProgress(1, console, clock, every=1) as progress:
            progress.start("a", frames=1)
            for _ in range(3):
                clock.now += 1
                progress.advance()
        assert "a: 3 of 3 frames, 1 FPS, 0:00:03" in file.getvalue()


def test_progress_counts_what_many_threads_tell_it() -> None:
    console, file = pipe()
    with ProcessProgress(1, console, FakeClock()) as progress:
        progress.start("a", frames=None)
        threads = [threading.Thread(target=call, args=(500, progress.advance)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert "a: 2000 frames" in file.getvalue()


def test_nothing_started_nothing_said() -> None:
    console, file = pipe()
    with ProcessProgress(1, console, FakeClock()) as progress:
        progress.advance()
    assert file.getvalue() == ""


def test_a_screenshot_is_a_picture_of_the_table(tmp_path: Path) -> None:
    screenshot(STATS, tmp_path / "table.svg")
    first = (tmp_path / "table.svg").read_text()
    assert ET.fromstring(first).tag.endswith("svg")
    assert "gate" in first
    assert "retrying" in first
    screenshot(STATS, tmp_path / "table.svg")
    assert (tmp_path / "table.svg").read_text() == first

"""Four cameras that die every 20 s, a Redis that dies every 45 s, and a streamer that must not notice for long.

Two minutes by default; `make soak` takes twenty (STREAMER_SOAK=1200).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flappy
import pytest
import rtsp

from streamer.embedded import EmbeddedRedis

SUPPORT = Path(__file__).resolve().parents[1] / "support"
SECONDS = float(os.environ.get("STREAMER_SOAK", "120"))
CAMERAS, CAMERA_LIVES, REDIS_LIVES = 4, 20.0, 45.0
WARM_UP = 40  # seconds: each camera has died twice, and every buffer has been as full as it gets


@contextmanager
def mortal_redis() -> Iterator[str]:
    """A server that is killed and comes back, empty, on the same port."""
    over = threading.Event()
    server = EmbeddedRedis()
    server.__enter__()

    def kill() -> None:
        while not over.wait(REDIS_LIVES):
            server.__exit__(None, None, None)
            over.wait(2.0)
            server.__enter__()

    reaper = threading.Thread(target=kill)
    reaper.start()
    try:
        yield server.url
    finally:
        over.set()
        reaper.join()
        server.__exit__(None, None, None)


@pytest.fixture(scope="module")
def soaked() -> dict[str, Any]:
    if reason := rtsp.missing():
        pytest.skip(reason)
    with flappy.cameras(CAMERAS, CAMERA_LIVES, away=1.0) as urls, mortal_redis() as redis:
        done = subprocess.run(
            [sys.executable, SUPPORT / "soaking.py", str(SECONDS), redis, *urls],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(SUPPORT), str(SUPPORT.parents[1])])},
            capture_output=True,
            text=True,
            timeout=SECONDS + 120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print({key: value for key, value in result.items() if key not in ("resident", "threads", "files")})
    return result


def test_every_camera_came_back_each_time(soaked: dict[str, Any]) -> None:
    lives = SECONDS / (CAMERA_LIVES + 1.0)
    assert len(soaked["opened"]) == CAMERAS
    assert min(soaked["opened"].values()) >= lives - 1
    assert min(soaked["grabbed"].values()) > 0.5 * SECONDS * 15


def test_no_frame_is_doubled_and_every_gap_is_a_drop(soaked: dict[str, Any]) -> None:
    for camera, line in soaked["lines"].items():
        dropped = soaked["dropped"].get(camera, 0)
        assert line["doubled"] == 0
        assert line["gaps"] <= dropped  # what was dropped at the very end leaves no gap
        assert line["published"] + dropped == soaked["grabbed"][camera]


def test_every_result_arrived_or_was_given_up_and_counted(soaked: dict[str, Any]) -> None:
    published = sum(line["published"] for line in soaked["lines"].values())
    assert soaked["written"] + soaked["given_up"] == published
    assert soaked["written"] > 0.8 * published


def test_memory_does_not_grow(soaked: dict[str, Any]) -> None:
    settled = soaked["resident"][WARM_UP:]
    third = len(settled) // 3
    first, last = max(settled[:third]), max(settled[-third:])
    print(f"resident after warm-up {first / 2**20:.1f} MB, at the end {last / 2**20:.1f} MB: {last / first - 1:+.2%}")
    assert last < 1.02 * first


def test_threads_and_files_return_to_their_number(soaked: dict[str, Any]) -> None:
    for kind in ("threads", "files"):
        settled = soaked[kind][WARM_UP:]
        third = len(settled) // 3
        assert max(settled[-third:]) <= max(settled[:third]) + 1, kind
    assert soaked["after"][0] <= soaked["before"][0] + 1  # OpenCV's or the engine's own pool may stay
    assert soaked["after"][1] <= soaked["before"][1] + 4

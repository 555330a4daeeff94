from __future__ import annotations

import pytest

from streamer.events import CameraStatus
from streamer.health import Health, health_of
from streamer.stats import CameraStats, LatencyTarget, SinkStats, Stats


def cameras(*states: CameraStatus) -> Stats:
    return Stats(0.0, {f"c{number}": CameraStats(state, "refused") for number, state in enumerate(states)})


def test_all_is_well() -> None:
    assert health_of(Stats(0.0, {"gate": CameraStats("running")}), {"stage yolo": 0.1}, 30.0) == Health(True, True)


def test_a_thread_that_hangs_is_named() -> None:
    health = health_of(Stats(0.0), {"stage yolo": 34.2, "publish": 29.9, "batch": 0.0}, 30.0)
    assert health == Health(False, True, ("stage yolo has been working on one batch for 34 s",))


@pytest.mark.parametrize(
    ("states", "ready"),
    [
        ((), True),
        (("connecting",), False),
        (("retrying", "failed"), False),
        (("retrying", "running"), True),
        (("paused", "paused"), True),
        (("paused", "retrying"), False),
        (("ended",), True),
    ],
)
def test_ready_is_when_a_camera_runs_or_none_should(states: tuple[CameraStatus, ...], ready: bool) -> None:
    assert health_of(cameras(*states), {}, 30.0).ready is ready


def test_troubles_are_sentences_in_order_of_weight() -> None:
    stats = Stats(
        0.0,
        {
            "gate": CameraStats("retrying", "no route to host"),
            "yard": CameraStats("connecting"),
            "dock": CameraStats("connecting", "no frame for 4 s"),
        },
        {"redis": SinkStats("localhost:6379 cannot be reached"), "jsonl": SinkStats()},
        latency=LatencyTarget(150.0, False, "yolo alone takes 210 ms"),
    )
    assert health_of(stats, {"publish": 31.0}, 30.0).troubles == (
        "publish has been working on one batch for 31 s",
        "gate: retrying: no route to host",
        "dock: connecting: no frame for 4 s",
        "redis: localhost:6379 cannot be reached",
        "latency: yolo alone takes 210 ms",
    )


def test_whoever_is_not_ready_says_why() -> None:
    assert health_of(Stats(0.0, {"gate": CameraStats("connecting")}), {}, 30.0).troubles == (
        "no camera has connected yet",
    )

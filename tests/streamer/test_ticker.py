from __future__ import annotations

import threading

import pytest

from streamer.errors import SinkError
from streamer.exporters.ticker import exporting
from streamer.stats import Stats


def test_exports_again_and_again_and_once_more_at_the_end() -> None:
    got: list[float] = []
    twice = threading.Event()

    def export(stats: Stats) -> None:
        got.append(stats.at)
        if len(got) == 2:
            twice.set()

    moments = iter(range(1_000_000))
    with exporting(lambda: Stats(float(next(moments))), export, interval=0.001):
        assert twice.wait(10)
    assert len(got) >= 3
    assert got == sorted(got)


def test_a_failure_is_said_once_until_it_works_again(caplog: pytest.LogCaptureFixture) -> None:
    calls = 0
    done = threading.Event()

    def export(_: Stats) -> None:
        nonlocal calls
        calls += 1
        if calls >= 8:
            done.set()
        if calls not in (4, 5):
            raise SinkError("refused")

    with exporting(lambda: Stats(0.0), export, interval=0.001):
        assert done.wait(10)
    assert len([r for r in caplog.records if "refused" in r.message]) == 2

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


@pytest.mark.parametrize("where", ["read", "export"])
def test_an_error_that_nobody_expects_is_said_with_its_traceback_and_tried_again(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    calls = 0
    done = threading.Event()

    def odd(step: str) -> None:
        nonlocal calls
        if step != where:
            return
        calls += 1
        if calls >= 5:
            done.set()
        raise ZeroDivisionError("odd")

    def read() -> Stats:
        odd("read")
        return Stats(0.0)

    with exporting(read, lambda _: odd("export"), interval=0.001):
        assert done.wait(10)
    (said,) = caplog.records
    assert said.exc_info is not None
    assert said.exc_info[0] is ZeroDivisionError
    assert "odd" in said.message


def test_a_second_kind_of_failure_is_said_as_well(caplog: pytest.LogCaptureFixture) -> None:
    failures = iter([SinkError("refused"), SinkError("refused"), ZeroDivisionError("odd"), OSError("gone")])
    done = threading.Event()

    def export(_: Stats) -> None:
        for failure in failures:
            raise failure
        done.set()

    with exporting(lambda: Stats(0.0), export, interval=0.001):
        assert done.wait(10)
    assert [r.levelname for r in caplog.records] == ["WARNING", "ERROR", "WARNING"]

"""A camera's clock is believed as long as it can be right, and never runs backwards."""

from __future__ import annotations

import logging
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import ManualClock

from streamer.sources.capture_time import CaptureClock, unix_of_ntp


@pytest.mark.parametrize(
    ("ahead", "trusted"),
    [
        pytest.param(0.0, True, id="exact"),
        pytest.param(-0.4, True, id="on its way for 400 ms"),
        pytest.param(-9.9, True, id="on its way for long"),
        pytest.param(-10.1, False, id="too long"),
        pytest.param(0.9, True, id="a little ahead"),
        pytest.param(1.1, False, id="in the future"),
        pytest.param(-3600.0, False, id="winter time"),
        pytest.param(-1.79e9, False, id="1970"),
    ],
)
def test_what_can_be_right_is_believed(ahead: float, trusted: bool) -> None:
    clock = ManualClock()
    said = clock.time() + ahead
    assert CaptureClock("gate", clock).captured_at(said) == (said if trusted else None)


def test_a_wrong_clock_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    capture = CaptureClock("gate", clock)
    with caplog.at_level(logging.WARNING):
        assert [capture.captured_at(clock.time() - 3600) for _ in range(3)] == [None] * 3
        capture.captured_at(clock.time() + 60)
    (record,) = caplog.records
    assert record.getMessage().startswith("gate: its clock is 3600 s behind this machine's")
    assert "set NTP on the camera" in record.getMessage()
    assert record.__dict__["camera"] == "gate"


def test_without_a_report_arrival_counts() -> None:
    assert CaptureClock("gate", ManualClock()).captured_at(None) is None


@given(st.lists(st.none() | st.floats(-20, 5), max_size=20))
def test_it_never_runs_backwards(offsets: list[float | None]) -> None:
    clock = ManualClock()
    capture = CaptureClock("gate", clock)
    times = [capture.captured_at(None if offset is None else clock.time() + offset) for offset in offsets]
    trusted = [time for time in times if time is not None]
    assert all(before <= after for before, after in pairwise(trusted))


def test_ntp_counts_from_1900() -> None:
    assert unix_of_ntp(2_208_988_800.25) == 0.25

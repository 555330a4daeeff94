"""Faults that are put in on purpose, into the streamer itself: each must be found, by the row that is about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import oracles
import pytest
from av import VideoFrame

from engines.motion import DecodeFlow
from engines.types import Float, Flow, Geometry, Image
from streamer.clock import SystemClock
from streamer.selftest import cameras
from streamer.selftest.accuracy import Course, accuracy_rows
from streamer.selftest.expected import Expected, Recorded, definition, key, printed, weights_of
from streamer.selftest.fidelity import decoder_rows, watch
from streamer.selftest.films import Footage
from streamer.selftest.lineup import Lineup
from streamer.selftest.live import run_live
from streamer.selftest.liverows import live_rows, truth_row
from streamer.selftest.recorded import Place
from streamer.selftest.rows import Row
from streamer.selftest.variants import REFERENCE
from streamer.sources import av
from streamer.sources.convert import to_rgb
from streamer.sources.mediatime import MediaTime

Footages = tuple[Footage, ...]


def by_figure(rows: Iterable[Row]) -> Mapping[str, Row]:
    return {row.figure: row for row in rows}


@pytest.fixture
def course(footage: Footages, lineup: Lineup) -> Course:
    """Films, and models of which all is expected that can be."""
    perfect = {"mAP50": 100.0, "IDF1": 90.0, "EPE, of zero's": 30.0}
    figures = {
        key(lineup, each): Recorded(perfect[each.name], weights_of(lineup.networks(each)) or {})
        for each in lineup.figures
    }
    prints = {each.film.name: printed(each) for each in footage}
    return Course(footage, lineup, Expected(prints, definition([each.film for each in footage], lineup), figures))


def accuracy(course: Course, place: Place) -> Mapping[str, Row]:
    return by_figure(accuracy_rows(course, REFERENCE, place, lambda _: None))


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> None:
    """Play films from files: then clocks are this process's own, and tests need no GStreamer."""
    monkeypatch.setattr(cameras, "_python", lambda: None)


def live(course: Course, place: Place) -> Mapping[str, Row]:
    lived = run_live(course.footage, course.lineup, place, lambda _: None)
    return by_figure([*live_rows(lived), truth_row(lived, "yolox", 100.0)])


# --- nothing is wrong ---


def test_the_decoder_gives_what_was_filmed(footage: Footages) -> None:
    rows = by_figure(decoder_rows([watch(each) for each in footage]))
    assert [row.verdict for row in rows.values()] == ["right"] * 3
    assert rows["frames"].measured == sum(each.film.frames for each in footage)


def test_models_that_know_the_truth_are_right(course: Course, place: Place) -> None:
    rows = accuracy(course, place)
    assert {name: row.verdict for name, row in rows.items()} == dict.fromkeys(rows, "right")
    assert rows["mAP50"].measured == pytest.approx(100, abs=0.5)
    assert all(row.fps and row.latency_ms and row.runtime == "onnxruntime" for row in rows.values())


def test_a_live_run_loses_no_frame_and_no_time(course: Course, place: Place, played: None) -> None:
    rows = live(course, place)
    assert {row.verdict for row in rows.values()} <= {"right", "told"}, rows


# --- something is ---


def test_swapped_colour_channels_are_seen_in_the_pictures(footage: Footages, monkeypatch: pytest.MonkeyPatch) -> None:
    def swapped(frame: VideoFrame, size: tuple[int, int] | None) -> Image:
        return np.ascontiguousarray(to_rgb(frame, size)[..., ::-1])

    monkeypatch.setattr(av, "to_rgb", swapped)
    rows = by_figure(decoder_rows([watch(each) for each in footage]))
    assert rows["PSNR"].verdict == "short"
    assert "red" in rows["PSNR"].why
    assert rows["pts off by"].good


def test_boxes_off_by_the_letterbox_are_seen_in_the_boxes(
    course: Course, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_offset(self: Geometry, xyxy: Float) -> Float:
        return np.asarray(xyxy / np.array(self.scale_xy * 2), np.float32)

    monkeypatch.setattr(Geometry, "unclipped", without_offset)
    rows = accuracy(course, place)
    assert rows["mAP50"].verdict == "short"
    assert rows["EPE, of zero's"].good


def test_u_and_v_exchanged_are_seen_in_the_flow(course: Course, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = DecodeFlow._decode

    def exchanged(self: DecodeFlow, field: Float, geometry: Geometry) -> Flow:
        flow = decode(self, field, geometry)
        return replace(flow, uv=np.ascontiguousarray(flow.uv[..., ::-1]))

    monkeypatch.setattr(DecodeFlow, "_decode", exchanged)
    rows = accuracy(course, place)
    assert rows["EPE, of zero's"].verdict == "short"
    assert rows["mAP50"].good


def test_an_engine_of_other_weights_is_seen_in_what_it_finds(
    course: Course, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights on disk are the right ones: what is opened in their place knows another world."""
    north, south = course.footage
    other = (replace(north, moments=south.moments), replace(south, moments=north.moments))
    oracles.install(monkeypatch, other)
    rows = accuracy(course, place)
    assert rows["mAP50"].verdict == rows["IDF1"].verdict == "short"


def test_media_time_that_stands_still_is_seen_by_the_decoder(
    footage: Footages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MediaTime, "place", lambda self, stamp: (0.0, False))
    rows = by_figure(decoder_rows([watch(each) for each in footage]))
    assert rows["pts off by"].verdict == "short"
    assert rows["PSNR"].good


def test_media_time_that_stands_still_is_seen_live(
    course: Course, place: Place, played: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    place_frame = MediaTime.place

    def slow(self: MediaTime, stamp: float | None) -> tuple[float, bool]:
        pts, breaks = place_frame(self, stamp)
        return pts / 50, breaks

    monkeypatch.setattr(MediaTime, "place", slow)
    rows = live(course, place)
    assert rows["pts off by"].verdict == "short"
    assert rows["yolox mAP50, by pts"].verdict == "short"


def test_a_clock_on_the_wall_that_stands_still_is_seen_live(
    course: Course, place: Place, played: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = SystemClock().time()
    monkeypatch.setattr(SystemClock, "time", lambda _: now)
    rows = live(course, place)
    assert rows["captured_at, s a second"].verdict == "short"
    assert rows["pts off by"].good

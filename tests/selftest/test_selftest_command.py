"""`streamer selftest` as its users meet it: a table or JSON, an exit code, and nothing left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import oracles
import pytest
import redis
import rtsp

from engines import zoo
from engines.manifest import find
from streamer.cli import main
from streamer.selftest import cameras, expected, run
from streamer.selftest.expected import Expected, definition, key, weights_of
from streamer.selftest.films import FILMS, Footage
from streamer.selftest.lineup import Lineup
from streamer.selftest.live import run_live
from streamer.selftest.liverows import live_rows
from streamer.selftest.recorded import Place
from streamer.selftest.variants import Variant

Footages = tuple[Footage, ...]
Plans = Callable[..., run.Plan]
_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def plan(recorded: Expected, lineup: Lineup) -> run.Plan:
    """Plan the small films, with figures as they were recorded of the same models."""
    return run.Plan([Variant("onnxruntime", "fp32")], recorded, oracles.FILMS, lineup)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "_python", lambda: None)


def test_all_is_right_and_nothing_is_left_in_redis(plan: run.Plan, redis_url: str, played: None) -> None:
    connection = redis.Redis.from_url(redis_url)
    before = set(connection.keys())
    said: list[str] = []
    report = run.selftest(plan, redis_url, said.append)
    assert report.good, [row for row in report.rows if row.verdict not in ("right", "told")]
    assert {row.what.partition(",")[0] for row in report.rows} >= {"decoder", "live"}
    assert len([row for row in report.rows if row.runtime == "onnxruntime" and row.figure == "IDF1"]) == 1
    assert set(connection.keys()) == before
    assert any("filming 2 worlds" in line for line in said)


def test_other_films_than_were_recorded_are_said_to_be(plan: run.Plan, redis_url: str, played: None) -> None:
    old = replace(plan.expected, prints=dict.fromkeys(plan.expected.prints, "00" * 36))
    report = run.selftest(replace(plan, expected=old), redis_url, lambda _: None)
    stale = [row for row in report.rows if row.verdict == "stale"]
    assert [row.what for row in stale][:1] == ["films"]
    assert len(stale) == 1 + len(plan.lineup.figures)
    assert not report.good


def test_a_machine_without_any_weights_is_told_so(
    plan: run.Plan, lineup: Lineup, redis_url: str, tmp_path: Path
) -> None:
    told = Path(str(lineup.nodes["yolox"]["model"])).read_text()
    (tmp_path / "gone.yaml").write_text(told.replace("yolox-pico.onnx", "gone.onnx"))
    nodes = {**lineup.nodes, "yolox": {**lineup.nodes["yolox"], "model": str(tmp_path / "gone.yaml")}}
    only = replace(lineup.only(each for each in lineup.figures if each.node != "flow"), nodes=nodes)
    report = run.selftest(replace(plan, lineup=only), redis_url, lambda _: None)
    assert [row.verdict for row in report.rows if row.what.startswith("yolox") or "on" in row.what][-2:] == [
        "missing"
    ] * 2
    assert not report.good


# --- the command ---


@pytest.fixture
def command(plan: run.Plan, played: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command test the small films."""
    monkeypatch.setattr(run, "Plan", lambda variants, told: replace(plan, variants=variants, expected=told))
    monkeypatch.setattr(expected, "read", lambda: plan.expected)


def test_json_is_all_that_is_on_stdout(command: None, redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["selftest", "--json", "--runtime", "onnxruntime", "--redis", redis_url])
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert (code, told["good"]) == (0, True)
    assert {"what", "figure", "runtime", "precision", "measured", "expected", "fps", "latency_ms", "verdict"} <= set(
        told["rows"][0]
    )
    assert "filming" in err


def test_one_short_figure_fails_and_says_why(
    command: None, plan: run.Plan, redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = {
        name: replace(one, value=one.value + 20) for name, one in plan.expected.figures.items() if "IDF1" in name
    }
    worse = replace(plan.expected, figures={**plan.expected.figures, **figures})
    monkeypatch.setattr(expected, "read", lambda: worse)
    assert main(["selftest", "--runtime", "onnxruntime", "--redis", redis_url]) == 1
    out, err = capsys.readouterr()
    assert "short" in out
    assert "1 of" in out
    assert [line for line in err.splitlines() if line.startswith("streamer: tracks on yolox-pico, IDF1 in onnxruntime")]


@pytest.mark.parametrize("words", [["--runtime", "onnxruntime", "--precision", "bf16"], ["--redis", "http://no"]])
def test_what_cannot_be_tested_is_wrong_input(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", *words]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_it_measures_with_must_be_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("streamer.cli.selftest.find_spec", lambda _: None)
    assert main(["selftest"]) == 2
    assert "pip install 'streamer[eval]'" in capsys.readouterr().err


# --- over RTSP ---


def test_films_come_over_rtsp_where_gstreamer_serves_them(footage: Footages, lineup: Lineup, place: Place) -> None:
    if (lacking := rtsp.missing()) is not None:
        pytest.skip(lacking)
    lived = run_live(footage, lineup, place, lambda _: None)
    rows = {row.figure: row for row in live_rows(lived)}
    assert lived.how == "RTSP"
    assert all(row.good for row in rows.values()), rows
    assert sum(camera.grabbed for camera in lived.stats.cameras.values()) == sum(each.film.frames for each in footage)


def test_a_server_that_does_not_start_is_no_fault_of_ours(
    footage: Footages, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "server.py"
    broken.write_text("raise SystemExit('no GStreamer')")
    monkeypatch.setattr(cameras, "_SERVER", broken)
    monkeypatch.setattr(cameras, "_python", lambda: sys.executable)
    with cameras.live_cameras(footage) as found:
        assert found.how == "files at their own speed"
        assert all(camera["realtime"] for camera in found.told.values())


# --- the models that come with us ---


def test_what_is_expected_is_of_what_comes_with_us() -> None:
    """The file is recorded again with every change of the films, of the lineup and of the weights."""
    absent = [each.name for figure in Lineup().figures for each in Lineup().networks(figure) if not _shipped(each.name)]
    if absent:
        pytest.skip(f"config/weights holds no {absent[0]}.onnx: train and adopt it")
    told = expected.read()
    assert told.definition == definition(FILMS, Lineup())
    for figure in Lineup().figures:
        assert told.of(key(Lineup(), figure), weights_of(Lineup().networks(figure)) or {}) is not None, figure


def _shipped(name: str) -> bool:
    return zoo.find_local(find(name), environ={"XDG_CACHE_HOME": "/nowhere"}) is not None


@pytest.mark.parametrize("words", [[], ["--runtime", "pytorch"], ["--precision", "int8"]], ids=" ".join)
def test_the_whole_of_it_finds_this_machine_right(words: Sequence[str]) -> None:
    """In a process of its own, where no model is an oracle: as whoever starts it would, and what has to be named."""
    if not expected.FILE.is_file():
        pytest.skip(f"there is no {expected.FILE.name}: python -m streamer.selftest.record")
    command = [sys.executable, "-m", "streamer", "selftest", "--json", *words]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    told = [row for row in json.loads(done.stdout)["rows"] if row["runtime"]]
    rows = [row for row in told if not row["what"].startswith("live")]  # live, the machine chooses by itself
    assert {row["figure"] for row in rows} >= {"mAP50"}
    assert all(row[name.removeprefix("--")] == value for row in rows for name, value in pairwise(words))

"""The demo where its video or its model cannot be had: a made-up city, through whatever of ours is here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engines import zoo
from engines.errors import WeightsError
from streamer import config
from streamer.cli import demo, main
from streamer.errors import InputError

_AWAY = "redis://127.0.0.1:9/0"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show less of the city, and as fast as it is read."""
    monkeypatch.setattr(demo, "_CITY", "synthetic://city?objects=4&seed=2000005&size=320x180&fps=15&frames=12")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have the clip, but no weights, and nowhere to fetch them from."""
    clip = tmp_path / "bikes.mp4"
    clip.touch()

    def nowhere(*_: object, **__: object) -> Path:
        raise WeightsError("yolox_nano.onnx is not on this machine and there is no network")

    monkeypatch.setattr(demo, "sample_clip", lambda: clip)
    monkeypatch.setattr(zoo, "locate", nowhere)


def models(monkeypatch: pytest.MonkeyPatch, *here: str) -> None:
    monkeypatch.setattr(demo, "_here", lambda name: name in here)


def test_without_network_the_truth_is_shown_where_no_model_is_here(
    short: None, offline: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models(monkeypatch)
    assert main(["demo", "--out", str(tmp_path / "o"), "--redis", _AWAY]) == 0
    out, err = capsys.readouterr()
    (said,) = [line for line in err.splitlines() if "instead" in line]
    assert "no network; showing a made-up city instead" in said
    assert "what is shown is the truth itself" in err
    assert "streamer:results:city, 12 messages" in out
    lines = [json.loads(line) for line in (tmp_path / "o" / "city.jsonl").read_text().splitlines()]
    assert len(lines) == 12
    assert all(line["results"]["truth"]["items"] for line in lines)
    assert (tmp_path / "o" / "city.mp4").stat().st_size


def test_without_its_clip_it_shows_the_city_too(
    short: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent() -> Path:
        raise InputError("the demo's clip is not installed")

    models(monkeypatch)
    monkeypatch.setattr(demo, "sample_clip", absent)
    assert main(["demo", "--out", str(tmp_path), "--redis", _AWAY]) == 0
    assert "the demo's clip is not installed; showing a made-up city instead" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("here", "nodes"),
    [
        (("yolox-pico", "ssd-pico", "r3d-pico"), {"yolo": "yolox-pico", "actions": "r3d-pico"}),
        (("ssd-pico",), {"yolo": "ssd-pico"}),
        (("r3d-pico",), {}),
    ],
)
def test_what_is_here_looks_at_the_city(
    here: tuple[str, ...], nodes: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    models(monkeypatch, *here)
    settings = demo.pipeline(demo.of_city(), tmp_path, _AWAY, [])
    looking = (config.FindObjects, config.Recognise)
    assert {name: node.model for name, node in settings.nodes.items() if isinstance(node, looking)} == nodes
    assert any(isinstance(node, config.Track) for node in settings.nodes.values()) == bool(nodes)


def test_a_video_that_was_named_is_not_replaced(
    offline: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", str(tmp_path / "absent.mp4"), "--redis", _AWAY]) == 2
    err = capsys.readouterr().err
    assert "there is no file" in err
    assert "instead" not in err

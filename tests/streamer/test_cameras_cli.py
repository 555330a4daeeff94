"""`streamer cameras` as its users meet it, beside a real pipeline and a real Redis."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from redisworld import eventually, raw
from services import LIVE, running, settings

from streamer.cli import main
from streamer.service import Service


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str


Ask = Callable[..., Ended]


@pytest.fixture
def ask(redis_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Call `streamer cameras` for this test's Redis."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("REDIS_URL", redis_url)

    def call(*words: str) -> Ended:
        code = main(["cameras", *words])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Ended(code, out, err)

    return call


def listeners(url: str) -> int:
    with raw(url) as server:
        return int(server.pubsub_numsub("streamer:control")[0][1])


@pytest.fixture
def service(redis_url: str) -> Iterator[Service]:
    sinks = [{"kind": "redis", "url": redis_url}]
    with running(settings({"gate": LIVE}, publish=sinks), name="door") as service:
        eventually(lambda: listeners(redis_url), "a listener")
        yield service


def test_a_camera_comes_and_goes(service: Service, ask: Ask) -> None:
    ended = ask("add", "yard", LIVE, "--set", "fps=5", "--set", "reconnect.max_delay=9s")
    assert (ended.code, ended.out) == (0, "")
    assert "door: add yard: done; it has gate, yard" in ended.err
    camera = service.cameras()["yard"]
    assert (camera.url, camera.fps, camera.reconnect.max_delay) == (LIVE, 5, 9)
    eventually(lambda: "yard" in (listed := ask("list").out) and "running" in listed, "the camera in the list")
    assert ask("pause", "yard").code == 0
    assert "paused" in ask("list").out
    assert ask("resume", "yard").code == 0
    assert ask("remove", "yard").code == 0
    assert set(service.cameras()) == {"gate"}


def test_json_is_one_answer_a_line(service: Service, ask: Ask) -> None:
    (line,) = ask("list", "--json").out.splitlines()
    answer = json.loads(line)
    assert answer["pipeline"] == "door"
    assert answer["cameras"]["gate"]["url"] == LIVE


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("remove", "gatte"), "door: there is no camera 'gatte'; there are: gate"),
        (("add", "x", "rstp://me:s3cret@h/"), "did you mean rtsp://?"),
        (("add", "x", LIVE, "--set", "fsp=5"), "did you mean 'fps'?"),
        (("add", "x", LIVE, "--set", "fps"), "write it as KEY=VALUE"),
        (("add", "x", LIVE, "--set", "fps=2024-01-01"), "fps"),
    ],
)
def test_what_is_refused_is_wrong_input(service: Service, ask: Ask, words: tuple[str, ...], said: str) -> None:
    ended = ask(*words)
    assert ended.code == 2
    (fault,) = [line for line in ended.err.splitlines() if line.startswith("streamer: ")]
    assert said in fault
    assert "s3cret" not in fault


def test_nobody_listens(ask: Ask) -> None:
    ended = ask("list")
    assert ended.code == 1
    assert "no pipeline listens" in ended.err


def test_no_redis(ask: Ask) -> None:
    ended = ask("add", "x", LIVE, "--redis", "redis://127.0.0.1:9")
    assert ended.code == 2
    assert "cannot be reached" in ended.err


def test_of_several_pipelines_add_wants_to_know_which(service: Service, ask: Ask, redis_url: str) -> None:
    sinks = [{"kind": "redis", "url": redis_url}]
    with running(settings({"lobby": LIVE}, publish=sinks), name="hall") as other:
        eventually(lambda: listeners(redis_url) == 2, "two listeners")
        ended = ask("add", "yard", LIVE)
        assert ended.code == 2
        assert "door, hall; say with --pipeline which one is meant" in ended.err
        assert ask("add", "yard", LIVE, "--pipeline", "hall").code == 0
        assert "yard" in other.cameras()
        assert "yard" not in service.cameras()
        ended = ask("pause", "lobby")  # only one of them has it, and that is enough
        assert ended.code == 0
        assert "hall: pause lobby: done" in ended.err
        listed = ask("list").out
    assert "door" in listed
    assert "hall" in listed

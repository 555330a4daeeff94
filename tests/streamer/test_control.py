"""Control messages over a real Redis: what a running pipeline does, and what it answers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redisworld import eventually, raw
from services import LIVE, Recorder, running, settings

from streamer import client
from streamer.backoff import Backoff
from streamer.client import Unanswered, aio, control
from streamer.control import Desk, listening
from streamer.embedded import EmbeddedRedis
from streamer.errors import SinkUnusable
from streamer.service import Service
from streamer.wire.base import WireError
from streamer.wire.link import Away, Timeouts
from streamer.wire.subscription import Subscription

SECRET = "s3cret"


def listeners(url: str, prefix: str = "streamer:") -> int:
    with raw(url) as server:
        return int(dict(server.pubsub_numsub(f"{prefix}control"))[f"{prefix}control".encode()])


def publishing(url: str, **sink: Any) -> list[dict[str, Any]]:
    return [{"kind": "redis", "url": url, **sink}]


@pytest.fixture
def service(redis_url: str) -> Iterator[Service]:
    """A pipeline called "p" that listens."""
    with running(settings({"gate": LIVE}, publish=publishing(redis_url))) as service:
        eventually(lambda: listeners(redis_url), "a listener")
        yield service


def send(url: str, message: bytes, request: str = "r1") -> dict[str, Any]:
    """Send any bytes, and wait for the answer."""
    with raw(url) as server:
        server.publish("streamer:control", message)
        popped = server.blpop([f"streamer:control:{request}"], 5)
    assert popped is not None, "no answer"
    answer: dict[str, Any] = json.loads(popped[1])
    return answer


# --- what can be asked for ---


def test_cameras_are_added_aimed_paused_resumed_and_removed(service: Service, redis_url: str) -> None:
    (answer,) = control(redis_url, "add", "yard", {"url": LIVE, "fps": 5, "reconnect": {"max_delay": "9s"}})
    assert (answer.ok, answer.pipeline, set(answer.cameras)) == (True, "p", {"gate", "yard"})
    assert service.cameras()["yard"].reconnect.max_delay == 9
    eventually(lambda: control(redis_url, "list")[0].cameras["yard"].state == "running", "the camera to run")
    (answer,) = control(redis_url, "pause", "yard")
    assert answer.cameras["yard"].state == "paused"
    (answer,) = control(redis_url, "resume", "yard")
    assert answer.cameras["yard"].state in ("connecting", "running")
    (answer,) = control(redis_url, "add", "yard", {"url": "synthetic://?size=96x64"})
    assert answer.cameras["yard"].url == "synthetic://?size=96x64"
    (answer,) = control(redis_url, "remove", "yard")
    assert set(answer.cameras) == {"gate"} == set(service.pipeline.cameras)


def test_asyncio_has_the_same(service: Service, redis_url: str) -> None:
    (answer,) = asyncio.run(aio.control(redis_url, "list"))
    assert set(answer.cameras) == {"gate"}
    with pytest.raises(Unanswered, match="no pipeline listens"):
        asyncio.run(aio.control(redis_url, "list", prefix="other:"))


def test_the_message_is_as_it_is_documented(service: Service, redis_url: str) -> None:
    request = {"schema": 1, "id": "r1", "command": "add", "camera": "yard", "settings": {"url": LIVE}}
    answer = send(redis_url, json.dumps(request).encode())
    assert list(answer) == ["schema", "id", "pipeline", "ok", "cameras"]
    assert answer["cameras"]["gate"].keys() >= {"url", "state", "fps_in", "fps_out"}
    with raw(redis_url) as server:
        server.publish("streamer:control", json.dumps({**request, "id": "r2"}))
        eventually(lambda: server.exists("streamer:control:r2"), "the answer")
        assert 50 < server.ttl("streamer:control:r2") <= 60


# --- what is wrong is answered in one sentence ---


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b'{"schema": 1, "id": "r1", "command": "add"', "is not JSON"),
        (b'{"schema": 1, "id": "r1", "command": "addd", "camera": "x"}', "did you mean 'add'?"),
        (b'{"schema": 2, "id": "r1", "command": "list"}', "schema"),
        (b'{"schema": 1, "id": "r1", "command": "list", "cmaera": 1}', "did you mean 'camera'?"),
        (b'{"schema": 1, "id": "r1", "command": "pause"}', "pause needs a camera"),
        (b'{"schema": 1, "id": "r1", "command": "add", "camera": "x"}', "add needs settings, at least a url"),
        (b'{"schema": 1, "id": "r1", "command": "remove", "camera": "gatte"}', "no camera 'gatte'; there are: gate"),
        (b'["id", {"id": "r1"}]', "must be a mapping"),
        (b'{"id": "r1", "command": "list"' + b" " * 70_000 + b"}", "70031 bytes"),
        (b'{"id": "r1", "\xff\xfe": "', "is not JSON"),
    ],
)
def test_a_message_that_is_none_is_answered(service: Service, redis_url: str, message: bytes, words: str) -> None:
    answer = send(redis_url, message)
    assert not answer["ok"]
    assert words in answer["error"]
    assert "\n" not in answer["error"]
    assert control(redis_url, "list")[0].ok, "it still listens"


@pytest.mark.parametrize(
    ("camera", "given", "words"),
    [
        ("x", {"url": "rstp://h/"}, "did you mean rtsp://?"),
        ("x", {"url": LIVE, "fsp": 5}, "cameras.x.fsp: unknown key (did you mean 'fps'?)"),
        ("x", {"url": LIVE, "fps": -1, "priority": 0}, "; "),
        ("x", {}, "needs either a url or a pipeline"),
        ("b@d", {"url": LIVE}, "is not a name"),
        ("x", {"pipeline": "filesrc location=/etc/passwd ! filesink location=/tmp/x"}, "pipeline file alone"),
        ("x", {"url": f"rtsp://me:{SECRET}@host:port/"}, "malformed"),
        ("x", {"url": f"rtsp://me:{SECRET}@h/", "transport": f"rtsp://me:{SECRET}@h/"}, "transport"),
        (f"rtsp://me:{SECRET}@h/", {"url": LIVE}, "is not a name"),
        ("x", {"url": "${HOME}/clip.mp4", "reconnect": {"delay": "9s"}}, "swap them"),
    ],
)
def test_settings_are_checked_exactly_as_in_a_file(
    service: Service,
    redis_url: str,
    caplog: pytest.LogCaptureFixture,
    camera: str,
    given: dict[str, Any],
    words: str,
) -> None:
    (answer,) = control(redis_url, "add", camera, given)
    assert not answer.ok
    assert words in (answer.error or "")
    assert set(service.cameras()) == {"gate"}
    assert SECRET not in f"{answer.error}{caplog.text}"


def test_no_answer_holds_a_password_nor_the_environment(service: Service, redis_url: str) -> None:
    (answer,) = control(redis_url, "add", "yard", {"url": f"rtsp://me:{SECRET}@127.0.0.1:9/${{HOME}}"})
    assert answer.ok
    assert answer.cameras["yard"].url == "rtsp://***@127.0.0.1:9/${HOME}"
    eventually(lambda: control(redis_url, "list")[0].cameras["yard"].error, "its fault")
    assert SECRET not in control(redis_url, "list")[0].model_dump_json()
    assert SECRET not in control(redis_url, "pause", f"rtsp://me:{SECRET}@h/")[0].model_dump_json()


def test_a_request_that_can_be_none_is_not_sent(redis_url: str) -> None:
    with pytest.raises(WireError, match="remove needs a camera"):
        control(redis_url, "remove")


def test_a_fault_inside_the_pipeline_is_answered_too(caplog: pytest.LogCaptureFixture) -> None:
    answer = Desk("p", None).answer(b'{"schema": 1, "id": "r1", "command": "list"}')  # type: ignore[arg-type]  # the fault
    assert answer is not None
    assert answer.error == "list failed inside the pipeline; its log says more"
    assert caplog.records[0].exc_info is not None


# --- who listens ---


def test_nobody_listens(redis_url: str) -> None:
    began = time.monotonic()
    with pytest.raises(Unanswered, match="no pipeline listens"):
        control(redis_url, "list")
    assert time.monotonic() - began < 2
    with pytest.raises(client.ClientError, match="cannot be reached"):
        control("redis://127.0.0.1:9", "list")


def test_who_does_not_answer_is_not_waited_for_long(redis_url: str) -> None:
    with raw(redis_url) as server, server.pubsub() as deaf:
        deaf.subscribe("streamer:control")
        eventually(lambda: listeners(redis_url), "a listener")
        with pytest.raises(Unanswered, match=r"does not answer within 0\.2 s"):
            control(redis_url, "list", timeout=0.2)


def test_several_pipelines_each_answer_and_one_can_be_meant(service: Service, redis_url: str) -> None:
    with running(settings({"lobby": LIVE}, publish=publishing(redis_url)), name="q"):
        eventually(lambda: listeners(redis_url) == 2, "two listeners")
        assert {a.pipeline: set(a.cameras) for a in control(redis_url, "list")} == {"p": {"gate"}, "q": {"lobby"}}
        assert {a.pipeline: a.ok for a in control(redis_url, "pause", "lobby")} == {"p": False, "q": True}
        (answer,) = control(redis_url, "add", "yard", {"url": LIVE}, pipeline="q")
        assert (answer.pipeline, set(answer.cameras)) == ("q", {"lobby", "yard"})
        with pytest.raises(Unanswered, match="no pipeline called 'r'"):
            control(redis_url, "list", pipeline="r", timeout=0.2)
    assert set(service.cameras()) == {"gate"}


def test_who_does_not_want_to_be_controlled_is_not(redis_url: str) -> None:
    with running(settings({"gate": LIVE}, publish=publishing(redis_url, control=False))):
        assert not listeners(redis_url)


def test_one_place_is_listened_at_once_however_many_sinks_write_there(redis_url: str) -> None:
    sinks = [*publishing(redis_url), *publishing(redis_url, nodes=["look"]), *publishing(redis_url, prefix="b:")]
    with running(settings({"gate": LIVE}, publish=sinks)):
        eventually(lambda: (listeners(redis_url), listeners(redis_url, "b:")) == (1, 1), "one listener at each place")
        assert len(control(redis_url, "list", prefix="b:")) == 1


# --- faults ---


def test_a_redis_that_goes_away_and_comes_back(redis_server: EmbeddedRedis, caplog: pytest.LogCaptureFixture) -> None:
    url, recorder = redis_server.url, Recorder()
    with running(settings({"gate": LIVE}, publish=publishing(url)), recorder):
        eventually(lambda: listeners(url), "a listener")
        for _ in range(2):
            redis_server.stop()
            recorder.awaits("gate", len(recorder.seqs("gate")) + 10)
            redis_server.start()
            eventually(lambda: listeners(url), "the listener again")
            assert control(url, "list")[0].ok
    said = [record.message for record in caplog.records if "control messages" in record.message]
    assert len(said) == 2


def test_a_redis_that_falls_silent_is_noticed(redis_server: EmbeddedRedis) -> None:
    with Subscription(redis_server.url, "c", Timeouts(1.0, 0.2), quiet=0.1) as hearing:
        hearing.subscribe()
        with raw(redis_server.url) as server:
            later = threading.Timer(0.5, lambda: server.publish("c", "x"))
            later.start()
            assert hearing.hear() == b"x", "several questions were answered meanwhile"
            later.join()
        os.kill(redis_server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(Away, match="does not answer in time"):
                hearing.hear()
        finally:
            os.kill(redis_server.pid, signal.SIGCONT)


def test_a_wait_is_ended_from_another_thread(redis_url: str) -> None:
    with Subscription(redis_url, "c") as hearing:
        hearing.subscribe()
        threading.Timer(0.1, hearing.hang_up).start()
        assert hearing.hear() is None
        assert hearing.hear() is None


def test_closing_does_not_wait_for_a_redis_that_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        with listening(url, "streamer:", Desk("p", None)):  # type: ignore[arg-type]  # nobody will ask it
            connection, _ = silent.accept()
            began = time.monotonic()
        assert time.monotonic() - began < 2
        connection.close()


def test_a_url_of_no_redis_is_refused_at_once() -> None:
    with pytest.raises(SinkUnusable, match="no Redis URL"), listening("http://x", "", Desk("p", None), Backoff()):  # type: ignore[arg-type]  # as above
        pytest.fail("it listens")

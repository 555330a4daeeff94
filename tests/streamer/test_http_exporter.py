"""The pages, over real connections: what they say, and that no client can hold them up."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from redisworld import eventually

from streamer.errors import InputError
from streamer.exporters.http import serving
from streamer.health import Health
from streamer.stats import CameraStats, Stats
from streamer.wire import decode_metrics, encode_metrics

LOCAL = ("127.0.0.1", 0)
STATS = Stats(1_790_000_000.5, {'gate "1"\n': CameraStats("retrying", "no route", dropped={"late": 3})})
WELL = Health(True, True)
ILL = Health(False, False, ("stage yolo has been working on one batch for 34 s", "gate: retrying: no route"))


@contextmanager
def site(health: Health = WELL, deadline: float = 5.0) -> Iterator[tuple[str, int]]:
    with serving(LOCAL, lambda: STATS, lambda: health, deadline) as at:
        yield at


def ask(
    at: tuple[str, int], path: str, method: str = "GET", headers: Mapping[str, str] | None = None
) -> tuple[int, Mapping[str, str], bytes]:
    connection = http.client.HTTPConnection(*at, timeout=10)
    try:
        connection.request(method, path, headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def over(connection: socket.socket) -> bool:
    """Wait until the other side hangs up."""
    connection.settimeout(10)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def drip(connection: socket.socket) -> None:
    """Send a byte now and then, each of them well within the deadline of one read."""
    for _ in range(200):
        connection.sendall(b"G")
        time.sleep(0.05)  # what is tested is a slow client


def rest(connection: socket.socket) -> bytes:
    connection.settimeout(10)
    try:
        return connection.recv(1 << 20)
    except ConnectionResetError:
        return b""


def test_the_page_of_figures_is_one_that_prometheus_reads() -> None:
    with site() as at:
        status, headers, body = ask(at, "/metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    (drops,) = [family for family in parse(body.decode()) if family.name == "streamer_frames_dropped"]
    assert {s.labels["reason"]: s.value for s in drops.samples} == {"late": 3, "skipped": 0, "corrupt": 0, "paused": 0}
    assert {s.labels["camera"] for s in drops.samples} == {'gate "1"\n'}


def test_openmetrics_for_whoever_asks_for_it() -> None:
    with site() as at:
        _, headers, body = ask(at, "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert "streamer_reconnects" in {family.name for family in parse_openmetrics(body.decode())}  # type: ignore[no-untyped-call]  # theirs


def test_a_long_page_is_packed_for_whoever_can_unpack_it() -> None:
    with site() as at:
        plain = ask(at, "/metrics")[2]
        _, headers, packed = ask(at, "/metrics", headers={"Accept-Encoding": "gzip"})
        assert "Content-Encoding" not in ask(at, "/healthz", headers={"Accept-Encoding": "gzip"})[1]
    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed) == plain
    assert len(packed) < len(plain) / 3


@pytest.mark.parametrize(
    ("path", "health", "status", "body"),
    [
        ("/healthz", WELL, 200, "alive\n"),
        ("/readyz", WELL, 200, "ready\n"),
        ("/healthz", ILL, 503, "hanging\n" + "".join(f"{line}\n" for line in ILL.troubles)),
        ("/readyz", ILL, 503, "not ready\n" + "".join(f"{line}\n" for line in ILL.troubles)),
        ("/readyz", Health(True, True, ("redis: away",)), 200, "ready\nredis: away\n"),
    ],
)
def test_health_is_a_status_and_its_reasons(path: str, health: Health, status: int, body: str) -> None:
    with site(health) as at:
        got, _, said = ask(at, path)
    assert (got, said.decode()) == (status, body)


def test_status_is_what_redis_gets_and_the_health() -> None:
    with site(ILL) as at:
        _, headers, body = ask(at, "/status?pretty")
    told = json.loads(body)
    assert headers["Content-Type"] == "application/json"
    assert told.pop("health") == {"alive": False, "ready": False, "troubles": list(ILL.troubles)}
    assert told == json.loads(encode_metrics(STATS))
    assert decode_metrics(body).cameras == decode_metrics(encode_metrics(STATS)).cameras


def test_what_there_is_and_what_there_is_not() -> None:
    with site() as at:
        assert ask(at, "/")[::2] == (200, b"streamer: /metrics /healthz /readyz /status\n")
        assert ask(at, "/nothing")[0] == 404
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            status, headers, _ = ask(at, "/metrics", method)
            assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_head_is_get_without_a_body() -> None:
    with site() as at:
        got, head = ask(at, "/status"), ask(at, "/status", "HEAD")
    assert (head[0], head[1]["Content-Length"], head[2]) == (200, str(len(got[2])), b"")


def test_a_figure_that_cannot_be_read_is_said_and_the_next_one_answered(caplog: pytest.LogCaptureFixture) -> None:
    errors = [ZeroDivisionError("no time has passed")]

    def read() -> Stats:
        if errors:
            raise errors.pop()
        return STATS

    with serving(LOCAL, read, lambda: WELL) as at:
        assert ask(at, "/status")[::2] == (500, b"ZeroDivisionError: no time has passed\n")
        assert ask(at, "/status")[0] == 200
    assert "/status cannot be answered" in caplog.text


def test_clients_that_say_nothing_neither_pile_up_nor_keep_others_out() -> None:
    before = threading.active_count()
    with site() as at, ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(socket.create_connection(at))
        assert ask(at, "/healthz")[0] == 200
        eventually(lambda: threading.active_count() <= before + 1 + 8, "at most eight threads beside the server's")
    eventually(lambda: threading.active_count() == before, "the end of every thread")


def test_a_client_that_drips_is_hung_up_on_in_time() -> None:
    with (
        site(deadline=0.3) as at,
        socket.create_connection(at) as dripping,
        pytest.raises(OSError, match=r"pipe|reset"),
    ):
        drip(dripping)


def test_a_client_that_does_not_read_is_hung_up_on() -> None:
    before = threading.active_count()
    big = Stats(0.0, {f"camera {number}": CameraStats("failed", "x" * 4000) for number in range(2000)})
    with serving(LOCAL, lambda: big, lambda: WELL, deadline=0.3) as at, socket.create_connection(at) as deaf:
        deaf.sendall(b"GET /status HTTP/1.0\r\n\r\n")
        assert ask(at, "/healthz")[0] == 200
        eventually(lambda: threading.active_count() == before + 1, "the end of the thread that answers")
        received = b"".join(iter(lambda: rest(deaf), b""))
    assert 0 < len(received) < 8_000_000


def test_nonsense_gets_an_answer_or_none_and_does_no_harm() -> None:
    with site() as at:
        for noise in (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\n"):
            with socket.create_connection(at) as connection:
                connection.sendall(noise)
                connection.shutdown(socket.SHUT_WR)
                while not over(connection):
                    pass
        assert ask(at, "/healthz")[0] == 200


def test_a_figure_that_never_comes_does_not_hold_up_the_end() -> None:
    never, came = threading.Event(), threading.Event()

    def read() -> Stats:
        never.wait(30)
        came.set()
        return STATS

    with serving(LOCAL, read, lambda: WELL) as at, socket.create_connection(at) as waiting:
        waiting.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert ask(at, "/healthz")[0] == 200
    assert not came.is_set()
    never.set()


def test_a_port_in_use_is_one_sentence() -> None:
    with (
        site() as at,
        pytest.raises(InputError, match=rf"127\.0\.0\.1:{at[1]}: Address already in use; give another") as error,
        serving(at, lambda: STATS, lambda: WELL),
    ):
        pass
    assert "\n" not in str(error.value)


def test_a_host_that_is_not_ours_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"192\.0\.2\.1:0"), serving(("192.0.2.1", 0), lambda: STATS, lambda: WELL):
        pass


def test_the_port_is_free_again_at_once() -> None:
    with site() as at:
        ask(at, "/")
    with serving(at, lambda: STATS, lambda: WELL) as again:
        assert again == at
        assert ask(again, "/")[0] == 200


@pytest.mark.parametrize("host", ["::1", "::"])
def test_ipv6(host: str) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6 loopback; enable it with: sysctl net.ipv6.conf.lo.disable_ipv6=0")
    with serving((host, 0), lambda: STATS, lambda: WELL) as at:
        assert ask(("::1", at[1]), "/healthz")[0] == 200
        if host == "::":
            assert ask(("127.0.0.1", at[1]), "/healthz")[0] == 200

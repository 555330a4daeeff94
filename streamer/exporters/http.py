"""How the pipeline is doing, for whoever asks by HTTP: Prometheus, a supervisor, a person.

    /metrics   the figures as Prometheus and OpenMetrics read them
    /healthz   200 while no thread hangs, else 503; every trouble is a line
    /readyz    200 when results can be expected, else 503
    /status    all figures and the health as JSON, the rest of it being what Redis gets once a second

One request a connection, few connections at a time, and each has to be over in a few seconds: a client that is slow,
or says nothing, is hung up on as soon as somebody else needs its place.
"""

from __future__ import annotations

import gzip
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from urllib.parse import urlsplit

from pydantic_core import to_json

from streamer.errors import InputError
from streamer.exporters.prometheus import exposition
from streamer.health import Health
from streamer.stats import Stats
from streamer.wire.metrics import encode_metrics

log = logging.getLogger(__name__)

_CONNECTIONS = 8
_COURTESY = 0.1  # seconds that a newcomer waits for a place before the oldest connection has to go
_FAREWELL = 1.0  # seconds that answers that are being made may take at the end
_WORTH_PACKING = 1024  # bytes
_INDEX = b"streamer: /metrics /healthz /readyz /status\n"
_TEXT, _JSON = "text/plain; charset=utf-8", "application/json"


@dataclass(frozen=True, slots=True)
class Page:
    """What is answered."""

    body: bytes
    kind: str = _TEXT
    status: HTTPStatus = HTTPStatus.OK


@dataclass(frozen=True, slots=True)
class Site:
    """What there is to be asked."""

    read: Callable[[], Stats]
    health: Callable[[], Health]

    def page(self, path: str, accept: str) -> Page | None:
        """Make the page at *path*; None where there is none."""
        match path:
            case "/metrics":
                return Page(*exposition(self.read(), self.health(), accept))
            case "/healthz":
                health = self.health()
                return _verdict(health.alive, "alive", "hanging", health)
            case "/readyz":
                health = self.health()
                return _verdict(health.ready, "ready", "not ready", health)
            case "/status":
                return Page(_status(self.read(), self.health()), _JSON)
            case "/":
                return Page(_INDEX)
        return None


@contextmanager
def serving(
    listen: tuple[str, int], read: Callable[[], Stats], health: Callable[[], Health], deadline: float = 5.0
) -> Iterator[tuple[str, int]]:
    """Answer at *listen* (host, port; port 0: any that is free) as long as the context lasts; yield where that is.

    A request gets *deadline* seconds in all. Raises InputError when nobody can listen there.
    """
    server = _listen(listen, Site(read, health), deadline)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.25}, name="http", daemon=True)
    thread.start()
    try:
        yield server.socket.getsockname()[:2]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _verdict(good: bool, yes: str, no: str, health: Health) -> Page:
    lines = (yes if good else no, *health.troubles)
    return Page("".join(f"{line}\n" for line in lines).encode(), status=_STATUS[good])


_STATUS = {True: HTTPStatus.OK, False: HTTPStatus.SERVICE_UNAVAILABLE}


def _status(stats: Stats, health: Health) -> bytes:
    return encode_metrics(stats)[:-1] + b',"health":' + to_json(asdict(health)) + b"}"


def _listen(listen: tuple[str, int], site: Site, deadline: float) -> _Server:
    host, port = listen
    try:
        # Whether a name or an address means IPv4 or IPv6 is for the system to say.
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return _Server(family, address, site, deadline)
    except (OSError, OverflowError) as error:
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(f"monitor.http: nobody can listen at {where}: {why}; give another address or port") from error


class _Server(ThreadingMixIn, TCPServer):
    allow_reuse_address = True  # a restart need not wait for old connections to be forgotten
    daemon_threads = True  # one that waits for a figure that never comes does not hold up the end

    def __init__(self, family: int, address: Any, site: Site, deadline: float) -> None:
        self.address_family = family
        self.site, self.deadline = site, deadline
        self._open: dict[socket.socket, float] = {}  # since when, oldest first
        self._changed = threading.Condition()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6 and self.server_address[0] == "::":
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # every interface is IPv4's as well
        super().server_bind()

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:
            time.sleep(_COURTESY)  # out of file descriptors, say: the connection would be found waiting at once again
            raise

    def verify_request(self, _request: Any, _client_address: Any) -> bool:
        """Find a place for a newcomer: wait a moment, then take that of the oldest; False where even that fails."""
        with self._changed:
            if not self._changed.wait_for(self._has_place, _COURTESY):
                _hang_up(next(iter(self._open)))
            return self._changed.wait_for(self._has_place, _COURTESY)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self._open[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._changed:
            self._open.pop(request, None)
            self._changed.notify_all()

    def service_actions(self) -> None:
        """Hang up on whoever has had their time; called again and again while the server runs."""
        now = time.monotonic()
        with self._changed:
            for connection, since in self._open.items():
                if now - since > self.deadline:
                    _hang_up(connection)

    def server_close(self) -> None:
        super().server_close()
        with self._changed:
            for connection in self._open:
                _hang_up(connection)
            self._changed.wait_for(lambda: not self._open, _FAREWELL)

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        log.debug("a connection broke off: %s", sys.exception())

    def _has_place(self) -> bool:
        return len(self._open) < _CONNECTIONS


class _Handler(BaseHTTPRequestHandler):
    """One request. HTTP/1.0: the connection ends with the answer."""

    server: _Server
    server_version, sys_version = "streamer", ""

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(self.server.deadline)  # of one read; the server watches over all of them together

    def do_GET(self) -> None:
        page = self._page()
        packed = "gzip" in self.headers.get("Accept-Encoding", "") and len(page.body) > _WORTH_PACKING
        body = gzip.compress(page.body, 1) if packed else page.body
        headers = {"Content-Type": page.kind, "Content-Length": str(len(body)), "Cache-Control": "no-store"}
        self._answer(page.status, headers | ({"Content-Encoding": "gzip"} if packed else {}), body)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def do_POST(self) -> None:
        body = b"GET and HEAD are all that there is\n"
        headers = {"Allow": "GET, HEAD", "Content-Type": _TEXT, "Content-Length": str(len(body))}
        self._answer(HTTPStatus.METHOD_NOT_ALLOWED, headers, body)

    do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = do_POST  # noqa: N815 - as above

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the method it overrides
        log.debug("%s: " + format, self.client_address[0], *args)

    def _page(self) -> Page:
        try:
            page = self.server.site.page(urlsplit(self.path).path, self.headers.get("Accept", ""))
        except Exception as error:  # the border: whoever asks is told, and so is the log
            log.exception("%s cannot be answered", self.path)
            return Page(f"{type(error).__name__}: {error}\n".encode(), status=HTTPStatus.INTERNAL_SERVER_ERROR)
        return page or Page(b"no such page; " + _INDEX, status=HTTPStatus.NOT_FOUND)

    def _answer(self, status: HTTPStatus, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # it has ended by itself
        connection.shutdown(socket.SHUT_RDWR)

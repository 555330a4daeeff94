"""A stretch of network for tests: TCP connections through it can die without a word, as behind a router that restarts.

    with halfopen.link(port) as link:
        open_source("gate", f"rtsp://127.0.0.1:{link.port}/live", …)
        link.cut(); …; link.mend()

What was connected when the link was cut stays open and silent for ever; whoever connects then waits until it is mended.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_CHUNK = 1 << 16


@dataclass
class Link:
    """Forwards from *port* to the server's."""

    listener: socket.socket
    target: int
    _whole: threading.Event = field(default_factory=threading.Event)  # connections that come are let through
    _break: int = 0  # counts the cuts: a connection from before the last one is dead
    _ends: list[socket.socket] = field(default_factory=list)

    @property
    def port(self) -> int:
        port: int = self.listener.getsockname()[1]
        return port

    def cut(self) -> None:
        self._whole.clear()
        self._break += 1

    def mend(self) -> None:
        self._whole.set()

    def accept(self) -> None:
        """Serve until the listener is closed."""
        with contextlib.suppress(OSError):  # closed: that is how it ends
            while True:
                near, _ = self.listener.accept()
                self._whole.wait()
                far = socket.create_connection(("127.0.0.1", self.target))
                self._ends += near, far
                for source, drain in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, drain, self._break), daemon=True).start()

    def _pump(self, source: socket.socket, drain: socket.socket, born: int) -> None:
        with contextlib.suppress(OSError):  # reset by either side: then so is the other
            while data := source.recv(_CHUNK):
                if born == self._break:
                    drain.sendall(data)
            if born == self._break:
                drain.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._whole.set()
        for end in (self.listener, *self._ends):
            with contextlib.suppress(OSError):  # it is not connected any more
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def link(target: int) -> Iterator[Link]:
    """Forward from a free port to *target*, both on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        wire = Link(listener, target)
        wire.mend()
        thread = threading.Thread(target=wire.accept, daemon=True)
        thread.start()
        try:
            yield wire
        finally:
            wire.close()
            thread.join(5)

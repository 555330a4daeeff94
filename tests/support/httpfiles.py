"""A small HTTP server for tests: files with ranges, a connection that breaks, and an endless MJPEG camera.

with httpfiles.serve(folder) as server:
    open_source("gate", server.url + "/clip.mp4", …)     # or /camera.mjpeg, which never ends
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
from videos import pattern

_BOUNDARY = "picture"
_FPS = 20
_PIECE = 4096


@dataclass
class HttpServer:
    """A running server and what a test may do to it."""

    folder: Path
    url: str = ""
    breaks: dict[str, list[int]] = field(default_factory=dict)  # path -> after how many bytes to hang up, once each
    over: threading.Event = field(default_factory=threading.Event)  # set: every connection ends
    frozen: threading.Event = field(default_factory=threading.Event)  # set: the camera sends nothing more
    requests: list[str] = field(default_factory=list)


@contextmanager
def serve(folder: Path) -> Iterator[HttpServer]:
    server = HttpServer(folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, server)) as http:
        http.daemon_threads = True
        server.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            http.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, server: HttpServer, *args: object) -> None:
        self._test = server
        super().__init__(*args)  # type: ignore[arg-type]  # what the server passes on: socket, address, itself

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self._test.requests.append(path)
        try:
            if self._test.over.is_set():
                self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
            elif path == "/camera.mjpeg":
                self._camera()
            else:
                self._file(path)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client has left, as it may

    def _file(self, path: str) -> None:
        file = self._test.folder / path.lstrip("/")
        if not file.is_file():
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        data = file.read_bytes()
        ranged = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(ranged[1]) if ranged else 0
        last = min(int(ranged[2]), len(data) - 1) if ranged and ranged[2] else len(data) - 1
        self.send_response(HTTPStatus.PARTIAL_CONTENT if ranged else HTTPStatus.OK)
        if ranged:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        self._send(path, data[first : last + 1])

    def _send(self, path: str, data: bytes) -> None:
        plan = self._test.breaks.get(path)
        end = plan.pop(0) if plan else len(data)
        for start in range(0, min(end, len(data)), _PIECE):
            if self._test.over.is_set():
                break
            self.wfile.write(data[start : min(start + _PIECE, end)])

    def _camera(self) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self.end_headers()
        index = 0
        while not self._test.over.wait(1 / _FPS):
            if self._test.frozen.is_set():
                continue
            jpeg = cv2.imencode(".jpg", pattern(index)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
            head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + jpeg + b"\r\n")
            index += 1

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing: the test's own output is what matters."""

"""Fetching weights from real HTTP servers, good ones and bad ones."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from engines.errors import WeightsError
from engines.manifest import Manifest, read
from engines.zoo import cache_dir, find_local, locate

BODY = bytes(range(256)) * 2048  # 512 KiB
SHA = hashlib.sha256(BODY).hexdigest()


@dataclass
class Request:
    """One GET: what was asked, and by whom."""

    path: str
    headers: Mapping[str, str]


@dataclass
class Behaviour:
    """How a server answers; the n-th entry of a list is for the n-th request, the last one for all after it."""

    ranges: bool = True
    bodies: list[bytes] = field(default_factory=lambda: [BODY])
    breaks_after: list[int | None] = field(default_factory=lambda: [None])  # bytes
    status: int | None = None
    before: Callable[[], object] = lambda: None
    requests: list[Request] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        behaviour: Behaviour = self.server.behaviour
        number = len(behaviour.requests)
        behaviour.requests.append(Request(self.path, dict(self.headers)))
        behaviour.before()
        if behaviour.status:
            self.send_error(behaviour.status)
            return
        body = behaviour.bodies[min(number, len(behaviour.bodies) - 1)]
        start = self._head(len(body), behaviour.ranges)
        end = behaviour.breaks_after[min(number, len(behaviour.breaks_after) - 1)]
        if start is not None:
            self.wfile.write(body[start : None if end is None else start + end])

    def _head(self, length: int, ranges: bool) -> int | None:
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and ranges else 0
        if start >= length:
            self.send_error(416)
            return None
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(length - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{length - 1}/{length}")
        self.end_headers()
        return start

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        """Keep the test's output clean."""


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[str]:
    """Serve on a free port; gives the URL of the folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.behaviour = behaviour  # type: ignore[attr-defined]  # how the handler, made anew each time, finds it
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/models"
        finally:
            server.shutdown()
            thread.join()


def manifest(url: str | None = None, sha256: str | None = SHA, size: int | None = len(BODY)) -> Manifest:
    weights = {"file": "net.onnx", "url": url and f"{url}/net.onnx", "sha256": sha256, "size": size}
    data = {
        "name": "net",
        "task": "flow",
        "preprocess": {"size": [8, 8]},
        "decoder": "yolox",
        "weights": {"onnx": weights},
    }
    return Manifest.model_validate(data)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.fixture
def target(environ: dict[str, str]) -> Path:
    return cache_dir(environ) / "net.onnx"


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def closed_port() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{s.getsockname()[1]}"


def test_fetched_once_checked_and_kept(environ: dict[str, str], target: Path) -> None:
    heard: list[tuple[int, int | None]] = []
    with serving(behaviour := Behaviour()) as url:
        first = locate(manifest(url), environ=environ, progress=lambda done, total: heard.append((done, total)))
        second = locate(manifest(url), environ=environ)
    assert first == second == target
    assert target.read_bytes() == BODY
    assert [r.path for r in behaviour.requests] == ["/models/net.onnx"]
    assert heard[0] == (0, len(BODY))
    assert heard[-1] == (len(BODY), len(BODY))
    assert heard == sorted(heard)
    assert not target.with_name("net.onnx.part").exists()


@pytest.mark.parametrize("ranges", [True, False], ids=["with ranges", "without"])
def test_a_transfer_that_breaks_off_goes_on(environ: dict[str, str], target: Path, ranges: bool) -> None:
    behaviour = Behaviour(ranges=ranges, breaks_after=[100_000, None])
    with serving(behaviour) as url:
        locate(manifest(url), environ=environ)
    assert target.read_bytes() == BODY
    assert [r.headers.get("Range") for r in behaviour.requests] == [None, "bytes=100000-"]


@pytest.mark.parametrize("ranges", [True, False], ids=["with ranges", "without"])
def test_what_an_earlier_process_left_is_gone_on_with(environ: dict[str, str], target: Path, ranges: bool) -> None:
    put(target.with_name("net.onnx.part"), BODY[:4096])
    with serving(behaviour := Behaviour(ranges=ranges)) as url:
        locate(manifest(url), environ=environ)
    assert target.read_bytes() == BODY
    assert behaviour.requests[0].headers["Range"] == "bytes=4096-"


def test_a_finished_part_needs_no_request(environ: dict[str, str], target: Path) -> None:
    put(target.with_name("net.onnx.part"), BODY)
    assert locate(manifest(closed_port()), environ=environ).read_bytes() == BODY


@pytest.mark.parametrize("size", [len(BODY), None], ids=["size known", "size unknown"])
@pytest.mark.parametrize("left", [b"x" * 10, b"x" * len(BODY), b"x" * (len(BODY) + 10)], ids=["short", "full", "long"])
def test_a_part_of_something_else_is_thrown_away(
    environ: dict[str, str], target: Path, left: bytes, size: int | None
) -> None:
    put(target.with_name("net.onnx.part"), left)
    with serving(Behaviour()) as url:
        assert locate(manifest(url, size=size), environ=environ).read_bytes() == BODY


def test_wrong_bytes_are_fetched_anew_once(environ: dict[str, str]) -> None:
    with serving(Behaviour(bodies=[b"y" * len(BODY), BODY])) as url:
        assert locate(manifest(url), environ=environ).read_bytes() == BODY


@pytest.mark.parametrize("body", [b"y" * len(BODY), b"<html>log in</html>", BODY * 2], ids=["other", "short", "long"])
def test_a_server_that_lies_is_refused(environ: dict[str, str], target: Path, body: bytes) -> None:
    with serving(behaviour := Behaviour(bodies=[body])) as url, pytest.raises(WeightsError) as caught:
        locate(manifest(url), environ=environ)
    assert str(caught.value).startswith(f"what {url}/net.onnx gives has ")
    assert len(behaviour.requests) == 2
    assert not target.exists()
    assert not target.with_name("net.onnx.part").exists()


def test_offline_says_file_url_and_both_ways_out(environ: dict[str, str], target: Path) -> None:
    url = closed_port()
    with pytest.raises(WeightsError) as caught:
        locate(manifest(url), environ=environ)
    assert str(caught.value) == (
        f"net.onnx is not on this machine and {url}/net.onnx cannot be reached (Connection refused): "
        f"set STREAMER_MODELS to a folder or mirror that has it, or put it to {target} yourself"
    )


def test_a_server_that_always_breaks_off_is_given_up_and_what_came_is_kept(
    environ: dict[str, str], target: Path
) -> None:
    with (
        serving(Behaviour(breaks_after=[1000])) as url,
        pytest.raises(WeightsError, match="broke off 5 times, 5000 bytes"),
    ):
        locate(manifest(url), environ=environ)
    assert target.with_name("net.onnx.part").read_bytes() == BODY[:5000]
    with (
        serving(Behaviour(breaks_after=[0])) as url,
        pytest.raises(WeightsError, match="breaks off \\(5000 of 524288 bytes\\)"),
    ):
        locate(manifest(url), environ=environ)


@pytest.mark.parametrize("status", [404, 503])
def test_a_refusal_is_repeated(environ: dict[str, str], status: int) -> None:
    with serving(Behaviour(status=status)) as url, pytest.raises(WeightsError, match=rf"net\.onnx answers {status} "):
        locate(manifest(url), environ=environ)


def test_the_users_path_is_taken_as_it_is(tmp_path: Path, environ: dict[str, str]) -> None:
    mine = put(tmp_path / "other.onnx", b"quantized")
    assert locate(manifest(), path=mine, environ=environ) == mine
    with pytest.raises(WeightsError, match=r"no weights file .*absent\.onnx"):
        locate(manifest(), path=tmp_path / "absent.onnx", environ=environ)


def test_a_folder_comes_before_cache_and_url(tmp_path: Path, environ: dict[str, str], target: Path) -> None:
    put(target, BODY)
    mine = put(tmp_path / "models/net.onnx", BODY)
    assert locate(manifest(closed_port()), environ={**environ, "STREAMER_MODELS": str(mine.parent)}) == mine
    (tmp_path / "empty").mkdir()
    assert locate(manifest(), environ={**environ, "STREAMER_MODELS": str(tmp_path / "empty")}) == target


def test_a_wrong_file_in_the_folder_is_not_passed_over(tmp_path: Path, environ: dict[str, str], target: Path) -> None:
    put(target, BODY)
    put(tmp_path / "models/net.onnx", BODY[:-1] + b"!")
    with pytest.raises(WeightsError, match=r"models/net\.onnx has sha256 .* instead of .*: replace it"):
        locate(manifest(), environ={**environ, "STREAMER_MODELS": str(tmp_path / "models")})


def test_a_folder_that_is_not_there_is_said(environ: dict[str, str], target: Path) -> None:
    put(target, BODY)
    with pytest.raises(WeightsError, match="STREAMER_MODELS is /nowhere, which is no folder"):
        locate(manifest(), environ={**environ, "STREAMER_MODELS": "/nowhere"})


def test_a_mirror_comes_before_the_url_and_keeps_its_password(environ: dict[str, str]) -> None:
    with serving(behaviour := Behaviour()) as url:
        mirror = url.replace("://", "://me:s%2Fx@") + "/"
        locate(manifest(closed_port()), environ={**environ, "STREAMER_MODELS": mirror})
    assert behaviour.requests[0].path == "/models/net.onnx"
    assert base64.b64decode(behaviour.requests[0].headers["Authorization"].split()[1]) == b"me:s/x"


def test_a_mirror_without_the_file_is_passed_over_and_named(environ: dict[str, str]) -> None:
    with serving(Behaviour(status=404)) as mirror, serving(Behaviour()) as url:
        environ["STREAMER_MODELS"] = mirror.replace("://", "://me:hunter2@")
        with pytest.raises(WeightsError, match=r"://\*\*\*@.* answers 404 .*, http.* cannot be reached") as caught:
            locate(manifest(closed_port()), environ=environ)
        assert "hunter2" not in str(caught.value)
        assert locate(manifest(url), environ=environ).read_bytes() == BODY


def test_a_damaged_file_in_the_cache_is_fetched_anew(environ: dict[str, str], target: Path) -> None:
    put(target, BODY[:-1])
    with pytest.raises(WeightsError, match=r"net\.onnx is damaged in the cache and .* cannot be reached"):
        locate(manifest(closed_port()), environ=environ)
    with serving(Behaviour()) as url:
        assert locate(manifest(url), environ=environ).read_bytes() == BODY


def test_a_users_own_file_beside_the_manifest_needs_no_checksum(tmp_path: Path, environ: dict[str, str]) -> None:
    mine = put(tmp_path / "net.onnx", b"anything")
    text = "{name: n, task: flow, preprocess: {size: [8, 8]}, decoder: yolox, weights: {onnx: {file: net.onnx}}}"
    own = read(put(tmp_path / "net.yaml", text.encode()))
    assert locate(own, environ=environ) == mine
    mine.unlink()
    with pytest.raises(WeightsError, match="the manifest names no URL"):
        locate(own, environ=environ)


def test_what_is_on_this_machine(tmp_path: Path, environ: dict[str, str], target: Path) -> None:
    assert find_local(manifest(), environ=environ) is None
    put(target, BODY)
    assert find_local(manifest(), environ=environ) == target
    mine = put(tmp_path / "models/net.onnx", BODY)
    assert find_local(manifest(), environ={**environ, "STREAMER_MODELS": str(mine.parent)}) == mine
    put(target, b"damaged")
    assert find_local(manifest(), environ=environ) is None


def test_two_processes_fetch_a_file_once(environ: dict[str, str], target: Path) -> None:
    """The server holds the first answer back until the other process waits for the lock."""
    lock = target.with_name("net.onnx.lock")
    behaviour = Behaviour(before=lambda: wait_until(lambda: someone_waits_for(lock)))
    with serving(behaviour) as url:
        code = (
            "import sys; from engines.manifest import Manifest; from engines.zoo import locate;"
            "print(locate(Manifest.model_validate_json(sys.argv[1])))"
        )
        command = [sys.executable, "-c", code, manifest(url).model_dump_json()]
        env = {**os.environ, **environ}
        env.pop("STREAMER_MODELS", None)
        both = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        outputs = [process.communicate(timeout=60)[0].strip() for process in both]
    assert outputs == [str(target)] * 2
    assert target.read_bytes() == BODY
    assert len(behaviour.requests) == 1


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def someone_waits_for(path: Path) -> bool:
    """Look for ``-> FLOCK`` on this inode among the kernel's locks."""
    inode = path.stat().st_ino
    lines = Path("/proc/locks").read_text().splitlines()
    return any("-> FLOCK" in line and f":{inode} " in line for line in lines)


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    """In a process that may write no file beyond 100 kB: the same answer from the kernel as from a quota."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "from engines.errors import WeightsError\n"
        "from engines.manifest import Manifest\n"
        "from engines.zoo import locate\n"
        "try: locate(Manifest.model_validate_json(sys.argv[1]), environ={'XDG_CACHE_HOME': sys.argv[2]})\n"
        "except WeightsError as error: print(error)"
    )
    with serving(Behaviour()) as url:
        command = [sys.executable, "-c", code, manifest(url).model_dump_json(), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith(f"no space for {tmp_path}/streamer/models/net.onnx.part (")
    assert (tmp_path / "streamer/models/net.onnx.part").stat().st_size <= 100_000


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    put(tmp_path / "file", b"")
    with serving(Behaviour()) as url, pytest.raises(WeightsError, match=r"cannot be written: Not a directory"):
        locate(manifest(url), environ={"XDG_CACHE_HOME": str(tmp_path / "file")})


def test_a_file_that_is_as_good_is_taken_too(tmp_path: Path) -> None:
    ours = tmp_path / "mine.yaml"
    ours.write_text(
        "name: mine\ntask: detect\nlabels: [a]\npreprocess: {size: [32, 32]}\ndecoder: yolox\n"
        f"weights: {{onnx: {{file: w.onnx, sha256: {'f' * 64}, size: 7, also: [{SHA}]}}}}\n"
    )
    (tmp_path / "w.onnx").write_bytes(BODY)
    assert locate(read(ours), environ={"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "w.onnx"
    (tmp_path / "w.onnx").write_bytes(BODY[1:])
    with pytest.raises(WeightsError, match=r"w\.onnx has sha256 .* instead of ffffff"):
        locate(read(ours), environ={"XDG_CACHE_HOME": str(tmp_path)})

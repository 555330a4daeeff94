"""A real process and real signals, in every state that it can be in: each with a deadline."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml
from redisworld import eventually, raw
from services import LIVE, plain

from streamer.embedded import EmbeddedRedis

SUPPORT = Path(__file__).resolve().parents[1] / "support"
DEADLINE = 5.0  # seconds from a signal to the end
DRAINED, INTERRUPTED, TERMINATED = 0, 130, 143
ENDINGS = pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, DRAINED), (signal.SIGINT, INTERRUPTED)])

STUCK = """
import hashlib, os, threading, time
from streamer.notes import Note

class Base:
    reads = ()
    writes = Note
    def __call__(self, frame): return None

def burn():  # a library that does not come back to the interpreter: no handler runs in this thread
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)

class OpensInC(Base):
    def __init__(self): print("opening", flush=True); burn()

class OpensWhenTold(Base):
    def __init__(self, go: str):
        print("opening", flush=True)
        while not os.path.exists(go): time.sleep(0.01)

class OpensInPython(Base):
    def __init__(self): print("opening", flush=True); threading.Event().wait()

class HangsInC(Base):
    def __call__(self, frame): print("hanging", flush=True); burn()

class NeverCloses(Base):
    def close(self): print("closing", flush=True); threading.Event().wait()
"""


class Job:
    """`streamer run` as a process of its own."""

    def __init__(self, path: Path, words: Sequence[str], environ: Mapping[str, str], terminal: int | None) -> None:
        """Where a *terminal* is given, it controls the process."""
        self.path, self.out = path, path.with_suffix(".out")
        command = [sys.executable, "-m", "streamer", "run", str(path), *words]
        env = {**os.environ, "PYTHONPATH": str(SUPPORT), **environ}
        own: dict[str, Any] = {"start_new_session": True, "preexec_fn": lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)}
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                command, stdin=terminal, stdout=out, stderr=out, env=env, **({} if terminal is None else own)
            )

    @property
    def said(self) -> str:
        return self.out.read_text()

    def says(self, words: str) -> None:
        eventually(lambda: words in self.said or self.process.poll() is not None, words)
        assert words in self.said

    def ends(self, *numbers: signal.Signals) -> int:
        """Send signals; return the exit code, and see that it came in time."""
        began = time.monotonic()
        for number in numbers:
            self.process.send_signal(number)
            time.sleep(0.2)  # two of a kind would become one
        code = self.process.wait(20)
        took = time.monotonic() - began
        print(f"{took:.1f} s to the end, after:\n{self.said}")
        assert took < DEADLINE
        assert "Traceback" not in self.said
        return code


Start = Callable[..., Job]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `streamer run` on a pipeline that is written down for it."""
    jobs: list[Job] = []
    (tmp_path / "stuck.py").write_text(STUCK)

    def begin(
        cameras: dict[str, Any],
        *words: str,
        node: str = "",
        environ: Mapping[str, str] = MappingProxyType({}),
        terminal: int | None = None,
        **keys: Any,
    ) -> Job:
        document = plain(cameras, **keys)
        if node:
            document["nodes"] = {"look": {"kind": "python", "class": f"stuck.py:{node}"}}
        path = tmp_path / f"{node or 'p'}.yaml"
        path.write_text(yaml.safe_dump(document))
        jobs.append(Job(path, words, environ, terminal))
        return jobs[-1]

    yield begin
    for job in jobs:
        job.process.kill()
        job.process.wait()


def edit(job: Job, cameras: dict[str, Any], **keys: Any) -> None:
    job.path.write_text(yaml.safe_dump(plain(cameras, **keys)))


@contextmanager
def silent() -> Iterator[socket.socket]:
    """Accept connections, and never say a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def at(server: socket.socket) -> str:
    return f"127.0.0.1:{server.getsockname()[1]}"


# --- running ---


@ENDINGS
def test_while_all_is_well_everything_inside_goes_through(
    start: Start, redis_url: str, number: signal.Signals, code: int
) -> None:
    job = start({"gate": LIVE}, publish=[{"kind": "redis", "url": redis_url}])
    with raw(redis_url) as client:
        eventually(lambda: client.xlen("streamer:results:gate") > 10, "results")
        assert job.ends(number) == code
        state = json.loads(client.hget("streamer:cameras", "gate"))
        assert state["published"] == client.xlen("streamer:results:gate")
        assert sum(state["dropped"].values()) + state["published"] == state["grabbed"]


def test_while_a_camera_hangs_in_ffmpeg(start: Start) -> None:
    with silent() as server:
        urls = {"hung": f"rtsp://{at(server)}/", "silent": f"http://{at(server)}/x.mjpg", "gone": "rtsp://127.0.0.1:9/"}
        job = start({name: {"url": url, "open_timeout": "60s", "read_timeout": "60s"} for name, url in urls.items()})
        job.says("gone: ")
        assert job.ends(signal.SIGTERM) == DRAINED


def test_while_redis_is_away(start: Start, redis_server: EmbeddedRedis) -> None:
    job = start({"gate": LIVE}, publish=[{"kind": "redis", "url": redis_server.url}])
    eventually(lambda: keys(redis_server.url), "results")
    redis_server.stop()
    job.says("cannot be reached")
    assert job.ends(signal.SIGTERM) == DRAINED


def test_while_redis_hangs(start: Start, redis_server: EmbeddedRedis) -> None:
    job = start({"gate": LIVE}, publish=[{"kind": "redis", "url": redis_server.url}])
    eventually(lambda: keys(redis_server.url), "results")
    os.kill(redis_server.pid, signal.SIGSTOP)
    try:
        assert job.ends(signal.SIGTERM) == DRAINED
    finally:
        os.kill(redis_server.pid, signal.SIGCONT)


def keys(url: str) -> list[Any]:
    with raw(url) as client:
        return list(client.keys("streamer:results:*"))


def test_while_a_stage_hangs(start: Start) -> None:
    job = start({"gate": LIVE}, node="HangsInC")
    job.says("hanging")
    assert job.ends(signal.SIGTERM) == DRAINED
    assert "stage look" in job.said


# --- opening ---


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, TERMINATED), (signal.SIGINT, INTERRUPTED)])
def test_while_a_model_is_opened(start: Start, number: signal.Signals, code: int) -> None:
    job = start({"gate": LIVE}, node="OpensInPython")
    job.says("opening")
    assert job.ends(number) == code
    assert "force" not in job.said


def test_what_does_not_end_is_ended_by_force(start: Start) -> None:
    opening, closing = start({"gate": LIVE}, node="OpensInC"), start({"gate": LIVE}, node="NeverCloses")
    opening.says("opening")
    closing.says("look: ")
    closing.process.send_signal(signal.SIGTERM)
    assert opening.ends(signal.SIGTERM) == TERMINATED
    assert closing.process.wait(DEADLINE) == TERMINATED
    for job in (opening, closing):
        assert "SIGTERM: not everything has ended within 4.5 s; ended by force, with MainThread" in job.said


def test_while_weights_are_fetched(start: Start, tmp_path: Path) -> None:
    with silent() as server:
        environ = {"STREAMER_MODELS": f"http://{at(server)}", "XDG_CACHE_HOME": str(tmp_path / "cache")}
        nodes = {"yolo": {"kind": "detect", "model": "yolox-nano"}}
        job = start({"gate": LIVE}, environ=environ, nodes=nodes)
        server.settimeout(20)
        connection, _ = server.accept()
        with connection:
            assert job.ends(signal.SIGTERM) == TERMINATED


# --- a second one kills ---


def test_a_second_signal_kills(start: Start) -> None:
    job = start({"gate": LIVE}, node="HangsInC", limits={"drain": "60s"})
    job.says("hanging")
    assert job.ends(signal.SIGTERM, signal.SIGINT) == INTERRUPTED


def test_a_second_signal_kills_while_a_model_is_opened(start: Start) -> None:
    job = start({"gate": LIVE}, node="OpensInC")
    job.says("opening")
    began = time.monotonic()
    assert job.ends(signal.SIGTERM, signal.SIGTERM) == TERMINATED
    assert time.monotonic() - began < 2


# --- SIGHUP ---


def test_sighup_reloads_the_file_and_harms_nothing(start: Start, redis_url: str) -> None:
    sinks = [{"kind": "redis", "url": redis_url}]
    job = start({"gate": LIVE}, "--no-watch", publish=sinks)
    job.says("gate: running")
    edit(job, {"gate": LIVE, "yard": LIVE}, publish=sinks)
    time.sleep(0.5)
    assert "added yard" not in job.said, "it is not watched"
    for _ in range(50):  # also many in a row
        job.process.send_signal(signal.SIGHUP)
    job.says("added yard")
    job.path.write_text("nodes: []")
    job.process.send_signal(signal.SIGHUP)
    job.says("nodes: must be a mapping")
    with raw(redis_url) as client:
        eventually(lambda: client.xlen("streamer:results:yard") > 5, "results of the new camera")
        assert job.ends(signal.SIGTERM) == DRAINED
        seqs = [json.loads(entry[b"json"])["seq"] for _, entry in client.xrange("streamer:results:gate")]
    assert seqs == sorted(set(seqs))


def test_sighup_before_anything_runs_is_remembered(start: Start, tmp_path: Path) -> None:
    nodes = {"look": {"kind": "python", "class": "stuck.py:OpensWhenTold", "options": {"go": str(tmp_path / "go")}}}
    job = start({"gate": LIVE}, "--no-watch", nodes=nodes)
    job.says("opening")
    edit(job, {"gate": LIVE, "yard": LIVE}, nodes=nodes)
    job.process.send_signal(signal.SIGHUP)
    (tmp_path / "go").touch()
    job.says("added yard")


def test_a_terminal_that_is_gone_ends_what_ran_in_it(start: Start) -> None:
    master, slave = os.openpty()
    job = start({"gate": LIVE}, terminal=slave)
    os.close(slave)
    job.says("gate: running")
    job.process.send_signal(signal.SIGHUP)  # asked for by somebody: the terminal is still there
    job.says("nothing changed")
    os.close(master)
    assert job.process.wait(DEADLINE) == DRAINED


def test_systemd_hears_what_happens(start: Start, tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(20)
        job = start({"gate": LIVE}, environ={"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "4000000"})

        def hear(wanted: str) -> list[str]:
            """Return what was said up to *wanted*."""
            heard = [manager.recv(4096).decode()]
            while not heard[-1].startswith(wanted):
                heard.append(manager.recv(4096).decode())
            return heard

        assert not [said for said in hear("READY=1") if said.startswith("RELOADING")]
        hear("WATCHDOG=1")
        edit(job, {"gate": LIVE, "yard": LIVE})  # it is watched, so no signal is needed
        hear("RELOADING=1")
        hear("READY=1")
        job.says("added yard")
        assert job.ends(signal.SIGTERM) == DRAINED
        assert not [said for said in hear("STOPPING=1") if said.startswith("READY")]

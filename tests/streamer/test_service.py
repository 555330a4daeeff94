"""A pipeline file at work: opened, changed while it runs, and closed, also when opening fails half-way."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import services
import yaml
from redisworld import eventually, raw
from services import LIVE, Recorder, recorded, running, settings

import streamer
from streamer import config
from streamer.config import Camera
from streamer.errors import InputError, SourceUnusable, StreamerError
from streamer.notes import Note
from streamer.service import Change, Hosting, Service, Session
from streamer.service.change import beyond_cameras, difference
from streamer.types import Frame


def names() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


# --- the difference between two files ---

A, B, PAUSED = Camera(url="a"), Camera(url="b"), Camera(url="a", paused=True)


@pytest.mark.parametrize(
    ("old", "new", "now", "change"),
    [
        ({"x": A}, {"x": A}, {"x": A}, Change()),
        ({}, {"x": A}, {}, Change(added=("x",))),
        ({"x": A}, {}, {"x": A}, Change(removed=("x",))),
        ({"x": A}, {"x": B}, {"x": A}, Change(changed=("x",))),
        ({"x": A}, {"x": PAUSED}, {"x": A}, Change(paused=("x",))),
        ({"x": PAUSED}, {"x": A}, {"x": PAUSED}, Change(resumed=("x",))),
        ({"x": A}, {"x": A}, {"x": A, "own": B}, Change()),  # added by other means
        ({"x": A}, {"x": A}, {"x": PAUSED}, Change()),  # paused by other means
        ({"x": A}, {"x": A}, {}, Change()),  # removed by other means
        ({"x": A}, {}, {}, Change()),  # and then from the file as well
        ({"x": A}, {"x": B}, {}, Change(added=("x",))),  # an edit of its entry means that it is wanted
        ({}, {"own": B}, {"own": B}, Change()),  # what was added by other means is written down
    ],
)
def test_an_edit_changes_what_it_names_and_nothing_else(
    old: dict[str, Camera], new: dict[str, Camera], now: dict[str, Camera], change: Change
) -> None:
    assert difference(old, new, now) == change
    assert bool(change) == (change != Change())


def test_only_cameras_can_be_changed_while_it_runs() -> None:
    one = settings({"gate": LIVE})
    assert beyond_cameras(one, settings({"yard": LIVE})) == []
    assert beyond_cameras(one, settings({"gate": LIVE}, limits={"stage": "9s"}, latency="100ms")) == [
        "limits",
        "latency",
    ]


# --- cameras come and go ---


def test_nothing_else_hiccups_while_cameras_come_and_go() -> None:
    recorder = Recorder()
    # A deep mailbox: what the machine does beside this test is not what is tested.
    with running(settings({"gate": LIVE}, limits={"live_frames": 100}), recorder) as service:
        recorder.awaits("gate", 1)
        for i in range(20):
            service.add(f"guest{i}", Camera(url=LIVE))
            recorder.awaits(f"guest{i}", 3)
            service.remove(f"guest{i}")
        gate = service.stats().cameras["gate"]
        assert set(service.cameras()) == {"gate"}
    seqs = recorder.seqs("gate")
    assert seqs == list(range(len(seqs)))
    assert len(seqs) > 40
    assert (gate.state, gate.reconnects, dict(gate.dropped)) == ("running", 0, {})
    assert not [name for name in names() if name.startswith("grab ")]


def test_pause_resume_and_aim_elsewhere_go_on_counting() -> None:
    recorder = Recorder()
    with running(settings({"gate": LIVE, "yard": LIVE}), recorder) as service:
        recorder.awaits("yard", 3)
        service.pause("yard")
        assert service.cameras()["yard"].paused
        assert service.stats().cameras["yard"].state == "paused"
        before = len(recorder.seqs("yard"))
        service.resume("yard")
        recorder.awaits("yard", before + 3)
        service.add("yard", Camera(url="synthetic://?size=96x64&fps=25"))
        eventually(lambda: recorder.sink.packets[-1].frame.image.shape[1] == 96, "frames of the other source")
    seqs = recorder.seqs("yard")
    assert seqs == sorted(set(seqs))


def test_apply_changes_the_cameras_alone() -> None:
    recorder = Recorder()
    with running(settings({"gate": LIVE, "old": LIVE}), recorder) as service:
        service.add("own", Camera(url=LIVE))
        change = service.apply(settings({"gate": LIVE, "new": LIVE}))
        assert change == Change(added=("new",), removed=("old",))
        assert str(change) == "added new; removed old"
        assert set(service.cameras()) == {"gate", "new", "own"} == set(service.pipeline.cameras)
        assert service.apply(settings({"gate": {"url": LIVE, "paused": True}, "new": LIVE})) == Change(paused=("gate",))
        assert service.apply(settings({"gate": {"url": LIVE, "fps": 5}, "new": LIVE})) == Change(changed=("gate",))
        eventually(lambda: service.stats().cameras["gate"].state == "running", "the camera to run again")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"runtime": {"threads": 1}}, "runtime changed: restart to apply them; nothing was changed"),
        ({"cameras": {f"c{i}": LIVE for i in range(3)}}, r"4 cameras are more than limits\.cameras allows, 3"),
        ({"cameras": {"gate": LIVE, "new": "clip.mp4?fps=3"}}, "only a folder of images"),
    ],
)
def test_an_edit_that_is_wrong_changes_nothing(edit: dict[str, Any], words: str) -> None:
    few = {"limits": {"cameras": 3}}
    with running(settings({"gate": LIVE}, **few)) as service:
        service.add("own", Camera(url=LIVE))
        with pytest.raises(InputError, match=words):
            service.apply(settings(**{"cameras": {"gate": LIVE, "new": LIVE}, **few, **edit}))
        assert set(service.cameras()) == {"gate", "own"} == set(service.pipeline.cameras)


def test_what_cannot_be_is_refused_in_one_sentence() -> None:
    with running(settings({"gate": LIVE}, limits={"cameras": 1})) as service:
        for change in (service.remove, service.pause, service.resume):
            with pytest.raises(InputError, match="there is no camera 'gatte'; there are: gate"):
                change("gatte")
        with pytest.raises(InputError, match=r"limits\.cameras"):
            service.add("yard", Camera(url=LIVE))
        service.add("gate", Camera(url="synthetic://?size=64x64&fps=5"))  # in its own place there is room


def test_a_pipeline_of_recordings_takes_no_live_camera() -> None:
    slow = "synthetic://?size=64x64&fps=25&frames=500&realtime=1"
    with running(settings({"clip": slow})) as service, pytest.raises(InputError, match="is live"):
        service.add("gate", Camera(url=LIVE))


def test_a_camera_that_comes_late_is_not_drawn_and_that_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder, video = Recorder(), {"kind": "video", "path": str(tmp_path / "{camera}.mp4")}
    with running(settings({"gate": LIVE}, publish=[video]), recorder) as service:
        for _ in range(2):
            service.add("late", Camera(url=LIVE))
        recorder.awaits("late", 3)
        recorder.awaits("gate", 3)
    assert [path.name for path in tmp_path.iterdir()] == ["gate.mp4"]
    assert len([record for record in caplog.records if "late" in record.message and "drawn" in record.message]) == 1


# --- opening and closing ---


def test_opening_that_fails_half_way_closes_what_was_open(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    before = names()
    sink = {"kind": "jsonl", "path": str(tmp_path / "results.jsonl")}
    good = settings({"gate": LIVE}, publish=[sink], monitor={"http": port})
    bad = replace(good, publish=(*good.publish, config.JsonLines(kind="jsonl", path=Path("/proc/no/results.jsonl"))))
    with pytest.raises(StreamerError), Service(bad):
        pytest.fail("it opened")
    assert names() == before
    with Service(good) as service:  # port and file are free
        assert not service.health().ready
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as answer:
            assert answer.status == 200
    assert names() == before


def test_everything_that_runs_beside_a_pipeline(redis_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    recorder = Recorder()
    of = settings({"gate": LIVE}, publish=[{"kind": "redis", "url": redis_url}], monitor={"http": port})
    with running(of, recorder) as service:
        eventually(lambda: service.health().ready, "readiness")
        recorder.awaits("gate", 1)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status") as answer:
            status = json.load(answer)
        assert status["cameras"]["gate"]["state"] == "running"
        assert set(service.stats().queues) == {"camera gate", "stage look", "publish"}
        service.stop()
        assert not service.health().ready
    with raw(redis_url) as client:
        count = len(recorder.seqs("gate"))
        assert client.xlen("streamer:results:gate") == count
        newest = client.xrevrange("streamer:metrics", count=1)[0][1][b"json"]
        assert json.loads(newest)["cameras"]["gate"]["published"] == count, "figures are told after the very end"


def test_the_program_hears_of_the_start_and_of_the_end() -> None:
    phases: list[str] = []
    with Service(settings({"clip": recorded(3)}), Hosting(phase=phases.append)) as service:
        assert phases == []
        service.run()
    assert phases == ["started", "ending"]


# --- the same as a Python object ---


def session(path: Path, *cameras: str | dict[str, Any], **keys: Any) -> Session:
    return Session.from_yaml(services.written(path / "p.yaml", dict(zip("abc", cameras, strict=False)), **keys))


def test_every_packet_of_recordings_in_order(tmp_path: Path) -> None:
    with session(tmp_path, recorded(40), recorded(30)) as p:
        packets = list(p)
        assert list(p) == []
        assert p.stats().cameras["a"].published == 40
    for camera, frames in (("a", 40), ("b", 30)):
        assert [q.frame.seq for q in packets if q.frame.camera == camera] == list(range(frames))


def test_recordings_wait_for_whoever_reads(tmp_path: Path) -> None:
    with session(tmp_path, recorded(500)) as p:
        first = next(iter(p))
        eventually(lambda: p.stats().cameras["a"].grabbed > 30, "frames that wait")
        assert p.stats().cameras["a"].grabbed < 250
        assert [first.frame.seq, *(q.frame.seq for q in p)] == list(range(500))
        assert "python" not in p.stats().sinks


def test_of_live_cameras_the_oldest_unread_go_and_are_counted(tmp_path: Path) -> None:
    with Session(settings({"a": LIVE}), unread=3) as p:
        eventually(lambda: p.stats().sinks.get("python") and p.stats().sinks["python"].dropped > 5, "dropped results")
        packets = iter(p)
        seqs = [next(packets).frame.seq for _ in range(4)]
    assert seqs == sorted(seqs)
    assert seqs[0] > 5


def test_cameras_change_inside_the_loop(tmp_path: Path) -> None:
    with session(tmp_path, LIVE) as p:
        for packet in p:
            if packet.frame.camera == "a" and "b" not in p.cameras:
                p.add("b", LIVE, fps=10)
            if packet.frame.camera == "b":
                p.pause("b")
                p.resume("b")
                p.remove("b")
                break
        assert set(p.cameras) == {"a"}
        with pytest.raises(InputError, match="did you mean 'fps'"):
            p.add("c", LIVE, fsp=10)


def test_leaving_early_stops_and_closes_everything(tmp_path: Path) -> None:
    before = names()
    with session(tmp_path, LIVE, recorded(10_000)) as p:
        next(iter(p))
    assert names() == before
    with session(tmp_path, recorded(5)) as p:
        p.stop()
        list(p)
    assert names() == before
    with pytest.raises(InputError, match="not open"):
        list(Session(settings({"a": LIVE})))


class Clumsy:
    """A stage that breaks at its fifth frame."""

    reads = ()
    writes = Note

    def __call__(self, frame: Frame) -> Note:
        if frame.seq == 5:
            raise ArithmeticError("too clumsy")
        return Note("seen", {"seq": frame.seq})


def clumsy(tmp_path: Path) -> Session:
    nodes = {"look": {"kind": "python", "class": f"{__file__}:Clumsy"}}
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump({"cameras": {"a": {"url": recorded()}}, "nodes": nodes, "limits": {"batch": 1}}))
    return Session.from_yaml(path)


def test_an_error_of_a_stage_is_raised_in_the_loop(tmp_path: Path) -> None:
    seqs = []

    def loop(p: Session) -> None:
        for packet in p:
            seqs.append(packet.frame.seq)
            note = p.get(packet, "look", Note)
            assert note is not None
            assert note.data["seq"] == packet.frame.seq
            assert packet.get(p.ports["look"]) is note

    with pytest.raises(Exception, match="too clumsy"), clumsy(tmp_path) as p:
        loop(p)
    assert seqs == list(range(len(seqs)))


def test_an_error_that_the_loop_did_not_come_to_is_raised_at_the_end(tmp_path: Path) -> None:
    p = clumsy(tmp_path)
    with pytest.raises(Exception, match="too clumsy"), p:
        eventually(lambda: (a := p.stats().cameras.get("a")) and a.state == "ended", "the end")


def test_a_recording_that_fails_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(SourceUnusable, match=r"gone\.mp4"), session(tmp_path, str(tmp_path / "gone.mp4")) as p:
        list(p)


def test_a_wrong_node_is_named(tmp_path: Path) -> None:
    with session(tmp_path, recorded(2)) as p:
        packet = next(iter(p))
        assert p.get(packet, "look") is None
        with pytest.raises(InputError, match="no node 'loook'; there are: look"):
            p.get(packet, "loook")
        with pytest.raises(InputError, match="no cameras"):
            Session(replace(settings({"a": LIVE}), cameras={}))


def test_what_the_file_publishes_is_published_as_well(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with session(tmp_path, recorded(7), publish=[{"kind": "jsonl", "path": str(out)}]) as p:
        assert len(list(p)) == 7
    assert len(out.read_text().splitlines()) == 7


def test_the_name_that_programs_import(tmp_path: Path) -> None:
    path = services.written(tmp_path / "p.yaml", {"a": recorded(4)})
    with streamer.Pipeline.from_yaml(path, ["limits.batch=2"]) as p:
        assert [packet.frame.seq for packet in p] == [0, 1, 2, 3]


def test_importing_streamer_stays_light() -> None:
    code = "import sys, streamer; before = set(sys.modules); streamer.Pipeline; print('numpy' in before, 'x')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False x\n"

"""The command line as its users meet it: real files, a real (small) network, a real Redis."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import networks
import pytest
import redis
from redisworld import eventually
from videos import Clip, write

from streamer.cli import COMMANDS, main

Run = Callable[..., "Ended"]


class Ended:
    """What a command left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def faults(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("streamer: ")]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command line in this process."""

    def call(*argv: object) -> Ended:
        code = main([str(word) for word in argv])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Ended(code, out, err)

    return call


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A pipeline over a network of the test's own."""
    model = networks.manifest(tmp_path)
    path = tmp_path / "p.yaml"
    path.write_text(f"nodes:\n  spots: {{kind: detect, model: {model}, confidence: 0.3}}\n")
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write(tmp_path / "clip.mp4", Clip(frames=25))


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def spawn(*argv: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "streamer", *map(str, argv)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# --- process ---


def test_process_writes_a_line_a_frame(run: Run, pipeline: Path, clip: Path, tmp_path: Path) -> None:
    ended = run("process", clip, "--out", tmp_path / "out", "--pipeline", pipeline)
    assert ended.code == 0, ended.err
    messages = lines(tmp_path / "out" / "clip.jsonl")
    assert [m["seq"] for m in messages] == list(range(25))
    assert [m["pts"] for m in messages] == pytest.approx([i / 10 for i in range(25)])
    assert {m["camera"] for m in messages} == {"clip"}
    first = messages[0]
    assert list(first) == ["schema", "camera", "seq", "pts", "captured_at", "size", "results", "latency_ms"]
    assert first["size"] == [128, 96]
    results = first["results"]
    assert isinstance(results, dict)
    # Blue is bright in the bottom left quadrant only: x below 64, y from 48 on.
    boxes = [item["box"] for item in results["spots"]["items"] if item["confidence"] > 0.6]
    assert boxes
    assert all(x2 <= 66 and y1 >= 46 for _, y1, x2, _ in boxes)


def test_several_videos_each_with_its_own_file(run: Run, pipeline: Path, tmp_path: Path) -> None:
    videos = [write(tmp_path / f"v{i}.mp4", Clip(frames=3 + i)) for i in range(3)]
    assert run("process", *videos, "--out", tmp_path / "out", "--pipeline", pipeline).code == 0
    assert [len(lines(tmp_path / "out" / f"v{i}.jsonl")) for i in range(3)] == [3, 4, 5]


def test_annotated_video_has_every_frame(run: Run, pipeline: Path, clip: Path, tmp_path: Path) -> None:
    assert run("process", clip, "--out", tmp_path / "out", "--annotate", "--pipeline", pipeline).code == 0
    with av.open(str(tmp_path / "out" / "clip.mp4")) as video:
        assert video.streams.video[0].codec_context.name == "h264"
        assert sum(1 for _ in video.decode(video=0)) == 25


def test_a_resolution_that_changes_midway(run: Run, pipeline: Path, tmp_path: Path) -> None:
    parts = [write(tmp_path / f"{w}.ts", Clip(frames=6, size=(w, 96))) for w in (128, 192)]
    video = tmp_path / "both.ts"
    video.write_bytes(b"".join(part.read_bytes() for part in parts))
    ended = run("process", video, "--out", tmp_path / "out", "--annotate", "--pipeline", pipeline)
    assert ended.code == 0, ended.err
    sizes = [m["size"] for m in lines(tmp_path / "out" / "both.jsonl")]
    assert sizes == [[128, 96]] * 6 + [[192, 96]] * 6


def test_an_existing_result_is_neither_overwritten_nor_mixed(
    run: Run, pipeline: Path, clip: Path, tmp_path: Path
) -> None:
    command = ("process", clip, "--out", tmp_path / "out", "--pipeline", pipeline)
    run(*command)
    before = (tmp_path / "out" / "clip.jsonl").read_bytes()
    again = run(*command)
    assert again.code == 2
    assert "--resume" in again.faults[0]
    assert (tmp_path / "out" / "clip.jsonl").read_bytes() == before
    assert run(*command, "--resume").code == 0
    assert (tmp_path / "out" / "clip.jsonl").read_bytes() == before
    assert run(*command, "--overwrite").code == 0
    assert len(lines(tmp_path / "out" / "clip.jsonl")) == 25


@pytest.mark.parametrize("cut", [1, 7, 400])
def test_resume_goes_on_after_a_torn_line(run: Run, pipeline: Path, clip: Path, tmp_path: Path, cut: int) -> None:
    command = ("process", clip, "--out", tmp_path / "out", "--pipeline", pipeline)
    run(*command)
    path = tmp_path / "out" / "clip.jsonl"
    whole = lines(path)
    path.write_bytes(path.read_bytes()[:-cut])
    assert run(*command, "--resume").code == 0
    resumed = lines(path)
    assert [(m["seq"], m["pts"], m["results"]) for m in resumed] == [(m["seq"], m["pts"], m["results"]) for m in whole]


def test_killed_and_resumed_loses_and_doubles_nothing(run: Run, pipeline: Path, tmp_path: Path, redis_url: str) -> None:
    video = write(tmp_path / "long.mp4", Clip(frames=1500))
    path = tmp_path / "out" / "long.jsonl"
    command = ("process", video, "--out", tmp_path / "out", "--pipeline", pipeline, "--redis", redis_url)
    victim = spawn(*command)
    eventually(lambda: path.exists() and path.stat().st_size > 20_000, "some results")
    victim.kill()
    victim.wait()
    written = path.read_bytes().count(b"\n")
    assert written < 1500, "it was too fast to be killed in the middle"
    assert run(*command, "--resume").code == 0
    assert [m["seq"] for m in lines(path)] == list(range(1500))
    with redis.Redis.from_url(redis_url) as client:
        published = [fields[b"json"] for _, fields in client.xrange("streamer:results:long")]
    assert published == path.read_bytes().splitlines()


def test_published_to_redis_as_well(run: Run, pipeline: Path, clip: Path, tmp_path: Path, redis_url: str) -> None:
    assert run("process", clip, "--out", tmp_path / "o", "--pipeline", pipeline, "--redis", redis_url).code == 0
    with redis.Redis.from_url(redis_url) as client:
        entries = client.xrange("streamer:results:clip")
        assert [fields[b"json"] for _, fields in entries] == (tmp_path / "o" / "clip.jsonl").read_bytes().splitlines()
        assert client.get("streamer:latest:clip") == entries[-1][1][b"json"]
        assert client.xlen("streamer:metrics") >= 1


def test_ctrl_c_ends_a_long_job_on_a_whole_line(pipeline: Path, tmp_path: Path) -> None:
    video = write(tmp_path / "long.mp4", Clip(frames=3000))
    path = tmp_path / "out" / "long.jsonl"
    job = spawn("process", video, "--out", tmp_path / "out", "--pipeline", pipeline)
    eventually(lambda: path.exists() and path.stat().st_size > 20_000, "some results")
    job.send_signal(signal.SIGINT)
    _, err = job.communicate(timeout=20)
    assert job.returncode == 130
    assert "--resume" in err
    assert "Traceback" not in err
    seqs = [m["seq"] for m in lines(path)]
    assert seqs == list(range(len(seqs)))


# --- wrong input: one clear sentence, the right exit code ---


def only_fault(ended: Ended, code: int) -> str:
    assert ended.code == code, ended.err
    assert len(ended.faults) == 1, ended.err
    return ended.faults[0]


def test_no_such_file(run: Run, pipeline: Path, clip: Path, tmp_path: Path) -> None:
    ended = run("process", clip, tmp_path / "no.mp4", "--out", tmp_path / "out", "--pipeline", pipeline)
    assert "no.mp4" in only_fault(ended, 2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"just some text\n" * 50, bytes(range(256)) * 40])
def test_a_file_that_is_no_video(run: Run, pipeline: Path, tmp_path: Path, content: bytes) -> None:
    video = tmp_path / "v.mp4"
    video.write_bytes(content)
    ended = run("process", video, "--out", tmp_path / "out", "--pipeline", pipeline)
    assert "v.mp4" in only_fault(ended, 2)


def test_a_bad_video_does_not_keep_the_others_from_being_processed(
    run: Run, pipeline: Path, clip: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"text")
    ended = run("process", bad, clip, "--out", tmp_path / "out", "--pipeline", pipeline)
    assert "bad.mp4" in only_fault(ended, 2)
    assert len(lines(tmp_path / "out" / "clip.jsonl")) == 25


def test_a_truncated_video_is_processed_as_far_as_it_goes(run: Run, pipeline: Path, tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.mp4", Clip(frames=100, muxer={"movflags": "+faststart"}))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    ended = run("process", cut, "--out", tmp_path / "out", "--pipeline", pipeline)
    assert "cut.mp4" in only_fault(ended, 1)
    seqs = [m["seq"] for m in lines(tmp_path / "out" / "cut.jsonl")]
    assert seqs == list(range(len(seqs)))
    assert 20 < len(seqs) < 100


def test_two_videos_of_one_name(run: Run, pipeline: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    videos = [write(tmp_path / d / "v.mp4", Clip(frames=2)) for d in "ab"]
    assert "v.jsonl" in only_fault(run("process", *videos, "--out", tmp_path / "o", "--pipeline", pipeline), 2)


@pytest.mark.parametrize("content", [b"", b"not an onnx file", bytes(500)])
def test_a_network_that_is_none(run: Run, pipeline: Path, clip: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bright.onnx").write_bytes(content)
    ended = run("process", clip, "--out", tmp_path / "out", "--pipeline", pipeline)
    assert "bright.onnx" in only_fault(ended, 2)


def test_a_manifest_with_an_unknown_decoder(run: Run, pipeline: Path, clip: Path, tmp_path: Path) -> None:
    networks.manifest(tmp_path, decoder="yolocks")
    fault = only_fault(run("process", clip, "--out", tmp_path / "out", "--pipeline", pipeline), 2)
    assert "bright.yaml:5" in fault
    assert "yolox" in fault


def test_weights_nowhere_to_be_had(clip: Path, tmp_path: Path) -> None:
    nothing = "http://127.0.0.1:9"  # no proxy listens there
    environ = {**os.environ, "STREAMER_MODELS": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environ |= {"http_proxy": nothing, "https_proxy": nothing}
    # A process of its own: urllib keeps the proxies that it saw first.
    command = [sys.executable, "-m", "streamer", "process", str(clip), "--out", str(tmp_path / "out")]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    fault = only_fault(Ended(ended.returncode, ended.stdout, ended.stderr), 1)  # not 2: another try may help
    assert "yolox_nano.onnx" in fault
    assert "github.com" in fault
    assert "STREAMER_MODELS" in fault


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("nodes.spots.confidense=0.5", "did you mean 'confidence'?"),
        ("nodes.spots.classes=[brigt]", "did you mean 'bright'?"),
        ("nodes.spots.model=yolox-nanno", "yolox-nano"),
        ("runtime.prefer=[openvin]", "did you mean 'openvino'?"),
        ("runtime.precision=fp23", "runtime.precision"),
    ],
)
def test_a_wrong_setting(run: Run, pipeline: Path, clip: Path, tmp_path: Path, override: str, words: str) -> None:
    ended = run("process", clip, "--out", tmp_path / "out", "--pipeline", pipeline, "--set", override)
    assert words in only_fault(ended, 2)


def test_a_camera_is_no_recording(run: Run, pipeline: Path, tmp_path: Path) -> None:
    ended = run("process", "synthetic://?fps=5", "--out", tmp_path / "out", "--pipeline", pipeline)
    assert "streamer run" in only_fault(ended, 2)


def test_a_redis_that_is_not_there(run: Run, pipeline: Path, clip: Path, tmp_path: Path) -> None:
    command = ("process", clip, "--out", tmp_path / "o", "--pipeline", pipeline, "--redis", "redis://127.0.0.1:9/0")
    assert "127.0.0.1:9" in only_fault(run(*command), 2)


def test_a_redis_that_refuses_the_password(run: Run, pipeline: Path, clip: Path, tmp_path: Path) -> None:
    from streamer.embedded import EmbeddedRedis

    with EmbeddedRedis({"requirepass": "right"}) as server:
        url = server.url.replace("redis://", "redis://:wrong-hunter2@")
        for command in (
            ("process", clip, "--out", tmp_path / "o", "--pipeline", pipeline, "--redis", url),
            ("run", pipeline, "--set", f"cameras.c.url={clip}", "--set", f"publish=[{{kind: redis, url: '{url}'}}]"),
        ):
            ended = run(*command)
            assert "password" in only_fault(ended, 2)
            assert "hunter2" not in ended.err + ended.out


def test_a_full_disk(run: Run, pipeline: Path, tmp_path: Path) -> None:
    video = write(tmp_path / "v.mp4", Clip(frames=400))
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted; run the tests as root")
    try:
        fault = only_fault(run("process", video, "--out", disk, "--pipeline", pipeline), 1)
        assert "v.jsonl" in fault
        assert "space" in fault.lower()
        written = lines(disk / "v.jsonl")  # every line is whole
        assert [m["seq"] for m in written] == list(range(len(written)))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_two_processes_and_one_output(run: Run, pipeline: Path, tmp_path: Path) -> None:
    video = write(tmp_path / "long.mp4", Clip(frames=3000))
    command = ("process", video, "--out", tmp_path / "out", "--pipeline", pipeline, "--resume")
    first = spawn(*command)
    path = tmp_path / "out" / "long.jsonl"
    eventually(lambda: path.exists() and path.stat().st_size > 0, "the first to write")
    fault = only_fault(run(*command), 2)
    assert f"pid {first.pid}" in fault
    first.kill()
    first.communicate()


# --- run ---


def test_run_mixes_sources_until_they_end(run: Run, pipeline: Path, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.jsonl"
    ended = run(
        "run",
        pipeline,
        "--set",
        f"cameras.file.url={clip}",
        "--set",
        "cameras.made.url=synthetic://?size=64x64&frames=9&realtime=0",
        "--set",
        f"publish=[{{kind: jsonl, path: {out}}}]",
    )
    assert ended.code == 0, ended.err
    messages = lines(out)
    for camera, frames in (("file", 25), ("made", 9)):
        assert [m["seq"] for m in messages if m["camera"] == camera] == list(range(frames))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_live_run_drains_when_told_to_stop(
    pipeline: Path, tmp_path: Path, redis_url: str, number: signal.Signals, code: int
) -> None:
    sink = f"publish=[{{kind: redis, url: '{redis_url}'}}]"
    job = spawn("run", pipeline, "--set", "cameras.gate.url=synthetic://?size=64x64&fps=50", "--set", sink)
    with redis.Redis.from_url(redis_url) as client:
        eventually(lambda: client.xlen("streamer:results:gate") > 20, "results in Redis")
        job.send_signal(number)
        out, err = job.communicate(timeout=20)
        assert job.returncode == code, err
        assert "Traceback" not in err
        assert "gate" in out
        seqs = [json.loads(fields[b"json"])["seq"] for _, fields in client.xrange("streamer:results:gate")]
        state = client.hget("streamer:cameras", "gate")
    assert seqs == sorted(set(seqs))
    assert state is not None
    assert json.loads(state)["published"] == len(seqs)


def test_a_camera_that_fails_does_not_stop_the_others(run: Run, pipeline: Path, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.jsonl"
    ended = run(
        "run",
        pipeline,
        "--set",
        f"cameras.good.url={clip}",
        "--set",
        f"cameras.bad.url={tmp_path / 'gone.mp4'}",
        "--set",
        f"publish=[{{kind: jsonl, path: {out}}}]",
    )
    assert "bad: " in only_fault(ended, 2)
    assert len(lines(out)) == 25


def test_a_pipeline_without_cameras_or_nodes(run: Run, pipeline: Path, tmp_path: Path) -> None:
    assert "no cameras" in only_fault(run("run", pipeline), 2)
    empty = tmp_path / "empty.yaml"
    empty.write_text("cameras: {a: {url: 'synthetic://'}}")
    assert "no nodes" in only_fault(run("run", empty), 2)


# --- the other commands ---


def test_check_opens_everything_and_names_every_fault(run: Run, pipeline: Path, clip: Path, redis_url: str) -> None:
    good = ("check", pipeline, "--set", f"cameras.gate.url={clip}", "--set")
    ended = run(*good, f"publish=[{{kind: redis, url: '{redis_url}'}}]")
    assert ended.code == 0, ended.out + ended.err
    assert "128 x 96" in ended.out
    bad = run(*good, "publish=[{kind: redis, url: 'redis://127.0.0.1:9'}]", "--set", "cameras.b.url=/nowhere.mp4")
    assert bad.code == 2
    assert bad.out.count("FAULT") == 2
    folder = run(*good, "publish=[{kind: jsonl, path: /tmp}]")
    assert folder.code == 2
    assert "is a folder" in folder.out


def test_check_says_what_memory_frames_may_take(run: Run, pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    size = ("--set", "cameras.gate.url=synthetic://?size=1280x720&fps=100")
    usual = run("check", pipeline, *size, "--set", "publish=[]")
    assert usual.code == 0, usual.out
    # 2 frames wait and 1 is decoded, at 1.5 bytes a pixel; 5 batches of 8 at 3.
    assert "at most 109 MB: 4 decoded and waiting, 105 in the graph" in usual.out
    small = run("check", pipeline, *size, "--set", "publish=[]", "--set", "limits.batch=1")
    assert "13 in the graph" in small.out


def test_check_misses_frames(run: Run, pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    ended = run("check", pipeline, "--set", "cameras.a.url=synthetic://?frames=0", "--set", "publish=[]")
    assert ended.code == 2
    assert "before its first frame" in ended.out
    assert run("check", pipeline, "--set", "publish=[]").code == 0  # without cameras: a pipeline for `process`


def test_models(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert "yolox-nano" in run("models", "list").out
    shown = run("models", "show", "yolox-nano").out
    assert "416 x 416" in shown
    assert "Apache-2.0" in shown
    assert "yolox-nano" in only_fault(run("models", "show", "yolox-nan"), 2)
    path = networks.manifest(tmp_path)
    assert run("models", "pull", path).out.strip() == str(tmp_path / "bright.onnx")


def test_watch_shows_what_a_pipeline_publishes(pipeline: Path, redis_url: str) -> None:
    sink = f"publish=[{{kind: redis, url: '{redis_url}'}}]"
    producer = spawn("run", pipeline, "--set", "cameras.gate.url=synthetic://?size=64x64&fps=20", "--set", sink)
    watcher = spawn("watch", "--redis", redis_url)
    assert watcher.stdout is not None
    line = next(line for line in watcher.stdout if "gate" in line)
    assert "FPS in" in line
    for process in (watcher, producer):
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert process.returncode == 130


def test_watch_without_a_redis(run: Run) -> None:
    assert "127.0.0.1:9" in only_fault(run("watch", "--redis", "redis://127.0.0.1:9"), 2)


def test_ctrl_c_while_weights_are_fetched_ends_at_once(clip: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        mirror = f"http://127.0.0.1:{silent.getsockname()[1]}"
        environ = {**os.environ, "STREAMER_MODELS": mirror, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        job = subprocess.Popen(
            [sys.executable, "-m", "streamer", "process", str(clip), "--out", str(tmp_path / "out")],
            env=environ,
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = silent.accept()
        job.send_signal(signal.SIGINT)
        _, err = job.communicate(timeout=10)
        connection.close()
    assert job.returncode == 130
    assert "Traceback" not in err


def test_demo_without_a_redis_brings_its_own(run: Run, tmp_path: Path) -> None:
    networks.manifest(tmp_path)
    video = write(tmp_path / "my clip.mp4", Clip(frames=10, fps=25))
    free = "redis://127.0.0.1:9/0"
    command = (
        "demo",
        video,
        "--out",
        tmp_path / "o",
        "--redis",
        free,
        "--set",
        f"nodes.yolo.model={tmp_path}/bright.yaml",
    )
    ended = run(*command)
    assert ended.code == 0, ended.err
    assert "embedded" in ended.err
    assert "streamer:results:my-clip" in ended.out
    assert len(lines(tmp_path / "o" / "my-clip.jsonl")) == 10
    assert (tmp_path / "o" / "my-clip.mp4").stat().st_size > 0


def test_help_imports_no_heavy_library() -> None:
    code = "import sys\nfrom streamer.cli import main\ntry: main(['--help'])\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "process" in done.stdout
    assert not {"cv2", "av", "openvino", "numpy", "rich", "pydantic", "redis"} & set(done.stdout.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"streamer {command}" in capsys.readouterr().out


def test_a_wrong_word_on_the_command_line_is_wrong_input(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["porcess"])
    assert ended.value.code == 2
    assert "invalid choice" in capsys.readouterr().err


_SWALLOWING = """
import os, sys, time
from streamer.cli import main
from streamer.cli.models import listing

def job(_args):
    try:
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(10)
    except KeyboardInterrupt as error:
        raise (ImportError("initialization failed") if sys.argv[2] == "swallowed" else error)

listing.list_models = job
sys.exit(main(["models", "list"]))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("what", ["swallowed", "passed on"])
def test_a_signal_ends_a_command_whatever_a_library_makes_of_it(number: int, code: int, what: str) -> None:
    command = [sys.executable, "-c", _SWALLOWING, str(int(number)), what]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_check_finds_polygons_that_no_camera_has(
    run: Run, pipeline: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    regions = "{here: [[10, 10], [90, 10], [90, 90]], there: [[4000, 10], [4090, 10], [4090, 90]]}"
    ended = run("check", pipeline, "--set", f"cameras.gate.url={clip}", "--set", f"nodes.spots.regions={regions}")
    assert ended.code == 2
    assert "there lies outside the 128 x 96 pixels of gate" in ended.out
    assert ended.out.count("FAULT") == 1

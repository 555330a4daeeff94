"""`streamer models list`, `show` and `pull` of models for motion and actions, and of those that are others together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpfiles
import motionnets
import pytest

from streamer.cli import main

Run = Callable[..., "Ended"]
LABELS = f"[{', '.join(motionnets.BRIGHTNESS)}]"


class Ended:
    """What a command left behind; lines of tables without the spaces that lay them out."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.err = code, err
        self.lines = [" ".join(line.split()) for line in out.splitlines()]
        self.faults = [line.removeprefix("streamer: ") for line in err.splitlines() if line.startswith("streamer: ")]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Call the command line in this process, with a cache of the test's own."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("STREAMER_MODELS", raising=False)

    def call(*argv: object) -> Ended:
        code = main(["models", *map(str, argv)])
        return Ended(code, *capsys.readouterr())

    return call


def network(folder: Path, name: str, weights: str) -> None:
    """Write a manifest of a network that looks at clips."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yaml").write_text(
        f"name: {name}\ntask: recognise\nlabels: {LABELS}\npreprocess: {{size: [16, 24]}}\n"
        f"decoder: actions\nclip: {{length: 4, fps: 10}}\nweights: {{onnx: {{{weights}}}}}\n"
    )


def pair(folder: Path, *streams: str) -> Path:
    """Write a manifest of streams that lie beside it."""
    path = folder / "pair.yaml"
    told = ", ".join(f"{{model: {name}.yaml, weight: {i}}}" for i, name in enumerate(streams, 1))
    path.write_text(
        f"name: pair\ntask: recognise\nlabels: {LABELS}\npreprocess: {{size: [16, 24]}}\n"
        f"decoder: {{kind: fusion, streams: [{told}]}}\n"
    )
    return path


# --- list ---


def test_list_tells_what_each_looks_at_and_which_streams_are_here(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "flow_imagenet.pt").write_bytes(b"as it was brought")
    monkeypatch.setenv("STREAMER_MODELS", str(tmp_path))
    lines = run("list").lines
    for line in (
        "flownets flow 576 x 320 x 2 not here; `streamer models show flownets` says how to get them",
        "r3d-18 recognise 112 x 112 x 16 400 not here; `streamer models pull` fetches them",
        f"i3d-flow recognise 224 x 224 x 64 400 {tmp_path / 'flow_imagenet.pt'}",
        "two-stream-i3d recognise 224 x 224 x 64 400 i3d-rgb (not here) and i3d-flow (here)",
        "two-stream-vgg16 recognise 224 x 224 x 10 101 vgg16-spatial (not here) and vgg16-temporal (not here)",
        "vgg16-spatial recognise 224 x 224 101 not here; `streamer models show vgg16-spatial` says how to get them",
        "yolox-nano detect 416 x 416 80 not here; `streamer models pull` fetches them",
    ):
        assert line in lines


# --- show ---


def test_show_tells_of_a_pair_what_it_consists_of(run: Run, tmp_path: Path) -> None:
    lines = run("show", "two-stream-vgg16").lines
    assert lines[:2] == ["two-stream-vgg16", "task recognise"]
    assert "decoder fusion, the weighted mean of vgg16-spatial (1) and vgg16-temporal (1.5)" in lines
    (spatial,) = [
        line for line in lines if line.startswith("vgg16-spatial 1 frame of 224 x 224, 25 a second, as a stack")
    ]
    assert "mean (123.675, 116.28, 103.53)" in spatial
    temporal = "10 flow fields of 224 x 224, 25 a second, as a stack, cut to 20 pixels and divided by that"
    assert f"vgg16-temporal {temporal}" in lines
    cache = tmp_path / "cache/streamer/models"
    here = f"on this machine no; bring your own, and put them to {cache}/vgg16_temporal_ucf101.pth"
    assert f"vgg16-temporal {here}" in lines
    assert any(line.startswith("classes 0 ApplyEyeMakeup, 1 ApplyLipstick") for line in lines)
    assert not any(line.startswith(("weights", "url", "defaults")) for line in lines)


def test_show_tells_how_to_get_weights_that_have_no_address(run: Run, tmp_path: Path) -> None:
    lines = run("show", "flownetc").lines
    page = "https://drive.google.com/drive/folders/1dTpSyc7rIYYG19p1uiDfilcsmSPNy-_3"
    target = tmp_path / "cache/streamer/models/flownetc_EPE1.766.pth.tar"
    assert f"on this machine no; get them from {page} and put them to {target}" in lines
    assert any(
        line.startswith("input 2 images of 576 x 320, letterbox (top-left), RGB, mean (104.805,") for line in lines
    )
    assert not any(line.startswith(("classes", "defaults")) for line in lines)


def test_show_says_what_is_wrong_with_the_streams(run: Run, tmp_path: Path) -> None:
    network(tmp_path, "one", "file: one.onnx")
    ended = run("show", pair(tmp_path, "one", "none"))
    assert ended.code == 2
    assert ended.faults == [f"{tmp_path / 'none.yaml'} cannot be read: No such file or directory"]


# --- pull ---


def test_pull_fetches_the_weights_of_every_stream(run: Run, tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    motionnets.brightness_manifest(there)
    data = (there / "brightness.onnx").read_bytes()
    with httpfiles.serve(there) as server:
        told = f"url: '{server.url}/brightness.onnx', sha256: {hashlib.sha256(data).hexdigest()}"
        network(here, "one", f"file: one.onnx, {told}")
        network(here, "two", f"file: two.onnx, {told}")
        (here / "two.onnx").write_bytes(data)
        ended = run("pull", pair(here, "one", "two"))
    fetched = tmp_path / "cache/streamer/models/one.onnx"
    assert ended.code == 0, ended.err
    assert ended.lines == [str(fetched), str(here / "two.onnx")]
    assert fetched.read_bytes() == data
    assert "one: fetched and checked" in ended.err
    assert "two: was here already, checked" in ended.err


def test_pull_gets_what_it_can_and_says_what_is_left(run: Run, tmp_path: Path) -> None:
    network(tmp_path, "lost", "file: lost.onnx")
    network(tmp_path, "paged", "file: paged.onnx, page: 'https://example.org/models'")
    network(tmp_path, "here", "file: here.onnx")
    (tmp_path / "here.onnx").write_bytes(b"any")
    ended = run("pull", pair(tmp_path, "lost", "paged", "here"))
    assert ended.code == 1
    assert ended.lines == [str(tmp_path / "here.onnx")]
    lost, paged = ended.faults
    assert lost.startswith("lost.onnx is not on this machine and the manifest names no URL for lost.onnx: set")
    assert "names no URL for paged.onnx, which can be had from https://example.org/models: set STREAMER_MODELS" in paged


def test_a_pair_has_no_file_of_its_own(run: Run) -> None:
    ended = run("build", "two-stream-i3d")
    assert ended.code != 0
    (fault,) = ended.faults
    assert "two-stream-i3d is but other models together and has no weights: name i3d-rgb or i3d-flow" in fault

"""`streamer eval` of actions: real videos in folders named by label, networks whose answers are plain to reckon."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import motionnets
import numpy as np
import pytest
import scenes

from streamer.cli import DONE, FAILED, WRONG_INPUT, main

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'streamer[onnxruntime]'")

Run = Callable[..., tuple[int, str, str]]
LEVELS = {"dark": 30, "grey": 128, "bright": 230}


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run eval, by default of a network that tells dark, grey and bright clips apart."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(*words: object, model: object = None) -> tuple[int, str, str]:
        model = model or motionnets.brightness_manifest(tmp_path)
        code = main(["eval", str(model), "--runtime", "onnxruntime", *(str(word) for word in words)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, " ".join(err.split())

    return call


def shade(path: Path, *levels: int, each: int = 8) -> Path:
    """Write a video of even pictures, *each* of them of one level after the other."""
    return scenes.film(path, (np.full((64, 96, 3), level, np.uint8) for level in levels for _ in range(each)))


@pytest.fixture
def shades(tmp_path: Path) -> Path:
    """Six videos; one of the dark ones is bright, in truth."""
    for label, level in LEVELS.items():
        shade(tmp_path / "clips" / label.upper() / "a.mp4", level)
        shade(tmp_path / "clips" / label.upper() / "b.mkv", level if label != "dark" else LEVELS["bright"])
    (tmp_path / "clips/bright-to-be").mkdir()  # which holds no video, and so is no label
    (tmp_path / "clips/DARK/notes.txt").write_text("no video")
    return tmp_path / "clips"


def measured(run: Run, clips: Path, *words: object, model: object = None) -> dict[str, Any]:
    out = clips.parent / "told.json"
    code, _, err = run("--clips", clips, "--json", out, *words, model=model)
    assert code == DONE, err
    loaded: dict[str, Any] = json.loads(out.read_text())
    return loaded


def test_top_one_classes_and_confusion(evaluate: Run, shades: Path, tmp_path: Path) -> None:
    code, out, err = evaluate("--clips", shades, "--json", tmp_path / "t.json", "--plot", tmp_path / "t.png")
    assert code == DONE, err
    told = json.loads((tmp_path / "t.json").read_text())
    assert told["videos"] == 6
    assert told["top1"] == pytest.approx(5 / 6)
    assert told["top5"] == 1
    assert told["mean_class_accuracy"] == pytest.approx(5 / 6)
    assert [(each["name"], each["videos"], each["top1"]) for each in told["classes"]] == [
        ("dark", 2, 0.5), ("grey", 2, 1), ("bright", 2, 1)
    ]  # fmt: skip
    assert {"label": "dark", "taken_for": "bright", "videos": 1} in told["confusion"]
    assert sum(each["videos"] for each in told["confusion"]) == 6
    assert "bright (1)" in out
    assert "0.833" in out
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


def test_scores_are_averaged_over_a_videos_clips(evaluate: Run, tmp_path: Path) -> None:
    """Half of the video is dark and half bright: so are its scores, when there are clips of both."""
    shade(tmp_path / "clips/dark/a.mp4", LEVELS["dark"], LEVELS["bright"])
    (each,) = measured(evaluate, tmp_path / "clips", "--views", 2)["each"]
    assert each["views"] == 2
    assert [found["score"] for found in each["found"]] == pytest.approx([0.5, 0.5, 0], abs=0.02)
    (each,) = measured(evaluate, tmp_path / "clips", "--views", 1)["each"]
    assert each["found"][0]["label"] == "dark"  # the first clip alone


@pytest.mark.parametrize("words", [["--batch", 1], ["--batch", 3, "--views", 5], ["--views", 1]])
def test_batches_and_views_change_nothing_where_all_is_the_same(
    evaluate: Run, shades: Path, words: list[object]
) -> None:
    told = measured(evaluate, shades, *words)
    assert told["top1"] == pytest.approx(5 / 6)
    assert [Path(each["path"]).parent.name for each in told["each"]] == [
        "BRIGHT",
        "BRIGHT",
        "DARK",
        "DARK",
        "GREY",
        "GREY",
    ]


def test_some_videos_evenly_spread(evaluate: Run, shades: Path) -> None:
    told = measured(evaluate, shades, "--limit", 3)
    assert [each["label"] for each in told["each"]] == ["bright", "dark", "grey"]


def test_a_list_of_videos(evaluate: Run, shades: Path) -> None:
    listed = shades.parent / "list.csv"
    listed.write_text("path,label\nclips/DARK/a.mp4,dark\nclips/DARK/b.mkv,Bright\n")
    assert measured(evaluate, listed)["top1"] == 1


MOTIONS = {"going left": (-3, 0), "going_right": (3, 0), "going-up": (0, -3), "GoingDown": (0, 3)}


def test_a_model_of_motion_gets_its_flow_from_dis(evaluate: Run, tmp_path: Path) -> None:
    for label, (u, v) in MOTIONS.items():
        scenes.film(tmp_path / "clips" / label / "a.mp4", scenes.sliding(u, v))
    model = motionnets.motion_manifest(tmp_path)
    told = measured(evaluate, tmp_path / "clips", model=model)
    assert (told["top1"], told["flow_model"]) == (1, "dis")
    assert {each["label"] for each in told["each"]} == set(motionnets.MOTION)


def test_or_from_a_network_that_is_named(evaluate: Run, tmp_path: Path) -> None:
    """This one takes what becomes redder for what moves to the right."""
    for label, step in (("going left", -4), ("going right", 4)):
        images = (np.full((64, 96, 3), 128, np.uint8) + np.array([step * n, 0, 0]) for n in range(8))
        scenes.film(tmp_path / "clips" / label / "a.mp4", (image.astype(np.uint8) for image in images))
    told = measured(
        evaluate, tmp_path / "clips", "--flow-model", motionnets.flow_manifest(tmp_path),
        model=motionnets.motion_manifest(tmp_path),
    )  # fmt: skip
    assert (told["top1"], told["flow_model"]) == (1, "levels")


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """The manifest of two streams: one sees how bright all is, the other one how it moves, and counts thrice."""
    still = motionnets.brightness_manifest(tmp_path, length=1, size=(32, 48))
    motion = motionnets.motion_manifest(tmp_path, labels=motionnets.BRIGHTNESS)
    path = tmp_path / "pair.yaml"
    path.write_text(
        f"name: pair\ntask: recognise\nlabels: [{', '.join(motionnets.BRIGHTNESS)}]\npreprocess: {{size: [32, 48]}}\n"
        f"decoder: {{kind: fusion, streams: [{{model: {still.name}}}, {{model: {motion.name}, weight: 3}}]}}\n"
    )
    return path


def test_two_streams_are_one_model(evaluate: Run, tmp_path: Path, pair: Path) -> None:
    """The pattern is grey to the one stream; to the other what moves to the left is "dark", and to the right "grey"."""
    for label, u in (("dark", -3), ("grey", 3)):
        scenes.film(tmp_path / "clips" / label / "a.mp4", scenes.sliding(u, 0))
    told = measured(evaluate, tmp_path / "clips", model=pair)
    dark, grey = ({each["label"]: each["score"] for each in video["found"]} for video in told["each"])
    assert [dark["dark"], dark["grey"]] == pytest.approx([0.75, 0.25], abs=0.01)
    assert grey["grey"] == pytest.approx(1, abs=0.01)


def test_two_streams_have_no_weights_in_one_file(evaluate: Run, shades: Path, pair: Path) -> None:
    complaint = refused(evaluate("--clips", shades, "--weights", "x.onnx", model=pair))
    assert "pair is 2 networks, so one file is not its weights: leave --weights out" in complaint
    pair.with_name("motion.yaml").unlink()
    assert "motion.yaml cannot be read" in refused(evaluate("--clips", shades, model=pair))


# --- videos that cannot be read ---


def test_videos_that_cannot_be_read_are_left_out_and_told(evaluate: Run, shades: Path, tmp_path: Path) -> None:
    (shades / "GREY/a.mp4").write_bytes(b"no video at all")
    code, out, err = evaluate("--clips", shades, "--json", tmp_path / "t.json")
    assert code == FAILED  # measured, but not all of it
    assert "all 5 videos" in out
    assert err.count("streamer: ") == 1
    assert "GREY/a.mp4" in err
    told = json.loads((tmp_path / "t.json").read_text())
    assert (told["videos"], told["unread"]) == (5, [str(shades / "GREY/a.mp4")])


def test_nothing_can_be_read(evaluate: Run, tmp_path: Path) -> None:
    (tmp_path / "clips/dark").mkdir(parents=True)
    (tmp_path / "clips/dark/a.mp4").write_bytes(b"no video at all")
    code, out, err = evaluate("--clips", tmp_path / "clips")
    assert (code, out) == (WRONG_INPUT, "")
    assert "none of the 1 videos" in err


def test_short_videos_are_told(evaluate: Run, tmp_path: Path) -> None:
    shade(tmp_path / "clips/dark/a.mp4", LEVELS["dark"], each=2)
    code, _, err = evaluate("--clips", tmp_path / "clips", "--json", tmp_path / "t.json")
    assert code == DONE
    assert "1 videos have too few pictures for a clip and began again at their end" in err
    assert json.loads((tmp_path / "t.json").read_text())["short"] == [str(tmp_path / "clips/dark/a.mp4")]


# --- wrong on purpose ---


def refused(run: tuple[int, str, str]) -> str:
    code, out, err = run
    assert (code, out) == (WRONG_INPUT, "")
    assert err.count("streamer: ") == 1
    return err


def test_there_must_be_something_to_measure_against(evaluate: Run, tmp_path: Path) -> None:
    assert "give --clips DIR" in refused(evaluate())
    assert "there is no folder" in refused(evaluate("--clips", tmp_path / "absent"))
    (tmp_path / "empty/dark").mkdir(parents=True)
    assert "holds no videos: give a folder" in refused(evaluate("--clips", tmp_path / "empty"))


def test_labels_that_the_model_does_not_know(evaluate: Run, shades: Path) -> None:
    shade(shades / "purple/a.mp4", 90)
    assert "no label for purple: rename these, or leave them out" in refused(evaluate("--clips", shades))
    listed = shades.parent / "list.csv"
    listed.write_text("clips/purple/a.mp4,purple\n")
    assert "is among the labels of the videos (purple): rename them" in refused(evaluate("--clips", listed))


def test_two_folders_of_one_label(evaluate: Run, shades: Path) -> None:
    shade(shades / "d ark/a.mp4", 30)
    assert "are both called" in refused(evaluate("--clips", shades))


def test_lists_that_cannot_be_read(evaluate: Run, tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text("a.mp4,dark\nb.mp4\n")
    assert "list.csv:2: is not path,label" in refused(evaluate("--clips", listed))
    listed.write_text("a.mp4,dark\nb.mp4,dark\n")
    assert "2 of 2 videos are missing, the first of them" in refused(evaluate("--clips", listed))


def test_words_that_do_not_go_together(evaluate: Run, shades: Path, tmp_path: Path) -> None:
    told = ("--clips", shades)
    assert "brightness looks at no flow: leave --flow-model out" in refused(evaluate(*told, "--flow-model", "dis"))
    assert "is not measured with --flow: leave that out" in refused(evaluate(*told, "--flow", "x"))
    motion = motionnets.motion_manifest(tmp_path)
    listed = tmp_path / "list.csv"
    listed.write_text("clips/DARK/a.mp4,going left\n")
    told = ("--clips", listed)
    assert "not find flow: give --flow-model one that can" in refused(
        evaluate(*told, "--flow-model", motion, model=motion)
    )
    assert "there is no model 'diss'" in refused(evaluate(*told, "--flow-model", "diss", model=motion))
    for option in ("--json", "--plot"):
        assert "cannot be written" in refused(evaluate(*told, option, tmp_path / "absent/x", model=motion))


def test_what_drawing_needs_is_said(evaluate: Run, shades: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.cli.eval.actions.find_spec", lambda name: None)
    code, _, err = evaluate("--clips", shades, "--plot", "p.png")
    assert code == WRONG_INPUT
    assert "drawing needs matplotlib: pip install 'streamer[eval]'" in err

"""`streamer eval` of optical flow: frames and truth in every layout, right and wrong, and OpenCV beside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import motionnets
import numpy as np
import pytest
import scenes

from engines.flowfiles import FlowField, write_flow
from engines.types import Image
from streamer.cli import DONE, WRONG_INPUT, main

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'streamer[onnxruntime]'")

Run = Callable[..., tuple[int, str, str]]
SHARED = Path(__file__).resolve().parents[2] / "../shared/media/flow"
SIZE = (64, 96)


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run eval, by default of a network that takes what became redder for what moved right, and greener for down."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(*words: object, model: object = None) -> tuple[int, str, str]:
        model = model or motionnets.flow_manifest(tmp_path, SIZE)
        on = [] if model == "dis" else ["--runtime", "onnxruntime"]
        code = main(["eval", str(model), *on, *(str(word) for word in words)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, " ".join(err.split())

    return call


def write(path: Path, image: Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])
    return path


def coloured(red: int, green: int, size: tuple[int, int] = SIZE) -> Image:
    image = np.full((*size, 3), 50, np.uint8)
    image[..., :2] = red, green
    return image


def field(u: float, v: float, size: tuple[int, int] = SIZE) -> FlowField:
    return FlowField(np.tile(np.array([u, v], np.float32), (*size, 1)), np.ones(size, np.bool_))


def truth(path: Path, known: FlowField) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npz":
        np.savez(path, uv=known.uv.astype(np.float16))
    else:
        write_flow(path, known)
    return path


def case(folder: Path, before: str = "frame_0010.png", after: str = "frame_0011.png", flow: str = "frame_0010.flo",
         found: tuple[int, int] = (8, 2)) -> None:  # fmt: skip
    """Write frames between which the network finds *found*, and 8 to the right and 2 down as the truth."""
    write(folder / before, coloured(100, 100))
    write(folder / after, coloured(100 + found[0], 100 + found[1]))
    truth(folder / flow, field(8, 2))


def told(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def measured(run: Run, folder: Path, *words: object, model: object = None) -> dict[str, Any]:
    out = folder.parent / "told.json"
    code, _, err = run("--flow", folder, "--json", out, *words, model=model)
    assert code == DONE, err
    return told(out)


LAYOUTS = {
    "beside": ("frame_0010.png", "frame_0011.png", "frame_0010.flo"),
    "npz": ("frame_0009.jpg", "frame_0010.jpg", "frame_0009_flow.npz"),
    "scenes": ("alley_1/frame_0099.png", "alley_1/frame_0100.png", "alley_1/frame_0099.flo"),
    "kitti": ("image_2/000000_10.png", "image_2/000000_11.png", "flow_occ/000000_10.png"),
    "kitti-2012": ("colored_0/000000_10.png", "colored_0/000000_11.png", "flow_occ/000000_10.png"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(evaluate: Run, tmp_path: Path, layout: str) -> None:
    case(tmp_path / "data", *LAYOUTS[layout])
    result = measured(evaluate, tmp_path / "data")
    assert result["pairs"] == 1
    assert result["found"]["endpoint"] == pytest.approx(0, abs=1.5 if layout == "npz" else 1e-3)  # JPEG is not exact
    assert result["baselines"]["zero"]["endpoint"] == pytest.approx(68**0.5, abs=1e-3)
    assert result["baselines"]["zero"]["outliers"] == 1


@pytest.mark.parametrize("rendered", ["clean", "final"])
def test_sintels_own_folders(evaluate: Run, tmp_path: Path, rendered: str) -> None:
    for name in ("clean", "final"):
        found = (8, 2) if name == "clean" else (8, 5)
        case(tmp_path / "training" / name, "a/frame_0001.png", "a/frame_0002.png", "../flow/a/frame_0001.flo", found)
    result = measured(evaluate, tmp_path / "training" / rendered)
    assert result["found"]["endpoint"] == pytest.approx(0 if rendered == "clean" else 3, abs=1e-3)
    code, _, err = evaluate("--flow", tmp_path / "training")
    assert code == WRONG_INPUT
    assert "give --flow" in err
    assert "Sintel's training/clean or training/final" in err


def test_a_list_of_pairs(evaluate: Run, tmp_path: Path) -> None:
    case(tmp_path / "data", "one.png", "other.png", "true.flo")
    listed = tmp_path / "pairs.csv"
    listed.write_text("before,after,truth\n\ndata/one.png, data/other.png ,data/true.flo\n")
    assert measured(evaluate, listed)["found"]["endpoint"] == pytest.approx(0, abs=1e-3)
    listed.write_text("data/other.png,data/one.png,data/true.flo\n")  # backwards
    assert measured(evaluate, listed)["found"]["endpoint"] == pytest.approx(2 * 68**0.5, abs=1e-3)


def test_errors_are_averaged_over_pixels_that_are_known(evaluate: Run, tmp_path: Path) -> None:
    known = field(8, 2)
    known.known[:, 48:] = False
    case(tmp_path / "data", *LAYOUTS["kitti"])
    truth(tmp_path / "data/flow_occ/000000_10.png", known)
    before, after, flow = (name.replace("000000", "000001") for name in LAYOUTS["kitti"])
    case(tmp_path / "data", before, after, flow, found=(8, 5))
    result = measured(evaluate, tmp_path / "data")
    assert result["found"]["pixels"] == 64 * 96 * 3 // 2
    assert result["found"]["endpoint"] == pytest.approx(2, abs=1e-3)  # 0 in a third of them, 3 in the others
    assert result["found"]["outliers"] == pytest.approx(2 / 3, abs=1e-3)
    assert [each["found"]["pixels"] for each in result["each"]] == [64 * 48, 64 * 96]


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_batches_change_nothing_and_pairs_stay_in_order(evaluate: Run, tmp_path: Path, batch: int) -> None:
    for n in range(5):
        case(tmp_path / "data", f"s{n}/f_{n}.png", f"s{n}/f_{n + 1}.png", f"s{n}/f_{n}.flo", found=(8, 2 + n))
    result = measured(evaluate, tmp_path / "data", "--batch", batch, "--baselines", "no")
    assert [each["found"]["endpoint"] for each in result["each"]] == pytest.approx(range(5), abs=1e-3)
    assert list(result["baselines"]) == ["zero"]
    assert len(measured(evaluate, tmp_path / "data", "--limit", 2)["each"]) == 2


def test_frames_of_another_size_than_the_networks(evaluate: Run, tmp_path: Path) -> None:
    """The network finds the same in its own pixels, which are twice as many of the frame's."""
    size = (96, 192)
    write(tmp_path / "d/f_1.png", coloured(100, 100, size))
    write(tmp_path / "d/f_2.png", coloured(104, 101, size))
    truth(tmp_path / "d/f_1.flo", field(8, 2, size))
    assert measured(evaluate, tmp_path / "d")["found"]["endpoint"] == pytest.approx(0, abs=1e-3)


def test_the_table_has_the_baselines_beside(evaluate: Run, tmp_path: Path) -> None:
    before = scenes.pattern((120, 160))
    write(tmp_path / "d/f_1.png", before)
    write(tmp_path / "d/f_2.png", scenes.moved(before, scenes.translation(4, 0)))
    truth(tmp_path / "d/f_1.flo", field(4, 0, (120, 160)))
    code, out, err = evaluate("--flow", tmp_path / "d", model="dis")
    assert (code, "opencv DIS, frames placed into 512 x 288" in err) == (DONE, True)
    cells = {line[:32].strip(): line[32:].split() for line in out.splitlines() if line.strip()}
    assert float(cells["nothing moves"][0]) == 4
    assert float(cells["nothing moves"][1]) == 100
    assert all(float(cells[name][0]) < 0.4 for name in cells if name.startswith(("dis", "OpenCV")))
    assert len(cells) == 5


def test_fields_are_painted_below_the_frame(evaluate: Run, tmp_path: Path) -> None:
    known = field(8, 2)
    known.known[:, :48] = False
    case(tmp_path / "data", *LAYOUTS["kitti"])
    truth(tmp_path / "data/flow_occ/000000_10.png", known)
    measured(evaluate, tmp_path / "data", "--paint", tmp_path / "a/painted")
    (path,) = (tmp_path / "a/painted").iterdir()
    picture = cv2.imread(str(path))
    assert picture is not None
    frame, true, found = np.split(picture[..., ::-1], 3)
    assert np.array_equal(frame, coloured(100, 100))
    assert not true[:, :48].any()  # what is not known is black
    assert np.array_equal(true[:, 48:], found[:, 48:])
    assert found[0, 0, 0] > found[0, 0, 2] + 200  # to the right: red


def test_dis_is_better_than_nothing_on_a_rendered_film(evaluate: Run, tmp_path: Path) -> None:
    if not SHARED.is_dir():
        pytest.skip(f"needs the frames and the flow of {SHARED.name} in {SHARED.parent}: put them there")
    out = tmp_path / "told.json"
    assert evaluate("--flow", SHARED, "--json", out, model="dis")[0] == DONE
    result = told(out)
    zero = result["baselines"]["zero"]
    assert result["found"]["endpoint"] < 0.5 * zero["endpoint"]
    assert result["baselines"]["dis"]["outliers"] < result["found"]["outliers"] < 0.5 * zero["outliers"]


# --- wrong on purpose ---


def refused(run: tuple[int, str, str]) -> str:
    code, out, err = run
    assert (code, out) == (WRONG_INPUT, "")
    assert err.count("streamer: ") == 1
    return err


def test_there_must_be_something_to_measure_against(evaluate: Run, tmp_path: Path) -> None:
    assert "give --flow DIR" in refused(evaluate())
    assert "there is no folder" in refused(evaluate("--flow", tmp_path / "absent"))
    (tmp_path / "empty").mkdir()
    assert "holds no true flow: give --flow" in refused(evaluate("--flow", tmp_path / "empty"))


def test_frames_that_are_missing(evaluate: Run, tmp_path: Path) -> None:
    case(tmp_path / "data")
    (tmp_path / "data/frame_0011.png").unlink()
    assert "1 files of 1 pairs are missing, the first of them" in refused(evaluate("--flow", tmp_path / "data"))
    (tmp_path / "data/frame_0010.png").unlink()
    assert "frame_0010, but no such picture" in refused(evaluate("--flow", tmp_path / "data"))


def test_a_name_without_a_number(evaluate: Run, tmp_path: Path) -> None:
    case(tmp_path / "data", "one.png", "other.png", "one.flo")
    assert "has no number, so it cannot be said which is next" in refused(evaluate("--flow", tmp_path / "data"))


@pytest.mark.parametrize("name", ["frame_0010.png", "frame_0011.png", "frame_0010.flo"])
def test_damaged_files(evaluate: Run, tmp_path: Path, name: str) -> None:
    case(tmp_path / "data")
    (tmp_path / "data" / name).write_bytes(b"nothing of the kind")
    code, out, err = evaluate("--flow", tmp_path / "data")
    assert (code, out, name in err) == (WRONG_INPUT, "", True)


@pytest.mark.parametrize("name", ["frame_0011.png", "frame_0010.flo"])
def test_sizes_that_differ(evaluate: Run, tmp_path: Path, name: str) -> None:
    case(tmp_path / "data")
    if name.endswith("flo"):
        truth(tmp_path / "data" / name, field(1, 1, (32, 96)))
    else:
        write(tmp_path / "data" / name, coloured(0, 0, (32, 96)))
    assert "96 x 32" in (complaint := evaluate("--flow", tmp_path / "data"))[2]
    assert (complaint[0], "give those that go together" in complaint[2]) == (WRONG_INPUT, True)


def test_frames_that_are_too_small(evaluate: Run, tmp_path: Path) -> None:
    write(tmp_path / "d/f_1.png", coloured(0, 0, (8, 8)))
    write(tmp_path / "d/f_2.png", coloured(0, 0, (8, 8)))
    truth(tmp_path / "d/f_1.flo", field(1, 1, (8, 8)))
    code, _, err = evaluate("--flow", tmp_path / "d")
    assert (code, "is 8 x 8: give frames of 16 x 16 or more" in err) == (WRONG_INPUT, True)


@pytest.mark.parametrize("line", ["one.png,other.png", "a,b,c,d", "a,,c"])
def test_lists_that_cannot_be_read(evaluate: Run, tmp_path: Path, line: str) -> None:
    listed = tmp_path / "pairs.csv"
    assert "cannot be read (No such file" in refused(evaluate("--flow", listed))
    listed.write_text(f"before,after,truth\n{line}\n")
    assert "pairs.csv:2: is not before,after,truth" in refused(evaluate("--flow", listed))
    listed.write_text("before,after,truth\n")
    assert "lists no pairs" in refused(evaluate("--flow", listed))
    listed.write_bytes(b"\xff\xfe\xfa")
    assert "is not text" in refused(evaluate("--flow", listed))


def test_words_that_do_not_go_together(evaluate: Run, tmp_path: Path) -> None:
    case(tmp_path / "data")
    told_at = ("--flow", tmp_path / "data")
    assert "dis has no weights: leave --weights out" in refused(evaluate(*told_at, "--weights", "x", model="dis"))
    assert "finds flow, and is not measured with --coco and --plot: leave that out" in refused(
        evaluate(*told_at, "--coco", "x", "--plot", "y", model="dis")
    )
    assert "cannot be written" in refused(evaluate(*told_at, "--json", tmp_path / "absent/x"))
    assert "cannot be made (" in refused(evaluate(*told_at, "--paint", tmp_path / "levels.yaml/x"))


def test_a_network_that_gives_no_flow(evaluate: Run, tmp_path: Path) -> None:
    case(tmp_path / "data")
    manifest = motionnets.flow_manifest(tmp_path, (32, 32))
    manifest.write_text(manifest.read_text().replace("[32, 32]", "[64, 64]"))
    code, out, err = evaluate("--flow", tmp_path / "data", model=manifest)
    assert (code, out) == (WRONG_INPUT, "")
    assert "(?, 6, 64, 64)" in err

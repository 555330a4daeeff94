"""Rows and their verdicts, and when what was recorded is no longer what is here."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from engines.runtimes.base import Precision
from streamer.errors import InputError
from streamer.selftest import variants as machine
from streamer.selftest.accuracy import Course, accuracy_rows, missing_rows
from streamer.selftest.expected import Expected, bound, read, write
from streamer.selftest.films import Footage
from streamer.selftest.lineup import FIGURES, Figure, Lineup
from streamer.selftest.quantised import quantisable
from streamer.selftest.recorded import Place
from streamer.selftest.rows import Bound, Report, Row, judged
from streamer.selftest.variants import REFERENCE, Variant, variants

_HIGHER, _LOWER = Figure("yolox", "boxes", "mAP50"), Figure("flow", "endpoint", "EPE", lower=True)


@pytest.mark.parametrize(
    ("figure", "precision", "right", "short"),
    [
        (_HIGHER, "fp32", (89.1, 90.0, 97.0), (88.9, 50.0)),
        (_HIGHER, "int8", (87.1,), (86.9,)),
        (_LOWER, "fp32", (90.9, 20.0), (91.1,)),
        (_LOWER, "int8", (92.9,), (93.1,)),
    ],
)
def test_only_worse_than_recorded_is_short(
    figure: Figure, precision: Precision, right: tuple[float, ...], short: tuple[float, ...]
) -> None:
    within = bound(figure, 90.0, Variant("openvino", precision))
    assert all(within.holds(value) for value in right)
    assert not any(within.holds(value) for value in (*short, math.nan))


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Bound(least=30), "30 or more"),
        (Bound(most=2), "2 or less"),
        (Bound(0, 0), "0"),
        (Bound(0.8, 1.25), "0.8 to 1.25"),
        (Bound(least=89, about=90), "90.0"),
    ],
)
def test_a_bound_says_what_is_expected(limits: Bound, said: str) -> None:
    assert str(limits) == said


def test_a_report_is_good_when_every_row_is() -> None:
    right, told = judged("decoder", "frames", "", 3, Bound(3, 3)), Row("live", "FPS in", "", "told", 99.0)
    short = judged("decoder", "PSNR", "dB", math.nan, Bound(least=30), "they are not alike")
    assert Report((right, told), 1.0).good
    assert not Report((right, short), 1.0).good
    assert not Report((), 1.0).good
    assert not right.why
    assert short.why


def test_a_report_is_json_whatever_was_measured() -> None:
    row = judged("decoder", "PSNR", "dB", math.nan, Bound(least=30), "they are not alike")
    told = json.loads(json.dumps(Report((row,), 1.23).told(), allow_nan=False))
    assert told["good"] is False
    assert (
        told["rows"][0] | {"measured": None, "expected": {"least": 30, "most": None, "about": None}} == told["rows"][0]
    )


# --- what was recorded ---


def test_what_is_written_is_read(recorded: Expected, tmp_path: Path) -> None:
    rounded = {name: replace(one, value=round(one.value, 2)) for name, one in recorded.figures.items()}
    write(recorded, tmp_path / "expected.yaml")
    assert read(tmp_path / "expected.yaml") == replace(recorded, figures=rounded)
    assert yaml.safe_load((tmp_path / "expected.yaml").read_text())["figures"]


def test_where_nothing_was_recorded_nothing_is_expected(tmp_path: Path, footage: tuple[Footage, ...]) -> None:
    nothing = read(tmp_path / "no.yaml")
    assert not nothing.same_films(footage, Lineup())
    assert nothing.of("yolox-pico mAP50", {}) is None


def test_a_changed_world_is_not_the_one_that_was_recorded(
    recorded: Expected, footage: tuple[Footage, ...], lineup: Lineup
) -> None:
    assert recorded.same_films(footage, lineup)
    north, south = footage
    repainted = replace(south, pictures=north.pictures)
    assert not recorded.same_films((north, repainted), lineup)
    assert not recorded.same_films((north,), lineup)


def test_other_thresholds_are_not_those_that_were_recorded(
    recorded: Expected, footage: tuple[Footage, ...], lineup: Lineup
) -> None:
    nodes = {**lineup.nodes, "ssd": {**lineup.nodes["ssd"], "every": 3}}
    assert not recorded.same_films(footage, replace(lineup, nodes=nodes))


def test_a_processor_that_rounds_otherwise_films_the_same(
    recorded: Expected, footage: tuple[Footage, ...], lineup: Lineup
) -> None:
    rounded = {name: bytes(min(255, c + 2) for c in bytes.fromhex(one)).hex() for name, one in recorded.prints.items()}
    assert replace(recorded, prints=rounded).same_films(footage, lineup)


def test_weights_that_were_trained_anew_ask_to_be_recorded(
    recorded: Expected, footage: tuple[Footage, ...], lineup: Lineup, place: Place
) -> None:
    other = {name: replace(one, weights=dict.fromkeys(one.weights, "00")) for name, one in recorded.figures.items()}
    course = Course(footage, lineup, replace(recorded, figures=other))
    rows = list(accuracy_rows(course, REFERENCE, place, lambda _: None))
    assert {row.verdict for row in rows} == {"stale"}
    assert "streamer.selftest.record" in rows[0].why


# --- models ---


def test_a_model_without_weights_is_missing(lineup: Lineup, tmp_path: Path) -> None:
    told = Path(str(lineup.nodes["flow"]["model"])).read_text()
    (tmp_path / "flow.yaml").write_text(told.replace("flownets-pico.onnx", "nowhere-to-be-found.onnx"))
    nodes = {**lineup.nodes, "flow": {**lineup.nodes["flow"], "model": str(tmp_path / "flow.yaml")}}
    rows = [row for _, row in missing_rows(replace(lineup, nodes=nodes))]
    assert [row.verdict for row in rows] == ["missing"]
    assert "nowhere-to-be-found.onnx" in rows[0].why
    assert not rows[0].good


def test_what_cannot_be_opened_is_left_out_with_what_needs_it() -> None:
    left = {figure.node for figure in Lineup().without("yolox").figures}
    assert left == {"ssd", "masks", "flow", "r3d", "both"}
    assert Lineup().needs("tracks") == ("yolox", "tracks")
    assert Lineup().needs("both") == ("known", "classical", "motion", "both")


def test_every_figure_is_of_a_model_that_comes_with_us() -> None:
    assert {each.task for figure in FIGURES for each in Lineup().networks(figure)} >= {"detect", "segment", "flow"}
    assert {figure.node for figure in quantisable(Lineup()).figures} == {"yolox", "ssd", "tracks"}


def test_a_fault_of_one_node_leaves_the_others(
    recorded: Expected, footage: tuple[Footage, ...], lineup: Lineup, place: Place, tmp_path: Path
) -> None:
    nodes = {**lineup.nodes, "flow": {**lineup.nodes["flow"], "weights": str(tmp_path / "gone.onnx")}}
    course = Course(footage, replace(lineup, nodes=nodes), recorded)
    rows = {row.figure: row for row in accuracy_rows(course, REFERENCE, place, lambda _: None)}
    assert rows["EPE, of zero's"].verdict == "failed"
    assert "gone.onnx" in rows["EPE, of zero's"].why
    assert rows["mAP50"].good


# --- runtimes ---


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """A machine with three runtimes, whose processor may be fast in bf16 or not."""
    fast = {"bf16": True, "fp16": False}
    monkeypatch.setattr(machine, "working", lambda _: ["openvino", "onnxruntime", "pytorch"])
    monkeypatch.setattr(machine, "_fast", lambda precision: fast[precision])
    return fast


def test_usual_variants_are_the_machines_own_choice_and_what_loses_nothing(cpu: dict[str, bool]) -> None:
    assert [str(each) for each in variants()] == ["openvino auto", "openvino fp32", "onnxruntime fp32"]
    cpu["bf16"] = False
    assert [str(each) for each in variants()] == ["openvino auto", "onnxruntime fp32"]


def test_variants_can_be_asked_for(cpu: dict[str, bool]) -> None:
    assert variants(["openvino"], ["bf16", "fp16"]) == [Variant("openvino", "bf16")]
    assert variants((), ["int8"]) == [Variant("openvino", "int8"), Variant("onnxruntime", "int8")]
    with pytest.raises(InputError, match="onnxruntime cannot compute in bf16"):
        variants(["onnxruntime"], ["bf16"])
    with pytest.raises(InputError, match="--runtime: there is no runtime 'tensorflow'"):
        variants(["tensorflow"])


def test_a_runtimes_own_choice_is_shown() -> None:
    assert Variant("openvino", "auto").shown("openvino 2026.4.1 CPU bf16, 2 streams x 1 thread") == "bf16"
    assert Variant("openvino", "auto").shown("CPU") == "auto"
    assert Variant("onnxruntime", "fp32").shown("anything") == "fp32"

"""From a manifest to a model that answers: which runtime, which engine, and what serves while one is built anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import networks
import numpy as np
import pytest

from engines.build.base import Built, Identity, Material
from engines.build.cache import EngineCache
from engines.build.graph import material
from engines.build.openvino import OpenVinoBuilder
from engines.build.sidecar import label
from engines.decoders import DetectOptions
from engines.errors import BuildError, RuntimeUnavailable
from engines.load import GRAPHS, Upkeep, open_detector, open_first, open_on, order_for
from engines.manifest import read
from engines.runtimes import BACKENDS
from engines.runtimes.base import Runtime, RuntimeOptions
from engines.runtimes.handover import Handover
from engines.types import Image

OPTIONS = RuntimeOptions("fp32", max_batch=2, threads=1)  # one thread: nothing to measure


@pytest.fixture
def bench(tmp_path: Path) -> Material:
    return material(read(networks.manifest(tmp_path)), tmp_path / "bright.onnx", tmp_path / "graphs")


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def upkeep(tmp_path: Path, said: list[str]) -> Upkeep:
    return Upkeep(said.append, cache=EngineCache(tmp_path / "engines"))


def spot(row: int, column: int) -> Image:
    image = np.zeros((64, 64, 3), np.uint8)
    image[row : row + 8, column : column + 8] = (0, 0, 255)
    return image


def feeds(*images: Image) -> dict[str, Image]:
    return {"frames": np.stack(images)}


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came"


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_detector_finds_what_is_there_on_every_runtime(tmp_path: Path, runtime: str, upkeep: Upkeep) -> None:
    manifest = read(networks.manifest(tmp_path))
    model = open_detector(manifest, tmp_path / "bright.onnx", DetectOptions(confidence=0.9), [runtime], OPTIONS, upkeep)
    found = model([spot(0, 8), spot(16, 40), np.zeros((64, 64, 3), np.uint8)])
    assert [d.xyxy.tolist() for d in found] == [[[8, 0, 16, 8]], [[40, 16, 48, 24]], []]
    model.close()


def test_what_is_preferred_and_cannot_work_is_passed_over_and_said(
    bench: Material, upkeep: Upkeep, caplog: pytest.LogCaptureFixture
) -> None:
    assert open_first(bench, ["pytorch", "onnxruntime"], OPTIONS, upkeep).description.startswith("onnxruntime")
    (warned,) = [record.getMessage() for record in caplog.records]
    assert warned.endswith("; going on with onnxruntime")
    assert "checkpoint" in warned  # PyTorch cannot read an ONNX file


def test_where_nobody_prefers_anything_what_is_missing_is_no_news(
    bench: Material, upkeep: Upkeep, caplog: pytest.LogCaptureFixture
) -> None:
    assert open_first(bench, (), OPTIONS, upkeep).description
    assert not caplog.records


def test_where_none_works_the_fault_of_the_best_that_is_here_is_told(
    bench: Material, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    faults = {
        "tensorrt": RuntimeUnavailable("no GPU"),
        "openvino": BuildError("the disk is full"),
        "pytorch": BuildError("pytorch wants a checkpoint"),
    }

    def refuse(name: str, *_: object) -> Runtime:
        raise faults[name]

    monkeypatch.setattr("engines.load.open_on", refuse)
    monkeypatch.setattr("engines.load.usable", lambda prefer: prefer or list(faults))
    with pytest.raises(BuildError, match="the disk is full"):
        open_first(bench, (), OPTIONS, upkeep)
    assert not caplog.records
    with pytest.raises(BuildError, match="a checkpoint"):
        open_first(bench, ["openvino", "pytorch"], OPTIONS, upkeep)
    assert [record.getMessage() for record in caplog.records] == ["the disk is full"]


def test_what_is_here_and_fails_is_news_also_where_nobody_prefers_it(
    bench: Material, upkeep: Upkeep, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "engines").write_text("in the way of the folder")
    assert open_first(bench, (), OPTIONS, upkeep).description.startswith("onnxruntime")
    (warned,) = [record.getMessage() for record in caplog.records]
    assert "XDG_CACHE_HOME" in warned
    assert warned.endswith("; going on with onnxruntime")


def test_the_only_one_that_is_preferred_says_itself_why_not(bench: Material, upkeep: Upkeep) -> None:
    with pytest.raises(BuildError, match="checkpoint"):
        open_first(bench, ["pytorch"], OPTIONS, upkeep)


def test_every_runtime_has_a_graph_for_the_precision_that_it_likes() -> None:
    assert GRAPHS.keys() == BACKENDS.keys()
    assert all("auto" in graphs and "fp32" in graphs for graphs in GRAPHS.values())


def test_a_precision_that_a_runtime_does_not_know(bench: Material) -> None:
    with pytest.raises(RuntimeUnavailable, match="onnxruntime does not compute in bf16: take one of auto, fp32"):
        order_for("onnxruntime", bench, RuntimeOptions("bf16"))


def test_int8_needs_a_calibration_first(bench: Material, upkeep: Upkeep) -> None:
    with pytest.raises(BuildError, match="--precision int8 --calibrate VIDEO"):
        open_on("onnxruntime", bench, RuntimeOptions("int8"), upkeep)


# --- engines that no longer fit ---


@pytest.fixture
def outdated(bench: Material, upkeep: Upkeep) -> Material:
    """A bench whose OpenVINO engine was built by an older version."""
    order = order_for("openvino", bench, OPTIONS)
    now = OpenVinoBuilder().identity(order)
    old = label(bench, "openvino", order, Identity("2024.0", now.device))
    upkeep.cache.put(old, bench, Built(b"what an old version wrote"), 1.0)
    return bench


def test_a_recording_waits_for_the_new_engine(outdated: Material, upkeep: Upkeep, said: list[str]) -> None:
    runtime = open_on("openvino", outdated, OPTIONS, upkeep)
    assert runtime.description.startswith("openvino")
    assert said[0].startswith("building bright for OpenVINO: there is one, but it is for OpenVINO 2024.0, not ")


def test_cameras_go_on_while_it_is_built_and_then_get_it(outdated: Material, upkeep: Upkeep, said: list[str]) -> None:
    with ThreadPoolExecutor(1) as beside:
        runtime = open_on("openvino", outdated, OPTIONS, replace(upkeep, beside=beside))
        assert isinstance(runtime, Handover)
        assert runtime.description.startswith("onnxruntime")  # the old engine does not open any more
        assert said[0].startswith("a new engine of bright is being built; meanwhile onnxruntime")
        answers = [runtime.infer(feeds(spot(8, 8)))["boxes"][0, 0].tolist()]

        def served_by_the_new_one() -> bool:
            answers.append(runtime.infer(feeds(spot(8, 8)))["boxes"][0, 0].tolist())
            return runtime.description.startswith("openvino")

        eventually(served_by_the_new_one)
        runtime.close()
    assert len({tuple(np.round(box, 3)) for box in answers}) == 1
    assert "the new engine gives the same, and serves from now on" in said[-1]


def test_closed_before_the_engine_is_there(outdated: Material, upkeep: Upkeep) -> None:
    with ThreadPoolExecutor(1) as beside:
        runtime: Runtime = open_on("openvino", outdated, OPTIONS, replace(upkeep, beside=beside))
        runtime.infer(feeds(spot(8, 8)))
        runtime.close()
    assert [entry.sidecar.label.identity.version for entry in upkeep.cache.entries()] == ["2024.0"]


def test_other_weights_are_no_stand_in(tmp_path: Path, upkeep: Upkeep) -> None:
    """What an engine of other weights answers is another answer: nobody is served that."""
    manifest = read(networks.manifest(tmp_path))
    before = material(manifest, tmp_path / "bright.onnx", tmp_path / "graphs")
    open_on("openvino", before, OPTIONS, upkeep).close()
    networks.bright_spots(tmp_path / "bright.onnx", batch="n")
    after = material(manifest, tmp_path / "bright.onnx", tmp_path / "graphs")
    with ThreadPoolExecutor(1) as beside:
        runtime = open_on("openvino", after, OPTIONS, replace(upkeep, beside=beside))
    assert not isinstance(runtime, Handover)

"""OpenVINO's engines: they give what the graph gives, as tuned, and only where they were built."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benches import bench, frames

from engines.build.base import Material, Order, Profile
from engines.build.cache import EngineCache
from engines.build.obtain import obtain
from engines.build.openvino import OpenVinoBuilder
from engines.build.sidecar import sidecar_of
from engines.build.tuning import Setting, fastest, measure, settings
from engines.errors import ModelError, RuntimeUnavailable
from engines.runtimes.base import Goal, Overlapping, Precision, RuntimeOptions
from engines.runtimes.openvino import configure, open_openvino

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = RuntimeOptions("fp32", max_batch=4, threads=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def built(made: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    order = Order(profile=Profile(1, 4, 4), precision="fp32", threads=2)
    return obtain(made, "openvino", order, EngineCache(tmp_path_factory.mktemp("engines")))


@pytest.fixture
def engine(built: Path, tmp_path: Path) -> Path:
    """Copy the engine, to do with as a test likes."""
    for file in (built, sidecar_of(built)):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path / built.name


def change(engine: Path, edit: Callable[[dict[str, dict[str, object]]], object]) -> None:
    told = json.loads(sidecar_of(engine).read_text())
    edit(told)
    sidecar_of(engine).write_text(json.dumps(told))


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_it_gives_what_the_graph_gives(made: Material, built: Path, rows: int) -> None:
    graph, runtime = (open_openvino(path, OPTIONS) for path in (made.graph(Order().recipe), built))
    assert (runtime.inputs, runtime.outputs) == (graph.inputs, graph.outputs)
    assert isinstance(runtime, Overlapping)
    feeds = frames(rows)
    wanted, got = graph.infer(feeds), runtime.infer(feeds)
    for name, output in wanted.items():
        np.testing.assert_allclose(got[name], output, rtol=1e-4, atol=1e-4)


def test_it_runs_as_it_was_tuned(engine: Path) -> None:
    facts = json.loads(sidecar_of(engine).read_text())["facts"]
    assert {"streams": facts["streams"], "threads": facts["threads"]} in [
        {key: tried[key] for key in ("streams", "threads")} for tried in facts["tried"]
    ]
    change(engine, lambda told: told["facts"].update(streams=1))
    assert "fp32, 1 stream x 2 threads" in open_openvino(engine, OPTIONS).description
    change(engine, lambda told: told["facts"].update(streams=2))
    assert "fp32, 2 streams x 1 thread" in open_openvino(engine, OPTIONS).description


def test_what_was_tuned_for_another_use_is_not_followed(engine: Path) -> None:
    change(engine, lambda told: told["facts"].update(streams=2))
    assert "1 stream x 2 threads" in open_openvino(engine, replace(OPTIONS, goal="latency")).description
    assert "1 stream x 1 thread" in open_openvino(engine, replace(OPTIONS, threads=1)).description


def test_without_a_sidecar_it_opens_as_a_graph_would(engine: Path) -> None:
    sidecar_of(engine).unlink()
    runtime = open_openvino(engine, OPTIONS)
    assert runtime.infer(frames(1))["scores"].max() > 0.9


@pytest.mark.parametrize("field", ["version", "device"])
def test_an_engine_from_elsewhere_is_refused(engine: Path, field: str) -> None:
    change(engine, lambda told: told["label"]["identity"].update({field: "3.1"}))  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match=r"3\.1.*but here is openvino 20.*build it with") as caught:
        open_openvino(engine, OPTIONS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [1, 20, 70, 1000, -1000])
def test_a_damaged_engine_is_refused_in_one_sentence(engine: Path, cut: int) -> None:
    engine.write_bytes(engine.read_bytes()[:cut])
    with pytest.raises(ModelError, match="built again") as caught:
        open_openvino(engine, OPTIONS)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_something_else_is_found_out_at_a_look(built: Path, made: Material, tmp_path: Path) -> None:
    builder = OpenVinoBuilder()
    assert builder.fault(built) is None
    (tmp_path / "short").write_bytes(b"x")
    assert builder.fault(tmp_path / "short") == "is too short to be a compiled network"
    assert builder.fault(made.weights) == "is no compiled network of OpenVINO's"


def test_int8_is_refused_of_an_engine_without(engine: Path) -> None:
    with pytest.raises(ModelError, match="no quantised layers"):
        open_openvino(engine, replace(OPTIONS, precision="int8"))


@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_it_computes_in_what_was_ordered(made: Material, tmp_path: Path, precision: Precision) -> None:
    options = replace(OPTIONS, precision=precision)
    try:
        configure(options)
    except RuntimeUnavailable as error:
        pytest.skip(f"{error}; a CPU with AMX or AVX512-BF16 has it")
    order = Order(profile=Profile(1, 4, 4), precision=precision, threads=2)
    path = obtain(made, "openvino", order, EngineCache(tmp_path))
    runtime, graph = open_openvino(path, options), open_openvino(made.graph(order.recipe), options)
    assert runtime.precision == graph.precision
    assert json.loads(sidecar_of(path).read_text())["facts"]["precision"] == runtime.precision
    feeds = frames(2)
    np.testing.assert_allclose(runtime.infer(feeds)["scores"], graph.infer(feeds)["scores"], atol=0.02)


# --- tuning ---


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 6, 16, 64])
@pytest.mark.parametrize("goal", ["latency", "throughput"])
def test_no_setting_asks_for_more_than_there_is(cores: int, goal: Goal) -> None:
    tried = settings(cores, goal, rows=8)
    assert 1 <= len(tried) == len(set(tried)) <= 4
    assert all(1 <= s.streams <= s.threads <= cores and s.streams <= 8 for s in tried)
    assert goal == "throughput" or all(s.streams == 1 for s in tried)


class Machine:
    """Trials whose time passes on a clock of their own, now and then disturbed."""

    def __init__(self, seconds: dict[Setting, float], disturbance: float = 0.0) -> None:
        self.now, self.runs = 0.0, 0
        self.random, self.disturbance = np.random.default_rng(1), disturbance
        self.trials = {setting: self._trial(setting, cost) for setting, cost in seconds.items()}
        self.ran: list[Setting] = []

    def _trial(self, setting: Setting, cost: float) -> Callable[[], None]:
        def trial() -> None:
            self.ran.append(setting)
            self.now += cost + self.disturbance * float(self.random.random() < 0.5)

        return trial

    def clock(self) -> float:
        return self.now


A, B, C = Setting(4, 4), Setting(2, 4), Setting(1, 4)


def test_the_fastest_is_found_though_others_disturb_it() -> None:
    machine = Machine({A: 0.010, B: 0.009, C: 0.011}, disturbance=0.05)
    assert fastest(measure(machine.trials, 10, machine.clock)) == B


def test_what_is_as_fast_does_not_displace_the_likely_best() -> None:
    machine = Machine({A: 0.0100, B: 0.0099, C: 0.02})
    assert fastest(measure(machine.trials, 10, machine.clock)) == A


def test_the_hopeless_are_given_up_early() -> None:
    machine = Machine({A: 0.01, B: 0.02, C: 0.03})
    measure(machine.trials, 10, machine.clock)
    assert [machine.ran.count(setting) for setting in (A, B, C)] == [4, 4, 4]  # one to warm up, three measured


def test_a_slow_network_runs_once_each_and_no_more() -> None:
    machine = Machine({A: 5.0, B: 4.0, C: 6.0})
    assert fastest(measure(machine.trials, 1, machine.clock)) == B
    assert machine.ran == [A, B, C]


def test_the_first_run_of_a_quick_network_does_not_count() -> None:
    machine = Machine({A: 0.1, B: 0.1})
    trials = {A: allocating(machine, A, 0.05), B: allocating(machine, B, 0.01)}
    assert measure(trials, 0.0, machine.clock) == pytest.approx({A: 0.1, B: 0.1})


def allocating(machine: Machine, setting: Setting, seconds: float) -> Callable[[], None]:
    """Let the first run of a trial take longer."""

    def trial() -> None:
        if setting not in machine.ran:
            machine.now += seconds
        machine.trials[setting]()

    return trial


# --- telemetry ---


def imports(statement: str, home: Path) -> str:
    """Run an import where nobody has opted in or out, and tell what of the telemetry was loaded."""
    environ = {key: value for key, value in os.environ.items() if key not in ("CI", "TF_BUILD", "JENKINS_URL")}
    code = f"{statement}\nimport sys; print([n for n, m in sys.modules.items() if m and 'openvino_telemetry' in n])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, env=environ | {"HOME": str(home)}, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["engines.runtimes.openvino", "engines.build.openvino"])
def test_opening_openvino_tells_nobody(tmp_path: Path, module: str) -> None:
    assert imports(f"import {module}", tmp_path) == "[]"
    assert list(tmp_path.iterdir()) == []  # neither a client's id nor statistics


def test_nobody_imports_openvino_past_the_module_that_silences_it() -> None:
    importing = re.compile(r"^\s*(?:import|from) openvino\b", re.MULTILINE)
    files = [file for folder in ("engines", "streamer", "benchmarks") for file in (ROOT / folder).rglob("*.py")]
    found = [str(file.relative_to(ROOT)) for file in files if importing.search(file.read_text())]
    assert found == ["engines/runtimes/untracked.py"]

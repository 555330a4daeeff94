"""Engines on first use: built once, said so, and built anew with the reason why."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from benches import bench, tag

from engines.build.base import Built, Identity, Material, Order, Profile, Recipe
from engines.build.cache import EngineCache
from engines.build.graph import material
from engines.build.obtain import brought, lookup, obtain, stale
from engines.build.openvino import OpenVinoBuilder
from engines.build.sidecar import label, read
from engines.errors import BuildError, ModelError, RuntimeUnavailable
from engines.runtimes.base import RuntimeOptions
from engines.runtimes.openvino import open_openvino

ORDER = Order(profile=Profile(1, 2, 2), threads=1)  # one thread: nothing to measure


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


def put(cache: EngineCache, made: Material, identity: Identity) -> None:
    """Leave an engine that was built for the same order, somewhere else or earlier."""
    cache.put(label(made, "openvino", ORDER, identity), made, Built(b"of old"), 1.0)


def test_the_first_use_builds_and_says_so_and_the_second_is_silent(cache: EngineCache, made: Material) -> None:
    said: list[str] = []
    path = obtain(made, "openvino", ORDER, cache, said.append)
    assert said[0] == "building bright for OpenVINO: there is none for OpenVINO yet"
    assert said[-1].startswith("built bright in ")
    assert said[-1].endswith(str(path))
    assert open_openvino(path, RuntimeOptions(max_batch=2, threads=1)).inputs[0].name == "frames"
    said.clear()
    assert obtain(made, "openvino", ORDER, cache, said.append) == path
    assert said == []


def test_a_runtime_without_builder_opens_the_served_graph(cache: EngineCache, made: Material) -> None:
    assert obtain(made, "onnxruntime", ORDER, cache) == made.graph(ORDER.recipe)
    assert cache.entries() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [({"version": "2024.0"}, "it is for OpenVINO 2024.0, not "), ({"device": "Z80"}, "it is for Z80, not ")],
    ids=["version", "device"],
)
def test_a_rebuild_says_what_has_changed(
    cache: EngineCache, made: Material, change: dict[str, str], words: str
) -> None:
    put(cache, made, replace(OpenVinoBuilder().identity(ORDER), **change))
    old = stale(made, "openvino", ORDER, cache)
    assert old is not None
    assert old.sidecar == read(old.path)
    said: list[str] = []
    obtain(made, "openvino", ORDER, cache, said.append)
    assert said[0].startswith(f"building bright for OpenVINO: there is one, but {words}")
    assert stale(made, "openvino", ORDER, cache) is None


def test_new_weights_make_an_engine_stale(cache: EngineCache, made: Material, tmp_path: Path) -> None:
    old = obtain(made, "openvino", ORDER, cache)
    weights = tmp_path / "newer.onnx"
    weights.write_bytes(made.weights.read_bytes().replace(b"bright_spots", b"bright_stars"))
    newer = material(made.manifest, weights, tmp_path)
    found = stale(newer, "openvino", ORDER, cache)
    assert found is not None
    assert found.path == old
    assert obtain(newer, "openvino", ORDER, cache) != old


def test_nothing_is_stale_before_a_first_build_nor_for_another_order(cache: EngineCache, made: Material) -> None:
    assert stale(made, "openvino", ORDER, cache) is None
    put(cache, made, Identity("2024.0", "Z80"))
    assert stale(made, "openvino", replace(ORDER, goal="latency"), cache) is None
    assert stale(made, "onnxruntime", ORDER, cache) is None


def test_a_damaged_engine_is_built_anew(cache: EngineCache, made: Material) -> None:
    path = obtain(made, "openvino", ORDER, cache)
    path.write_bytes(path.read_bytes()[:-1])
    said: list[str] = []
    assert obtain(made, "openvino", ORDER, cache, said.append) == path
    assert "the one here is damaged: it has" in said[0]
    assert lookup(made, "openvino", ORDER, cache).path == path


def test_a_network_that_cannot_be_compiled_leaves_nothing(cache: EngineCache, made: Material, tmp_path: Path) -> None:
    graph = tmp_path / "no.onnx"
    graph.write_bytes(b"no network")
    broken = replace(made, graph=lambda _recipe: graph)
    with pytest.raises(BuildError, match=r"no\.onnx") as caught:
        obtain(broken, "openvino", ORDER, cache)
    assert "\n" not in str(caught.value)
    assert [path.suffix for path in cache.folder.iterdir()] == [".lock"]


def test_what_else_goes_wrong_keeps_its_kind(cache: EngineCache, made: Material) -> None:
    def refuse(_recipe: object) -> Path:
        raise ModelError("the weights are no network")

    with pytest.raises(ModelError, match="the weights are no network"):
        obtain(replace(made, graph=refuse), "onnxruntime", ORDER, cache)
    with pytest.raises(RuntimeUnavailable, match="sm_86"):
        obtain(made, "openvino", replace(ORDER, targets=("sm_86",)), cache)


def test_of_two_processes_one_builds_and_the_other_waits(made: Material, cache: EngineCache) -> None:
    code = (
        "import sys; from pathlib import Path; from engines.manifest import read\n"
        "from engines.build.base import Order, Profile; from engines.build.cache import EngineCache\n"
        "from engines.build.graph import material; from engines.build.obtain import obtain\n"
        "folder, cache = map(Path, sys.argv[1:])\n"
        "bench = material(read(folder / 'bright.yaml'), folder / 'bright.onnx', folder / 'graphs')\n"
        "sys.stdin.read()\n"
        "obtain(bench, 'openvino', Order(profile=Profile(1, 2, 2), threads=1), EngineCache(cache), print)\n"
    )
    command = [sys.executable, "-c", code, str(made.weights.parent), str(cache.folder)]
    builders = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
        for _ in range(3)
    ]
    said = [process.communicate(timeout=60)[0] for process in builders]
    assert [process.returncode for process in builders] == [0, 0, 0]
    assert "".join(said).count("built bright in") == 1
    assert len(cache.entries()) == 1


@pytest.mark.parametrize("device", ["sm_80+sm_86", "sm_86", "portable"])
def test_an_engine_that_another_machine_has_built_for_this_gpu_is_taken(
    cache: EngineCache, made: Material, device: str
) -> None:
    targets = () if device == "portable" else tuple(device.split("+"))
    there = tag(made, "tensorrt_rtx", Identity("1.7", device), targets=targets)
    path = cache.put(there, made, Built(b"for others"), 1.0)
    here = Identity("1.7", "NVIDIA A10 sm_86")
    assert brought(tag(made, "tensorrt_rtx", here), cache, lambda _: None) == path
    assert brought(tag(made, "tensorrt_rtx", here), cache, lambda _: "is damaged") is None
    for other in (Identity("1.6", here.device), Identity("1.7", "NVIDIA H200 sm_90")):
        found = brought(tag(made, "tensorrt_rtx", other), cache, lambda _: None)
        assert found == (path if device == "portable" and other.version == "1.7" else None)
    assert brought(tag(made, "tensorrt_rtx", here, recipe=Recipe("fp16")), cache, lambda _: None) is None
    assert brought(tag(made, "tensorrt_rtx", here, targets=("sm_86",)), cache, lambda _: None) is None

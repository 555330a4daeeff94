"""`streamer models list --engines` and `streamer models clean`, on engines that were built."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import onnx
import pytest
from benches import bench

from engines.build.base import Built, Identity, Material, Order, Profile, Recipe
from engines.build.cache import EngineCache, Entry
from engines.build.graph import material
from engines.build.graphs import Origin, save
from engines.build.obtain import obtain
from engines.build.openvino import OpenVinoBuilder
from engines.build.sidecar import label, sidecar_of
from engines.build.upkeep import Inspector, State
from engines.manifest import find
from streamer.cli import main

ORDER = Order(profile=Profile(1, 2, 2), threads=1)
Streamer = Callable[..., str]


@pytest.fixture
def streamer(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Streamer:
    monkeypatch.setenv("COLUMNS", "240")

    def run(*argv: str) -> str:
        assert main(["models", *argv]) == 0
        out, err = capsys.readouterr()
        return out + err

    return run


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Material:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return bench(tmp_path / "bench")


@pytest.fixture
def cache(made: Material) -> EngineCache:
    return EngineCache()


def put(cache: EngineCache, made: Material, runtime: str, order: Order, **identity: str) -> Path:
    here = replace(OpenVinoBuilder().identity(ORDER), **identity)
    return cache.put(label(made, runtime, order, here), made, Built(b"x" * 2_000_000), 1.0)


def used(path: Path, **ago: float) -> None:
    when = (datetime.now(UTC) - timedelta(**ago)).timestamp()
    os.utime(sidecar_of(path), (when, when))


def test_nothing_yet(streamer: Streamer, cache: EngineCache) -> None:
    assert f"there are no engines in {cache.folder}" in streamer("list", "--engines")
    assert "is clean" in streamer("clean")
    assert "nothing would be removed" in streamer("clean", "--dry-run")
    assert not cache.folder.exists()


def test_the_table_says_what_can_be_used_and_why_not(streamer: Streamer, made: Material, cache: EngineCache) -> None:
    obtain(made, "openvino", ORDER, cache)
    put(cache, made, "openvino", ORDER, version="2024.1")
    put(cache, made, "openvino", replace(ORDER, profile=Profile(1, 4, 8)), device="Z80 (INT8)")
    put(cache, made, "tensorrt_rtx", Order(Recipe("fp16"), targets=("sm_86", "sm_89")), version="1.7")
    shown = streamer("list", "--engines")
    rows = {tuple(re.split(r"  +", line.strip())) for line in shown.splitlines() if line.startswith("bright")}
    assert len(rows) == 4
    states = {row[1] + row[3]: row[-1] for row in rows}
    identity = OpenVinoBuilder().identity(ORDER)
    assert states[f"OpenVINO {identity.version}1..2"] == "usable"
    assert states["OpenVINO 2024.11..2"] == f"stale: it is for OpenVINO 2024.1, not {identity.version}"
    assert states[f"OpenVINO {identity.version}1..4..8"] == f"stale: it is for Z80 (INT8), not {identity.device}"
    assert any(row[1:5] == ("TensorRT-RTX 1.7", "fp16", "1", "sm_86, sm_89") for row in rows)
    assert f"4 in {cache.folder}, 6" in shown


def test_clean_removes_what_is_stale_and_nothing_else(streamer: Streamer, made: Material, cache: EngineCache) -> None:
    good = obtain(made, "openvino", ORDER, cache)
    stale = put(cache, made, "openvino", ORDER, version="2024.1")
    unknown = put(cache, made, "pantograph", ORDER)
    (cache.folder / "bright-0000.engine.part").write_bytes(b"half")
    said = streamer("clean", "--dry-run")
    assert "bright for OpenVINO 2024.1, fp32, batch 1..2: it is for OpenVINO 2024.1, not 20" in said
    assert "bright-0000.engine.part: a build that was killed has left it" in said
    assert "2 would be removed" in said
    assert stale.exists()
    assert "2 removed, 2.0 MB freed" in streamer("clean")
    assert {entry.path for entry in cache.entries()} == {good, unknown}
    assert not list(cache.folder.glob("*.part"))


def test_clean_by_age_counts_from_the_last_use(streamer: Streamer, made: Material, cache: EngineCache) -> None:
    old = put(cache, made, "openvino", ORDER)
    recent = put(cache, made, "openvino", replace(ORDER, profile=Profile(1, 4, 4)))
    used(old, days=31)
    used(recent, days=29)
    assert "1 removed" in streamer("clean", "--older-than", "30d")
    assert [entry.path for entry in cache.entries()] == [recent]
    assert "1 removed" in streamer("clean", "--older-than", "12h")


def test_clean_all(streamer: Streamer, made: Material, cache: EngineCache) -> None:
    for profile in (Profile(), Profile(1, 2, 4)):
        put(cache, made, "openvino", replace(ORDER, profile=profile))
    put(cache, made, "pantograph", ORDER)
    assert "3 would be removed" in streamer("clean", "--all", "--dry-run")
    assert len(cache.entries()) == 3
    assert "3 removed, 6.0 MB freed" in streamer("clean", "--all")
    assert {file.suffix for file in cache.folder.iterdir()} <= {".lock"}


def test_clean_leaves_alone_what_is_being_built(streamer: Streamer, made: Material, cache: EngineCache) -> None:
    wanted = label(made, "openvino", ORDER, Identity("2024.1", "Z80"))
    with cache.building(wanted):
        path = cache.put(wanted, made, Built(b"old"), 1.0)
        path.with_name(path.name + ".part").write_bytes(b"half")
        assert "is clean" in streamer("clean", "--all")
        assert path.exists()
        assert path.with_name(path.name + ".part").exists()
    assert "2 removed" in streamer("clean")


def test_what_lies_beside_an_engine_goes_with_it(streamer: Streamer, made: Material, cache: EngineCache) -> None:
    path = put(cache, made, "tensorrt_rtx", Order(Recipe("fp16"), targets=("sm_86",)), version="1.7")
    path.with_suffix(".kernels").write_bytes(b"k" * 1_000_000)
    timings = cache.folder / "tensorrt-10.3.0-NVIDIA A10 sm_86.timings"
    timings.write_bytes(b"t" * 1_000_000)
    (cache.folder / "bright-0000.kernels").write_bytes(b"of no engine")
    assert f"{timings.name}: no engine of this version is left" in streamer("clean", "--all", "--dry-run")
    assert "3 removed, 4.0 MB freed" in streamer("clean", "--all")
    assert not [file for file in cache.folder.iterdir() if file.suffix != ".lock"]


def test_files_of_others_are_left_alone(streamer: Streamer, made: Material, cache: EngineCache) -> None:
    put(cache, made, "pantograph", ORDER)
    (cache.folder / "folder-00.engine").mkdir()
    for name in ("diesel.engine", "settings.json", "readme.txt"):
        (cache.folder / name).write_text("not ours")
    assert "nothing would be removed" in streamer("clean", "--dry-run")
    assert "1 removed" in streamer("clean", "--all")
    assert len([file for file in cache.folder.iterdir() if file.suffix != ".lock"]) == 4


def test_graphs_go_when_nothing_would_make_them_so(
    streamer: Streamer, made: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engines.build.upkeep.names", lambda: ["bright"])
    monkeypatch.setattr("engines.build.upkeep.find", lambda _: made.manifest)
    here = material(made.manifest, made.weights)
    path = here.graph(Recipe())
    assert "nothing would be removed" in streamer("clean", "--dry-run")
    made.weights.write_bytes(made.weights.read_bytes() + b"\x00")
    said = streamer("clean", "--dry-run")
    assert f"{path.name}, the graph of bright in fp32: it is of other weights, or of an older manifest" in said
    assert "2 removed" in streamer("clean"), "and the body that it was made of"
    assert not path.exists()


def test_graphs_that_were_calibrated_stay_until_they_are_calibrated_anew(
    streamer: Streamer, made: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engines.build.upkeep.names", lambda: ["bright"])
    monkeypatch.setattr("engines.build.upkeep.find", lambda _: made.manifest)
    here = material(made.manifest, made.weights)
    plain, recipe = here.graph(Recipe()), Recipe("int8", calibration="street")
    quantised = plain.with_name(f"bright-{here.digest(recipe)[:16]}.onnx")
    origin = Origin("bright", str(made.weights), recipe, here.digest(recipe))
    save(onnx.load(plain), quantised, origin)
    monkeypatch.setattr("engines.build.upkeep.calibration_of", lambda _: "street")
    assert "2 removed" in streamer("clean", "--all")
    assert quantised.exists()
    monkeypatch.setattr("engines.build.upkeep.calibration_of", lambda _: "garage")
    assert "in int8: the model was calibrated anew since" in streamer("clean")
    assert not quantised.exists()


@pytest.mark.parametrize("age", ["30", "d", "-3d", "3 weeks", ""])
def test_an_age_needs_its_unit(capsys: pytest.CaptureFixture[str], age: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["models", "clean", f"--older-than={age}"])
    assert caught.value.code == 2
    assert "is no age: write 30d, 12h or 90m" in capsys.readouterr().err


def test_weights_that_have_changed_make_the_engines_of_our_models_stale(
    made: Material, cache: EngineCache, tmp_path: Path
) -> None:
    weights = tmp_path / "yolox_nano.onnx"
    weights.write_bytes(b"first")
    entry = _entry(cache, material(find("yolox-nano"), weights))
    assert Inspector()(entry) == State("usable")
    weights.write_bytes(b"second")
    assert Inspector()(entry).verdict == "stale"
    assert "other weights" in Inspector()(entry).why
    weights.unlink()
    assert Inspector()(entry) == State("usable"), "what it was made of is not here to compare"


def _entry(cache: EngineCache, made: Material) -> Entry:
    put(cache, made, "openvino", ORDER)
    (entry,) = cache.entries()
    return entry

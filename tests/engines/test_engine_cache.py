"""Engines on disk: found when they fit, and when not, with a reason."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from benches import HERE, bench, tag
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.build.base import Built, Identity, Material, Order, Profile, Recipe
from engines.build.cache import EngineCache, engines_dir
from engines.build.graph import material
from engines.build.sidecar import Label, label, read, sidecar_of
from engines.errors import BuildError

DATA = bytes(range(256)) * 4


def sound(_path: Path) -> str | None:
    return None


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


def put(cache: EngineCache, made: Material, label: Label, data: bytes = DATA) -> Path:
    with cache.building(label):
        return cache.put(label, made, Built(data, {"layers": 3}), 1.5)


def test_what_was_put_is_found_with_all_that_is_known_of_it(cache: EngineCache, made: Material) -> None:
    wanted = tag(made)
    path = put(cache, made, wanted)
    assert cache.find(wanted, sound).path == path
    assert path.read_bytes() == DATA
    told = json.loads(sidecar_of(path).read_text())
    assert (told["size"], told["seconds"], told["facts"]) == (len(DATA), 1.5, {"layers": 3})
    assert told["label"]["identity"] == {"version": "11.4.0", "device": "NVIDIA H200 sm_90"}
    assert told["label"]["order"]["profile"] == {"least": 1, "best": 8, "most": 8}
    assert told["weights"] == str(made.weights)
    assert [entry.sidecar.label for entry in cache.entries()] == [wanted]


def test_it_is_named_for_people_and_lies_in_the_cache() -> None:
    assert engines_dir({"XDG_CACHE_HOME": "/big"}) == Path("/big/streamer/engines")
    assert engines_dir({}) == Path("~/.cache/streamer/engines").expanduser()


@pytest.mark.parametrize(
    "order",
    [
        Order(Recipe("fp16")),
        Order(Recipe("int8", calibration="street")),
        Order(Recipe("int8", calibration="garage")),
        Order(Recipe(layout="raw")),
        Order(profile=Profile(1, 1, 8)),
        Order(profile=Profile(1, 8, 8)),
        Order(targets=("sm_86",)),
        Order(targets=("sm_86", "sm_89")),
    ],
    ids=str,
)
def test_every_word_of_an_order_makes_another_engine(made: Material, order: Order) -> None:
    assert label(made, "tensorrt", order, HERE).key != label(made, "tensorrt", Order(), HERE).key


@pytest.mark.parametrize("order", [Order(goal="latency"), Order(threads=999), Order(precision="bf16")], ids=str)
def test_how_cores_are_used_matters_only_where_engines_are_tuned_to_them(made: Material, order: Order) -> None:
    for runtime, same in (("tensorrt", True), ("openvino", False)):
        assert (label(made, runtime, order, HERE) == label(made, runtime, Order(), HERE)) is same


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        (Identity("11.3.0", HERE.device), "it is for TensorRT 11.3.0, not 11.4.0"),
        (Identity(HERE.version, "NVIDIA A10 sm_86"), "it is for NVIDIA A10 sm_86, not NVIDIA H200 sm_90"),
    ],
    ids=["version", "device"],
)
def test_one_that_no_longer_fits_is_not_found_and_it_says_why(
    cache: EngineCache, made: Material, identity: Identity, words: str
) -> None:
    put(cache, made, tag(made, identity=identity))
    assert cache.find(tag(made), sound).path is None
    assert words in cache.find(tag(made), sound).why


def test_one_of_other_weights_is_not_found_and_it_says_so(cache: EngineCache, made: Material, tmp_path: Path) -> None:
    put(cache, made, tag(made))
    weights = tmp_path / "newer.onnx"
    weights.write_bytes(made.weights.read_bytes() + b"\x00")
    assert "other weights" in cache.find(tag(material(made.manifest, weights)), sound).why


def test_another_order_is_no_reason(cache: EngineCache, made: Material) -> None:
    put(cache, made, tag(made, profile=Profile(1, 4, 4)))
    assert cache.find(tag(made), sound).why == "there is none for TensorRT yet"


def damaged(cache: EngineCache, wanted: Label) -> str:
    found = cache.find(wanted, sound)
    assert found.path is None
    return found.why


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, len(DATA) - 1), to=st.integers(0, 255))
def test_any_changed_byte_is_found_out(
    made: Material, tmp_path_factory: pytest.TempPathFactory, at: int, to: int
) -> None:
    cache = EngineCache(tmp_path_factory.mktemp("engines"))
    path = put(cache, made, tag(made))
    changed = bytearray(DATA)
    changed[at] = to
    path.write_bytes(changed)
    if bytes(changed) == DATA:
        assert cache.find(tag(made), sound).path == path
    else:
        assert "has sha256" in damaged(cache, tag(made))


@pytest.mark.parametrize("length", [0, 1, len(DATA) - 1, len(DATA) + 1])
def test_any_other_length_is_found_out(cache: EngineCache, made: Material, length: int) -> None:
    path = put(cache, made, tag(made))
    path.write_bytes((DATA + b"x")[:length])
    assert damaged(cache, tag(made)) == f"the one here is damaged: it has {length} bytes instead of {len(DATA)}"


def test_what_the_builder_finds_at_fault_is_not_used(cache: EngineCache, made: Material) -> None:
    put(cache, made, tag(made))
    assert cache.find(tag(made), lambda _path: "is a cake").why == "the one here is damaged: it is a cake"


@pytest.mark.parametrize("content", [None, "", "{}", '{"label": 3}', "[" * 1000], ids=["no", "empty", "{}", "3", "[["])
def test_an_engine_without_a_readable_sidecar_is_foreign(
    cache: EngineCache, made: Material, content: str | None
) -> None:
    path = put(cache, made, tag(made))
    sidecar_of(path).unlink()
    if content is not None:
        sidecar_of(path).write_text(content)
    assert read(path) is None
    assert damaged(cache, tag(made)) == "a foreign file is in its place"
    assert cache.entries() == []
    assert cache.leftovers() == [path]


def test_a_sidecar_of_another_engine_is_foreign(cache: EngineCache, made: Material) -> None:
    path, other = put(cache, made, tag(made)), put(cache, made, tag(made, profile=Profile(1, 4, 4)))
    sidecar_of(path).write_bytes(sidecar_of(other).read_bytes())
    assert damaged(cache, tag(made)) == "a foreign file is in its place"


def test_put_again_it_replaces_what_was_damaged(cache: EngineCache, made: Material) -> None:
    put(cache, made, tag(made)).write_bytes(b"")
    assert cache.find(tag(made), sound).path is None
    path = put(cache, made, tag(made))
    assert cache.find(tag(made), sound).path == path


def test_finding_an_engine_is_using_it(cache: EngineCache, made: Material) -> None:
    path = put(cache, made, tag(made))
    long_ago = datetime.now(UTC) - timedelta(days=60)
    os.utime(sidecar_of(path), (long_ago.timestamp(),) * 2)
    assert cache.entries()[0].used < long_ago + timedelta(seconds=1)
    cache.find(tag(made), sound)
    assert cache.entries()[0].used > long_ago + timedelta(days=59)


def test_an_engine_in_use_survives_its_removal(cache: EngineCache, made: Material) -> None:
    path = put(cache, made, tag(made))
    size = path.stat().st_size + sidecar_of(path).stat().st_size
    with path.open("rb") as user:
        assert cache.remove([path]) == size
        assert user.read() == DATA
    assert cache.entries() == []
    assert cache.remove([path]) == 0


def test_what_is_being_built_is_left_alone(cache: EngineCache, made: Material) -> None:
    path = put(cache, made, tag(made))
    part = path.with_name(path.name + ".part")
    part.write_bytes(b"half")
    with cache.building(tag(made)):
        assert cache.busy(tag(made))
        assert cache.leftovers() == []
        assert cache.remove([path, part]) == 0
    assert not cache.busy(tag(made))
    assert cache.leftovers() == [part]
    assert cache.remove([part]) == 4
    assert cache.find(tag(made), sound).path == path


def test_a_cache_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "nowhere")
    assert cache.entries() == []
    assert cache.leftovers() == []
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_that_takes_no_files_is_said(made: Material, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = EngineCache(tmp_path / "file" / "engines")
    with pytest.raises(BuildError, match="set XDG_CACHE_HOME to a folder that is") as caught, cache.building(tag(made)):
        pytest.fail("it has no place to build in")
    assert "\n" not in str(caught.value)

"""Served graphs on disk: what was damaged, left half made or made for others is not served."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from benches import bench

from engines.build import graphs
from engines.build.base import Material, Recipe
from engines.build.graph import calibrated, material
from engines.errors import BuildError


@pytest.fixture
def made(tmp_path: Path) -> Material:
    return bench(tmp_path)


def test_a_damaged_graph_is_made_anew(made: Material) -> None:
    path = made.graph(Recipe())
    whole = path.read_bytes()
    body = next(path.parent.glob("*.body.onnx"))
    for damaged in (whole[:100], whole[:200] + bytes([whole[200] ^ 1]) + whole[201:], b""):
        path.write_bytes(damaged)
        body.write_bytes(b"damaged as well")
        assert made.graph(Recipe()) == path
        assert path.read_bytes() == whole


@pytest.mark.parametrize("left", [b"", b"{", b"{}", b"[1]"])
def test_a_graph_of_which_nothing_is_known_is_a_leftover(made: Material, left: bytes) -> None:
    path = made.graph(Recipe())
    path.with_suffix(".json").write_bytes(left)
    assert graphs.leftovers(path.parent) == [path]
    made.graph(Recipe())
    assert graphs.leftovers(path.parent) == []


def test_a_swapped_graph_is_found_out(made: Material) -> None:
    fp32, raw = made.graph(Recipe()), made.graph(Recipe(layout="raw"))
    whole = fp32.read_bytes()
    fp32.write_bytes(raw.read_bytes())
    assert made.graph(Recipe()).read_bytes() == whole


def test_what_was_calibrated_and_is_damaged_must_be_calibrated_again(made: Material) -> None:
    path = made.graph(Recipe())
    recipe = Recipe("int8", calibration="street")
    entry = next(entry for entry in graphs.entries(path.parent) if entry.path == path)
    target = path.with_name(f"bright-{made.digest(recipe)[:16]}.onnx")
    path.rename(target)
    with pytest.raises(BuildError, match="not calibrated"):
        made.graph(recipe)
    path.with_suffix(".json").rename(target.with_suffix(".json"))
    assert made.graph(recipe) == target
    target.write_bytes(b"damaged")
    with pytest.raises(BuildError, match="not calibrated"):
        made.graph(recipe)
    assert entry.origin.recipe == Recipe()


def test_what_is_removed_goes_with_what_is_known_of_it(made: Material) -> None:
    path = made.graph(Recipe())
    size = path.stat().st_size + path.with_suffix(".json").stat().st_size
    assert graphs.remove([path]) == size
    assert not path.with_suffix(".json").exists()
    assert graphs.remove([path]) == 0


def test_a_folder_that_takes_nothing_says_so_before_calibrating(made: Material, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way of the folder")
    with pytest.raises(BuildError, match=r"cannot be (written|used).*XDG_CACHE_HOME"):
        calibrated(made, iter(()), lambda _: None, tmp_path / "file" / "graphs")
    elsewhere = material(made.manifest, made.weights, tmp_path / "file" / "graphs")
    with pytest.raises(BuildError, match=r"cannot be (written|used).*XDG_CACHE_HOME"):
        elsewhere.graph(replace(Recipe()))

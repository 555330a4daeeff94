"""Flow fields on disk: what is written is read again, and other files are refused."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engines.errors import ModelError
from engines.flowfiles import FlowField, read_flow, write_flow
from engines.types import Array

FIELDS = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda hw: st.builds(
        FlowField,
        hnp.arrays(np.float32, (*hw, 2), elements=st.floats(-500, 500, width=32)),
        hnp.arrays(np.bool_, hw),
    )
)


@given(field=FIELDS)
def test_flo_keeps_every_bit_that_is_known(tmp_path_factory: pytest.TempPathFactory, field: FlowField) -> None:
    path = tmp_path_factory.mktemp("flo") / "a.flo"
    write_flow(path, field)
    again = read_flow(path)
    assert np.array_equal(again.known, field.known)
    assert np.array_equal(again.uv[field.known], field.uv[field.known])


@given(field=FIELDS)
def test_png_keeps_sixty_fourths_of_a_pixel(tmp_path_factory: pytest.TempPathFactory, field: FlowField) -> None:
    path = tmp_path_factory.mktemp("png") / "a.png"
    write_flow(path, field)
    again = read_flow(path)
    assert np.array_equal(again.known, field.known)
    assert np.abs(again.uv - field.uv)[field.known].max(initial=0) <= 1 / 128


def test_the_bytes_of_flo_are_middleburys(tmp_path: Path) -> None:
    """Magic 202021.25, width, height, then u and v of each pixel, row by row."""
    path = tmp_path / "a.flo"
    path.write_bytes(struct.pack("<fii12f", 202021.25, 3, 2, *range(12)))
    field = read_flow(path)
    assert field.uv.shape == (2, 3, 2)
    assert field.uv[1, 2].tolist() == [10, 11]
    path.write_bytes(struct.pack("<fii2f", 202021.25, 1, 1, 1.7e9, 1.7e9))
    assert not read_flow(path).known.any()


def test_the_channels_of_png_are_kittis(tmp_path: Path) -> None:
    """In order of RGB: u, v as 64 steps a pixel from 2**15, and whether they are known."""
    path = tmp_path / "a.png"
    rgb = np.array([[[2**15 + 64, 2**15 - 128, 1], [2**15 + 64, 2**15, 0]]], np.uint16)
    cv2.imwrite(str(path), rgb[..., ::-1])
    field = read_flow(path)
    assert field.uv[0, 0].tolist() == [1.0, -2.0]
    assert field.known.tolist() == [[True, False]]


@pytest.mark.parametrize(
    "data", [b"", b"PIEH", b"PIEH" + struct.pack("<ii", 2, 2), b"JUNK" + bytes(40), b"PIEH" + b"\xff" * 8]
)
@pytest.mark.parametrize("name", ["a.flo", "a.png", "a.npz"])
def test_other_files_are_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ModelError, match=name):
        read_flow(tmp_path / name)


def test_npz_holds_the_field_as_uv(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, uv=np.array([[[1.5, -2], [np.nan, 0], [0, np.inf]]], np.float16))
    field = read_flow(path)
    assert field.uv.tolist() == [[[1.5, -2], [0, 0], [0, 0]]]
    assert field.known.tolist() == [[True, False, False]]


@pytest.mark.parametrize("array", [np.zeros((2, 3)), np.zeros((2, 3, 3)), np.zeros((2, 3, 2), int)])
def test_npz_with_other_arrays_is_refused(tmp_path: Path, array: Array) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, uv=array)
    with pytest.raises(ModelError, match="but a flow field is one of floats"):
        read_flow(path)
    np.savez(path, flow=array)
    with pytest.raises(ModelError, match="array 'uv'"):
        read_flow(path)


def test_npz_never_unpickles(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, uv=np.array([{}], object))
    with pytest.raises(ModelError, match="array 'uv'"):
        read_flow(path)


def test_damaged_npz_is_refused_or_read(tmp_path: Path) -> None:
    path, rng = tmp_path / "a.npz", np.random.default_rng(0)
    np.savez_compressed(path, uv=rng.normal(size=(5, 6, 2)).astype(np.float16))
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(300):
        data = whole.copy()
        data[rng.integers(len(data), size=3)] = rng.integers(256, size=3)
        path.write_bytes(data[: rng.integers(len(data))].tobytes() if rng.random() < 0.3 else data.tobytes())
        try:
            assert read_flow(path).uv.shape[2] == 2
        except ModelError as error:
            assert "a.npz" in str(error)  # noqa: PT017 - a byte that matters nowhere may change unseen


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        read_flow(tmp_path / "a.flo")

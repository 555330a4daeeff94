"""ONNX Runtime on memory of ours: inputs where the caller has them, outputs in buffers that are used again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import networks
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'streamer[onnxruntime]'")

import onnxruntime as ort

from engines.errors import ModelError, RuntimeUnavailable
from engines.runtimes.base import Precision, RuntimeOptions
from engines.runtimes.onnxruntime import OnnxRuntime, open_onnxruntime
from engines.types import Array

BATCH_OF_4 = RuntimeOptions(max_batch=4)


def save(path: Path, batch: int | str, out: str, facts: dict[str, str] | None = None) -> Path:
    """Write y (N, 3) = 2 x, and `places` (M, 2): where x is not zero, as many as there are, if *out* says so."""
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])]
    if out == "y and places":
        nodes += [helper.make_node("NonZero", ["x"], ["nz"]), helper.make_node("Transpose", ["nz"], ["places"])]
        outputs.insert(0, helper.make_tensor_value_info("places", TensorProto.INT64, ["M", 2]))
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3])], outputs)
    networks.save(graph, path)
    if facts:
        model = onnx.load(path)
        helper.set_model_props(model, facts)
        onnx.save(model, path)
    return path


@pytest.fixture(params=[1, "n"], ids=["one row", "any rows"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> OnnxRuntime:
    return open_onnxruntime(save(tmp_path / "m.onnx", request.param, "y"), BATCH_OF_4)


def rows(count: int) -> Array:
    return np.arange(count * 3, dtype=np.float32).reshape(count, 3)


def address(array: Array) -> int:
    return int(array.ctypes.data)


def test_outputs_are_written_to_the_same_memory_whatever_the_batch(runtime: OnnxRuntime) -> None:
    places = set()
    for count in (1, 4, 2, 4, 1):
        got = runtime.infer({"x": rows(count)})["y"]
        assert np.array_equal(got, 2 * rows(count))
        places.add(address(got))
    assert len(places) == 1


def test_new_values_in_the_same_memory_are_seen(runtime: OnnxRuntime) -> None:
    x = rows(2)
    for value in (1.0, 7.0, -2.0):
        x[:] = value
        assert (runtime.infer({"x": x})["y"] == 2 * value).all()


def test_other_memory_is_seen_too(runtime: OnnxRuntime) -> None:
    for value in (1.0, 7.0):
        assert (runtime.infer({"x": np.full((3, 3), value, np.float32)})["y"] == 2 * value).all()


def test_a_view_that_is_not_in_one_piece_is_read_as_it_looks(runtime: OnnxRuntime) -> None:
    x = np.arange(24, dtype=np.float32).reshape(3, 8).T[::4]
    x.flags.writeable = False
    assert np.array_equal(runtime.infer({"x": x})["y"], 2 * x)


def test_after_a_refused_feed_the_next_is_right(runtime: OnnxRuntime) -> None:
    with pytest.raises(ModelError, match="'x' takes 1 to 4 rows"):
        runtime.infer({"x": rows(5)})
    assert np.array_equal(runtime.infer({"x": rows(2)})["y"], 2 * rows(2))


def test_outputs_outlive_the_network(runtime: OnnxRuntime) -> None:
    got = runtime.infer({"x": rows(4)})["y"]
    runtime.close()
    assert np.array_equal(got, 2 * rows(4))


def test_an_output_of_unknown_size_comes_in_memory_of_its_own(tmp_path: Path) -> None:
    runtime = open_onnxruntime(save(tmp_path / "m.onnx", "n", "y and places"), BATCH_OF_4)
    diagonal = np.eye(3, dtype=np.float32)
    got = runtime.infer({"x": diagonal})  # three places in three rows: by chance a batch
    assert list(got) == ["places", "y"]
    assert got["places"].tolist() == [[0, 0], [1, 1], [2, 2]]
    assert np.array_equal(got["y"], 2 * diagonal)
    flipped = runtime.infer({"x": diagonal[::-1]})
    assert flipped["places"].tolist() == [[0, 2], [1, 1], [2, 0]]
    with pytest.raises(ModelError, match=r"'places' came as .* so its first axis is not the batch"):
        runtime.infer({"x": np.ones((3, 3), np.float32)})
    assert np.array_equal(runtime.infer({"x": diagonal})["y"], 2 * diagonal)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_a_file_says_its_precision_and_is_taken_at_its_word(tmp_path: Path, precision: Precision) -> None:
    path = save(tmp_path / "m.onnx", 1, "y", {"streamer.precision": precision})
    runtime = open_onnxruntime(path, RuntimeOptions(precision))
    assert f"CPU {precision}, " in runtime.description
    other: Precision = "fp16" if precision == "fp32" else "fp32"
    with pytest.raises(RuntimeUnavailable, match=rf"it cannot turn .*m\.onnx into {other}: take precision auto"):
        open_onnxruntime(path, RuntimeOptions(other))


@pytest.mark.parametrize(("dtype", "precision"), [(np.float32, "fp32"), (np.float16, "fp16")])
def test_a_file_that_says_nothing_is_looked_into(tmp_path: Path, dtype: type, precision: Precision) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    weights = onnx.numpy_helper.from_array(np.ones(3, dtype), "w")
    x, y = (helper.make_tensor_value_info(name, kind, [1, 3]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "g", [x], [y], [weights])
    path = networks.save(graph, tmp_path / "m.onnx")
    runtime = open_onnxruntime(path, RuntimeOptions(precision))
    assert runtime.infer({"x": np.full((1, 3), 2, dtype)})["y"].tolist() == [[2, 2, 2]]
    with pytest.raises(RuntimeUnavailable, match="take precision auto, or the openvino runtime"):
        open_onnxruntime(path, RuntimeOptions("int8"))


def test_quantised_nodes_are_int8(tmp_path: Path) -> None:
    constants = [
        onnx.numpy_helper.from_array(np.array(0.5, np.float32), "scale"),
        onnx.numpy_helper.from_array(np.array(0, np.int8), "zero"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "xy")
    path = networks.save(helper.make_graph(nodes, "g", [x], [y], constants), tmp_path / "m.onnx")
    got = open_onnxruntime(path, RuntimeOptions("int8")).infer({"x": np.array([[0.2, 0.3, -1]], np.float32)})["y"]
    assert np.allclose(got, [[0, 0.5, -1]])


@pytest.mark.filterwarnings("ignore:Specified provider")  # the package here has no CUDA to fail with
def test_a_cuda_package_without_cuda_is_one_warning_and_the_cpu(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Promise CUDA and fail to load it, as onnxruntime-gpu does where CUDA's libraries are not."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "preload_dlls", lambda: print("no libraries found"))
    runtime = open_onnxruntime(save(tmp_path / "m.onnx", 1, "y"), BATCH_OF_4)
    assert np.array_equal(runtime.infer({"x": rows(1)})["y"], 2 * rows(1))
    assert " CPU" in runtime.description
    (warning,) = caplog.messages
    assert "libonnxruntime_providers_cuda.so: cannot open shared object file" in warning
    assert "goes on with the CPU" in warning
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_cuda_is_kept_from_rounding_what_fp32_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It computes in TF32 by default."""
    asked: list[list[object]] = []

    class Listening(ort.InferenceSession):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self, *args: object, **options: Any) -> None:
            asked.append(options["providers"])
            super().__init__(*args, **options)

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", Listening)
    open_onnxruntime(save(tmp_path / "m.onnx", 1, "y"), BATCH_OF_4)
    assert asked[0] == [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"]


def test_opening_a_network_prints_nothing(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from engines.runtimes.base import RuntimeOptions\n"
        "from engines.runtimes.onnxruntime import open_onnxruntime\n"
        "open_onnxruntime(Path(sys.argv[1]), RuntimeOptions())\n"
    )
    path = save(tmp_path / "m.onnx", 1, "y")
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("", "")

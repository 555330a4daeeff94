"""TensorRT-RTX builds here, without a GPU: what the full TensorRT shares with it is tested with it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from engines.build.base import Built, Order, Profile, Recipe, silent
from engines.errors import BuildError, EngineError, ModelError, RuntimeUnavailable
from engines.runtimes.base import RuntimeOptions

pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'streamer[tensorrt-rtx]'")
pytest.importorskip("cuda.bindings", reason="needs CUDA's bindings: pip install 'streamer[tensorrt-rtx]'")

from engines.build.base import Material
from engines.build.tensorrt_rtx import TensorRtRtxBuilder, compute_capabilities
from engines.runtimes.cuda import CudaDevice, find_gpu
from engines.runtimes.device import DeviceError
from engines.runtimes.tensorrt_rtx import open_tensorrt_rtx
from engines.runtimes.trt_log import plain

SMS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_120", "sm_121")
Shape = Sequence[int | str]
FLOATS = {"fp32": np.float32, "fp16": np.float16, "bf16": ml_dtypes.bfloat16}
needs_no_gpu = pytest.mark.skipif(find_gpu() is not None, reason="tests what happens without a GPU, and there is one")


def save(
    path: Path,
    nodes: list[NodeProto],
    x: tuple[Any, Shape],
    y: tuple[Any, Shape],
    weights: dict[str, Any] | None = None,
) -> Path:
    """Write a network from x to y, each a type and a shape."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", *x)],
        [helper.make_tensor_value_info("y", *y)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), path)
    return path


def kernel(dtype: Any = np.float32, axes: int = 2) -> Any:
    return np.random.default_rng(0).random((4, 3) + (3,) * axes).astype(dtype)


def served(path: Path, precision: str, batch: int | str = "n") -> Path:
    """Write what a served graph begins and ends with: uint8 frames, a typed body, float32 out."""
    body = helper.np_dtype_to_tensor_dtype(np.dtype(FLOATS[precision]))
    nodes = [
        helper.make_node("Cast", ["x"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["images"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["images"], ["in"], to=body),
        helper.make_node("Conv", ["in", "kernel"], ["map"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["map"], ["out"]),
        helper.make_node("Cast", ["out"], ["y"], to=TensorProto.FLOAT),
    ]
    frames = (TensorProto.UINT8, [batch, 16, 16, 3])
    return save(path, nodes, frames, (TensorProto.FLOAT, [batch, 4, 16, 16]), {"kernel": kernel(FLOATS[precision])})


def quantised(path: Path) -> Path:
    """Write a convolution between symmetric int8 QuantizeLinear and DequantizeLinear."""
    zero, scale = np.int8(0), np.float32(0.02)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"]),
        helper.make_node("DequantizeLinear", ["kernel", "scale", "zero"], ["kd"]),
        helper.make_node("Conv", ["xd", "kd"], ["y"], pads=[1, 1, 1, 1]),
    ]
    weights = {"kernel": (kernel() * 100).astype(np.int8), "scale": scale, "zero": zero}
    return save(path, nodes, (TensorProto.FLOAT, ["n", 3, 16, 16]), (TensorProto.FLOAT, ["n", 4, 16, 16]), weights)


def suppression(path: Path, name: str = "suppress") -> Path:
    """Write boxes and scores (1, N, 5) through NonMaxSuppression, which TensorRT-RTX parses and does not build."""
    nodes = [
        helper.make_node("Split", ["x", "sizes"], ["boxes", "s"], axis=2, name="split"),
        helper.make_node("Transpose", ["s"], ["scores"], perm=[0, 2, 1], name="turn"),
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "most"], ["y"], name=name),
    ]
    weights = {"sizes": np.array([4, 1], np.int64), "most": np.array([10], np.int64)}
    return save(path, nodes, (TensorProto.FLOAT, [1, 20, 5]), (TensorProto.INT64, ["found", 3]), weights)


def material(graph: Path) -> Material:
    """A bench with one graph on it; the manifest is asked for no more than its name."""

    class Named:
        name = "toy"

    return Material(cast("Any", Named), graph, lambda _recipe: "digest", lambda _recipe: graph)


def build(graph: Path, order: Order | None = None, tell: Callable[[str], None] = silent) -> Built:
    return TensorRtRtxBuilder().build(material(graph), order or Order(profile=Profile(1, 2, 4)), tell)


def refused(graph: Path, order: Order | None = None) -> str:
    """Build what cannot be built; return the sentence."""
    with pytest.raises(BuildError) as caught:
        build(graph, order)
    assert "\n" not in str(caught.value)
    assert str(graph) in str(caught.value)
    return str(caught.value)


def fault(path: Path, data: bytes) -> str | None:
    path.write_bytes(data)
    return TensorRtRtxBuilder().fault(path)


# --- what can be built ---


@pytest.mark.parametrize("precision", FLOATS)
def test_a_served_graph_becomes_an_engine(tmp_path: Path, precision: str) -> None:
    told: list[str] = []
    built = build(served(tmp_path / "m.onnx", precision), tell=told.append)
    assert fault(tmp_path / "m.engine", built.data) is None
    assert int(str(built.facts["layers"])) > 2
    assert told[0].startswith("building toy for ")
    percents = [int(sentence.partition(" %")[0]) for sentence in told[1:]]
    assert percents == sorted({*percents})
    assert 0 < percents[0] <= percents[-1] <= 100


def test_an_int8_graph_becomes_an_engine(tmp_path: Path) -> None:
    assert build(quantised(tmp_path / "m.onnx"), Order(Recipe("int8"), Profile(1, 8, 8))).data


@pytest.mark.parametrize("target", SMS)
def test_for_a_gpu_that_is_not_here(tmp_path: Path, target: str) -> None:
    order = Order(profile=Profile(1, 1, 8), targets=(target,))
    assert TensorRtRtxBuilder().identity(order).device == target
    told: list[str] = []
    built = build(served(tmp_path / "m.onnx", "fp16"), order, told.append)
    assert fault(tmp_path / "m.engine", built.data) is None
    assert told[0] == f"building toy for {target}"


def test_for_several_at_once(tmp_path: Path) -> None:
    order = Order(targets=("8.9", "86", "SM_89", "sm86"))
    assert TensorRtRtxBuilder().identity(order).device == "sm_86+sm_89"
    assert build(served(tmp_path / "m.onnx", "fp32"), order).data


@needs_no_gpu
def test_without_gpu_and_targets_it_is_portable() -> None:
    identity = TensorRtRtxBuilder().identity(Order())
    assert identity.device == "portable"
    assert identity.version[0].isdecimal()


def test_a_batch_that_the_graph_has_fixed(tmp_path: Path) -> None:
    assert build(served(tmp_path / "m.onnx", "fp32", batch=4), Order(profile=Profile(4, 4, 4))).data


# --- what cannot ---


@pytest.mark.parametrize("target", ["sm_87", "sm_90", "9.0", "current", "none", "", "turing"])
def test_targets_that_there_are_not(tmp_path: Path, target: str) -> None:
    order = Order(targets=("sm_86", target))
    with pytest.raises(BuildError, match="sm_75, sm_80, sm_86, sm_89, sm_120, sm_121, or no target at all") as caught:
        TensorRtRtxBuilder().identity(order)
    assert repr(target) in str(caught.value)


def test_targets_keep_the_order_of_their_age() -> None:
    assert compute_capabilities(["12.1", "sm_75", "sm_120"]) == ["SM75", "SM120", "SM121"]


def test_an_operator_that_nothing_runs_is_named(tmp_path: Path) -> None:
    sentence = refused(suppression(tmp_path / "m.onnx"), Order())
    assert "has nothing that runs NonMaxSuppression (node 'suppress')" in sentence
    assert "take another runtime" in sentence
    assert "node 'node_of_y'" in refused(suppression(tmp_path / "nameless.onnx", name=""), Order())


def test_an_operator_that_nobody_knows_is_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("Frobnicate", ["x"], ["y"], domain="nowhere", name="f")]
    graph = save(tmp_path / "m.onnx", nodes, (TensorProto.FLOAT, [1, 3]), (TensorProto.FLOAT, [1, 3]))
    model = onnx.load(graph)
    model.opset_import.append(helper.make_opsetid("nowhere", 1))
    onnx.save(model, graph)
    assert "Frobnicate (node 'f')" in refused(graph)


def test_what_one_target_cannot_do_is_said(tmp_path: Path) -> None:
    """Turing has no fp32 3-D convolution here."""
    nodes = [helper.make_node("Conv", ["x", "kernel"], ["y"], pads=[1] * 6)]
    shape, out = (1, 3, 8, 16, 16), (1, 4, 8, 16, 16)
    graph = save(
        tmp_path / "m.onnx", nodes, (TensorProto.FLOAT, shape), (TensorProto.FLOAT, out), {"kernel": kernel(axes=3)}
    )
    assert "another runtime" in refused(graph, Order(targets=("sm_75",)))
    assert build(graph, Order(targets=("sm_86",))).data


@pytest.mark.parametrize("content", [b"", b"no network at all", bytes(300)])
def test_a_file_that_is_no_network(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    refused(tmp_path / "m.onnx")


def test_a_batch_that_the_graph_does_not_take(tmp_path: Path) -> None:
    sentence = refused(served(tmp_path / "m.onnx", "fp32", batch=1), Order(profile=Profile(2, 8, 16)))
    assert "'x' (1, 16, 16, 3) is for batches of 1 only, not of 2..8..16" in sentence


def test_images_of_any_size_are_for_somebody_else(tmp_path: Path) -> None:
    nodes = [helper.make_node("Neg", ["x"], ["y"])]
    shape: Shape = ["n", 3, "h", 16]
    graph = save(tmp_path / "m.onnx", nodes, (TensorProto.FLOAT, shape), (TensorProto.FLOAT, shape))
    assert "'x' (?, 3, ?, 16) is open besides its batch" in refused(graph)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), RuntimeError("the terminal is gone")])
def test_a_build_that_is_interrupted_ends(tmp_path: Path, stop: BaseException) -> None:
    def tell(sentence: str) -> None:
        if "%" in sentence:
            raise stop

    with pytest.raises(type(stop)):
        build(served(tmp_path / "m.onnx", "fp32"), tell=tell)
    assert build(served(tmp_path / "m.onnx", "fp32")).data  # and the next one is a new one


# --- the full TensorRT, for which RTX stands in where it is not installed: their modules have the same names ---


timed = pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning")  # by the stand-in


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The module of its builder, on a machine that has a GPU."""
    stands_in = find_spec("tensorrt") is None  # asked once: with the stand-in in place it is found
    if stands_in:
        monkeypatch.setitem(sys.modules, "tensorrt", import_module("tensorrt_rtx"))
        monkeypatch.delitem(sys.modules, "engines.build.tensorrt", raising=False)
    module = import_module("engines.build.tensorrt")
    if find_gpu() is None:
        monkeypatch.setattr(module, "find_gpu", lambda: "NVIDIA Imaginary sm_86")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield module
    if stands_in:
        del sys.modules["engines.build.tensorrt"]


@timed
def test_the_full_one_builds_and_keeps_what_it_has_measured(tmp_path: Path, full: Any) -> None:
    graph = served(tmp_path / "m.onnx", "fp16")
    order = Order(profile=Profile(1, 2, 4))
    builder = full.TensorRtBuilder()
    assert builder.build(material(graph), order, silent).data
    (kept,) = (tmp_path / "cache").rglob("*.timings")
    assert kept.stat().st_size > 0
    kept.write_bytes(b"no timings at all")
    assert builder.build(material(graph), order, silent).data
    assert kept.read_bytes() != b"no timings at all"


@timed
def test_the_full_one_builds_where_nothing_can_be_kept(tmp_path: Path, full: Any) -> None:
    (tmp_path / "file").write_text("")
    builder = full.TensorRtBuilder(tmp_path / "file" / "x.timings")
    assert builder.build(material(served(tmp_path / "m.onnx", "fp32")), Order(), silent).data


def test_the_full_one_builds_for_no_other_machine(full: Any) -> None:
    with pytest.raises(BuildError, match="not for sm_86: leave the target out, or build for tensorrt_rtx"):
        full.TensorRtBuilder().identity(Order(targets=("sm_86",)))


def test_the_full_one_needs_a_gpu(full: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(full, "find_gpu", lambda: None)
    with pytest.raises(RuntimeUnavailable, match="there is none here: build on that machine"):
        full.TensorRtBuilder().build(material(tmp_path / "m.onnx"), Order(), silent)


def test_the_full_one_knows_what_is_certainly_none_of_its_engines(tmp_path: Path, full: Any) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(b"short")
    assert full.TensorRtBuilder().fault(path) == "is too short for an engine"
    path.write_bytes(build(served(tmp_path / "m.onnx", "fp32")).data)
    assert full.TensorRtBuilder().fault(path) == "is an engine for TensorRT-RTX"


# --- engines as files ---


def test_what_is_no_engine_is_found_out(tmp_path: Path) -> None:
    data = build(served(tmp_path / "m.onnx", "fp32")).data
    path = tmp_path / "m.engine"
    assert fault(path, data) is None
    for damaged in (b"", b"junk" * 99, data[:40], bytes(len(data)), data[1:], (tmp_path / "m.onnx").read_bytes()):
        assert fault(path, damaged) == "is damaged, or no engine for TensorRT-RTX"


@needs_no_gpu
def test_without_a_gpu_it_does_not_open_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "m.engine").write_bytes(build(served(tmp_path / "m.onnx", "fp32")).data)
    with pytest.raises(RuntimeUnavailable, match=r"tensorrt_rtx finds no GPU here .*: install an NVIDIA driver"):
        open_tensorrt_rtx(tmp_path / "m.engine", RuntimeOptions())
    with pytest.raises(DeviceError):
        CudaDevice()


def test_a_file_that_is_not_there_does_not_open(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        open_tensorrt_rtx(tmp_path / "m.engine", RuntimeOptions())


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (
            (
                "[tactics.cpp::getFormats::48] Error Code 2: Internal Error (Assertion !x.empty() failed. nms has no "
                "runners that implement it In getFormats at /_src/optimizer/tactics.cpp:48)"
            ),
            "Assertion !x.empty() failed. nms has no runners that implement it",
        ),
        (
            (
                "IBuilder::buildSerializedNetwork: Error Code 4: API Usage Error (Network has dynamic or shape inputs, "
                "but no optimization profile has been defined. In validate at /_src/optimizer/api/network.cpp:4023)"
            ),
            "Network has dynamic or shape inputs, but no optimization profile has been defined",
        ),
        ("Error Code 2: OutOfMemory (Requested size was 9 bytes.)", "OutOfMemory: Requested size was 9 bytes"),
        ("In a word\nno", "In a word no"),
    ],
)
def test_errors_are_cut_down_to_what_they_say(said: str, says: str) -> None:
    assert plain(said) == says


def test_everything_that_goes_wrong_is_an_engine_error() -> None:
    assert issubclass(BuildError, EngineError)

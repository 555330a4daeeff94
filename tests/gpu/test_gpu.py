"""Every runtime on this machine's GPU: right against torch, and how fast, with networks made here.

    pytest tests/gpu

needs no network and no data, only a CUDA device, torch, and the runtimes that are to be checked; those that are not
installed are skipped. The table of speeds comes at the end.

Written without a GPU: what a runtime does on one has never been seen. Checked instead: the network means the same to
ONNX Runtime and to torch (the first test runs anywhere), and TensorRT-RTX builds it.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.build import open_builder
from engines.build.base import GraphPrecision, Material, Order, Profile, Recipe, silent
from engines.errors import ModelError
from engines.runtimes import BACKENDS, open_runtime
from engines.runtimes.base import Overlapping, Runtime, RuntimeOptions
from engines.types import Array

torch = pytest.importorskip("torch", reason="needs torch, which all others are compared with: pip install torch")

RUNTIMES = ("tensorrt", "tensorrt_rtx", "onnxruntime", "pytorch")
PRECISIONS: tuple[GraphPrecision, ...] = ("fp32", "fp16")
TOLERANCE = {"fp32": 1e-3, "fp16": 2e-2}  # of the largest value
MOST = 8  # rows


@cache
def no_gpu() -> str | None:
    """Say why there is none; None where there is one."""
    if find_spec("cuda") is not None:
        device, errors = import_module("engines.runtimes.cuda").CudaDevice, import_module("engines.runtimes.device")
        try:
            device()
        except errors.DeviceError as error:
            return f"no CUDA device ({error}): run `pytest tests/gpu` on a machine with one"
        return None
    return None if torch.cuda.is_available() else "no CUDA device: run `pytest tests/gpu` on a machine with one"


@pytest.fixture
def gpu() -> None:
    if reason := no_gpu():
        pytest.skip(reason)


@pytest.fixture(params=RUNTIMES)
def runtime_name(request: pytest.FixtureRequest, gpu: None) -> str:
    """Each runtime that is installed here and knows the GPU."""
    name: str = request.param
    if find_spec(BACKENDS[name].package) is None:
        pytest.skip(f"{name} is not installed: {BACKENDS[name].install}")
    if name == "onnxruntime" and "CUDAExecutionProvider" not in import_module("onnxruntime").get_available_providers():
        pytest.skip("this onnxruntime has no CUDA: pip install onnxruntime-gpu")
    if name == "pytorch" and not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA: install one that has")
    return name


# --- the network ---


@dataclass(frozen=True)
class Network:
    """Frames u8 (N, S, S, 3) -> `map` f32 (N, width, S / 4, S / 4), and `sums` i32 (N,) of each frame's bytes."""

    size: int
    width: int = 32
    depth: int = 2  # convolutions besides the two that make the frame smaller

    def kernels(self) -> list[Array]:
        dice = np.random.default_rng(0)
        channels = [3, *[self.width] * (2 + self.depth)]
        pairs = pairwise(channels)
        return [(dice.normal(size=(b, a, 3, 3)) * (1.5 / (9 * a) ** 0.5)).astype(np.float32) for a, b in pairs]

    def strides(self) -> list[int]:
        return [2, 2, *[1] * self.depth]

    def frames(self, rows: int, seed: int = 0) -> Array:
        return np.random.default_rng(seed).integers(0, 256, (rows, self.size, self.size, 3), np.uint8)


def save_onnx(network: Network, precision: str, path: Path) -> Path:
    body = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.FLOAT
    dtype = np.dtype(np.float16 if precision == "fp16" else np.float32)
    nodes = [
        helper.make_node("Cast", ["frames"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "scale"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["x0"], to=body),
    ]
    for i, stride in enumerate(network.strides()):
        nodes += [
            helper.make_node("Conv", [f"x{i}", f"k{i}"], [f"c{i}"], pads=[1] * 4, strides=[stride] * 2),
            helper.make_node("Sigmoid", [f"c{i}"], [f"s{i}"]),
            helper.make_node("Mul", [f"c{i}", f"s{i}"], [f"x{i + 1}"]),
        ]
    nodes += [
        helper.make_node("Cast", [f"x{len(network.strides())}"], ["map"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["frames"], ["numbers"], to=TensorProto.INT32),
        helper.make_node("ReduceSum", ["numbers", "axes"], ["sums"], keepdims=0),
    ]
    weights: dict[str, Any] = {f"k{i}": kernel.astype(dtype) for i, kernel in enumerate(network.kernels())}
    weights |= {"scale": np.float32(1 / 255), "axes": np.array([1, 2, 3], np.int64)}
    small = network.size // 4
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["n", network.size, network.size, 3])],
        [
            helper.make_tensor_value_info("map", TensorProto.FLOAT, ["n", network.width, small, small]),
            helper.make_tensor_value_info("sums", TensorProto.INT32, ["n"]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def torch_module(network: Network, precision: str) -> Any:
    """Make the same network in torch."""
    dtype = torch.float16 if precision == "fp16" else torch.float32

    class Module(torch.nn.Module):  # type: ignore[misc, name-defined]  # torch may be absent, so it is Any
        def __init__(self) -> None:
            super().__init__()
            for i, kernel in enumerate(network.kernels()):
                self.register_buffer(f"k{i}", torch.from_numpy(kernel).to(dtype))

        def forward(self, frames: Any) -> dict[str, Any]:
            x = (frames.permute(0, 3, 1, 2).float() * (1 / 255)).to(dtype)
            for i, stride in enumerate(network.strides()):
                x = torch.nn.functional.silu(
                    torch.nn.functional.conv2d(x, getattr(self, f"k{i}"), stride=stride, padding=1)
                )
            return {"map": x.float(), "sums": frames.to(torch.int32).sum((1, 2, 3), dtype=torch.int32)}

    return Module().eval()


def reference(network: Network, frames: Array) -> dict[str, Array]:
    """What is right: torch in fp32 on the CPU."""
    with torch.no_grad():
        outputs = torch_module(network, "fp32")(torch.from_numpy(frames))
    return {name: output.numpy() for name, output in outputs.items()}


def save_pt2(network: Network, precision: str, path: Path) -> Path:
    frames = torch.from_numpy(network.frames(2))
    shapes = ({0: torch.export.Dim("N")},)
    program = torch.export.export(torch_module(network, precision), (frames,), dynamic_shapes=shapes)
    program.example_inputs = None
    facts = {"model": "toy", "precision": precision, "layout": "raw"}
    torch.export.save(program, path, extra_files={import_module("engines.runtimes.pt2").FACTS: json.dumps(facts)})
    return path


def engine_of(network: Network, name: str, precision: GraphPrecision, folder: Path) -> Path:
    """Make the file that a runtime opens."""
    if name == "pytorch":
        return save_pt2(network, precision, folder / "m.pt2")
    graph = save_onnx(network, precision, folder / "m.onnx")
    if name == "onnxruntime":
        return graph
    bench = Material(cast("Any", Toy), graph, lambda _recipe: "digest", lambda _recipe: graph)
    built = open_builder(name).build(bench, Order(Recipe(precision, "raw"), Profile(1, MOST, MOST)), silent)
    (folder / "m.engine").write_bytes(built.data)
    return folder / "m.engine"


class Toy:
    """All that builders ask of this manifest."""

    name = "toy"


# --- is it right ---


def assert_right(outputs: Mapping[str, Array], expected: Mapping[str, Array], precision: str) -> None:
    assert outputs["map"].shape == expected["map"].shape
    worst = np.abs(outputs["map"] - expected["map"]).max() / np.abs(expected["map"]).max()
    assert worst < TOLERANCE[precision]
    assert np.array_equal(outputs["sums"], expected["sums"])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_onnx_and_torch_mean_the_same_network(precision: GraphPrecision, tmp_path: Path) -> None:
    """Runs without a GPU: the yardstick itself."""
    ort = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install 'streamer[onnxruntime]'")
    network = Network(32)
    frames = network.frames(3)
    session = ort.InferenceSession(str(save_onnx(network, precision, tmp_path / "m.onnx")))
    outputs = dict(zip(("map", "sums"), session.run(["map", "sums"], {"frames": frames}), strict=True))
    expected = reference(network, frames)
    assert_right(outputs, expected, precision)
    assert expected["map"].std() > 0.01  # so that a tolerance means something


@pytest.fixture(params=PRECISIONS)
def opened(
    request: pytest.FixtureRequest, runtime_name: str, tmp_path: Path
) -> Iterator[tuple[Network, Runtime, GraphPrecision]]:
    network = Network(64)
    path = engine_of(network, runtime_name, request.param, tmp_path)
    runtime = open_runtime(runtime_name, path, RuntimeOptions(max_batch=MOST))
    yield network, runtime, request.param
    runtime.close()


Opened = tuple[Network, Runtime, GraphPrecision]


def test_every_batch_is_right_and_stays_so(opened: Opened) -> None:
    """Each size comes four times: step by step, captured, launched, and after others."""
    network, runtime, precision = opened
    for seed, rows in enumerate([1, 1, 1, 8, 8, 8, 3, 3, 3, 1, 8, 3]):
        frames = network.frames(rows, seed)
        assert_right(runtime.infer({"frames": frames}), reference(network, frames), precision)


def test_batches_larger_than_the_engine_takes_are_right(runtime_name: str, tmp_path: Path) -> None:
    network = Network(64)
    path = engine_of(network, runtime_name, "fp32", tmp_path)
    runtime = open_runtime(runtime_name, path, RuntimeOptions(max_batch=2 * MOST))
    for seed, rows in enumerate([MOST + 3, MOST + 3, MOST + 3, 2 * MOST, 1]):
        frames = network.frames(rows, seed)
        assert_right(runtime.infer({"frames": frames}), reference(network, frames), "fp32")
    runtime.close()


def test_batches_under_way_do_not_meet(opened: Opened) -> None:
    network, runtime, precision = opened
    if not isinstance(runtime, Overlapping):
        pytest.skip("this runtime does not overlap")
    begun: deque[tuple[Callable[[], Mapping[str, Array]], Mapping[str, Array]]] = deque()
    for seed in range(24):
        frames = network.frames(1 + seed % MOST, seed)
        begun.append((runtime.start({"frames": frames}), reference(network, frames)))
        if len(begun) == runtime.lanes:
            finish, expected = begun.popleft()
            assert_right(finish(), expected, precision)
    for finish, expected in begun:
        assert_right(finish(), expected, precision)


def test_outputs_outlive_the_network(opened: Opened) -> None:
    network, runtime, precision = opened
    frames = network.frames(2)
    outputs = runtime.infer({"frames": frames})
    runtime.close()
    assert_right(outputs, reference(network, frames), precision)
    with pytest.raises(ModelError, match="closed"):
        runtime.infer({"frames": frames})


@pytest.mark.parametrize("runtime_name", ["tensorrt", "tensorrt_rtx"], indirect=True)
def test_a_damaged_engine_does_not_open(runtime_name: str, tmp_path: Path) -> None:
    path = engine_of(Network(32), runtime_name, "fp32", tmp_path)
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ModelError, match="build it again"):
        open_runtime(runtime_name, path, RuntimeOptions())


# --- how fast ---


@dataclass(frozen=True)
class Speed:
    """Milliseconds a batch: one at a time, overlapped, and the engine alone on memory that is never copied."""

    runtime: str
    precision: str
    batch: int
    alone: float
    overlapped: float
    raw: float | None

    def __str__(self) -> str:
        raw = "       -      -" if self.raw is None else f"{self.raw:8.3f} {self.overlapped / self.raw:6.2f}"
        frames = 1000 * self.batch / self.overlapped
        return (
            f"{self.runtime:60s} {self.precision:5s} {self.batch:5d} {self.alone:8.3f} {self.overlapped:8.3f} {raw} "
            f"{frames:9.0f}"
        )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_how_fast_it_is(
    runtime_name: str, precision: GraphPrecision, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Print the table; what is fast enough is for people to say."""
    network = Network(640, width=64, depth=6)
    path = engine_of(network, runtime_name, precision, tmp_path)
    lines = [f"{'':60s} types batch    alone overlap.      raw  ratio  frames/s"]
    for batch in (1, MOST):
        runtime = open_runtime(runtime_name, path, RuntimeOptions(max_batch=batch))
        feeds = {"frames": network.frames(batch)}
        alone = milliseconds(lambda n, r=runtime, f=feeds: [r.infer(f) for _ in range(n)])  # type: ignore[misc]
        overlapped = milliseconds(lambda n, r=runtime, f=feeds: overlap(r, f, n))  # type: ignore[misc]
        raw = milliseconds(bare(runtime_name, path, batch)) if runtime_name.startswith("tensorrt") else None
        lines.append(str(Speed(runtime.description, precision, batch, alone, overlapped, raw)))
        runtime.close()
    with capsys.disabled():
        print("", *lines, sep="\n")


def milliseconds(work: Callable[[int], object], least: float = 0.5) -> float:
    """Time *work*, which is told how often, until it takes *least* seconds."""
    work(5)
    times = 10
    while True:
        start = time.perf_counter()
        work(times)
        seconds = time.perf_counter() - start
        if seconds > least:
            return 1000 * seconds / times
        times *= 2


def overlap(runtime: Runtime, feeds: Mapping[str, Array], times: int) -> None:
    if not isinstance(runtime, Overlapping):
        for _ in range(times):
            runtime.infer(feeds)
        return
    begun: deque[Callable[[], Mapping[str, Array]]] = deque()
    for _ in range(times):
        begun.append(runtime.start(feeds))
        if len(begun) == runtime.lanes:
            begun.popleft()()
    for finish in begun:
        finish()


def bare(name: str, path: Path, batch: int) -> Callable[[int], object]:
    """Enqueue the engine back to back, on memory that stays where it is."""
    trt = import_module(name)
    device = import_module("engines.runtimes.cuda").CudaDevice()
    engine = import_module("engines.runtimes.trt_engine").read_engine(trt, path, device)
    context, stream = engine.create_execution_context(), device.stream()
    tensors = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    shapes = {tensor: (batch, *tuple(engine.get_tensor_shape(tensor))[1:]) for tensor in tensors}
    assert context.set_input_shape("frames", shapes["frames"])
    buffers = {tensor: device.allocate(4 * prod(shape)) for tensor, shape in shapes.items()}
    for tensor, buffer in buffers.items():
        assert context.set_tensor_address(tensor, buffer.address)

    def work(times: int) -> None:
        for _ in range(times):
            assert context.execute_async_v3(stream.handle)
        stream.wait()
        assert buffers  # alive until here

    return work

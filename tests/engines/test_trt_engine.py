"""How an engine is read, with a stand-in for the one object that cannot be had without a GPU."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.errors import ModelError
from engines.types import TensorSpec

pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'streamer[tensorrt-rtx]'")
pytest.importorskip("cuda.bindings", reason="needs CUDA's bindings: pip install 'streamer[tensorrt-rtx]'")

import tensorrt_rtx as trt

from engines.runtimes.base import RuntimeOptions
from engines.runtimes.fake_device import FakeContext, FakeDevice
from engines.runtimes.tensorrt_rtx import Kernels
from engines.runtimes.trt_core import Network
from engines.runtimes.trt_engine import describe, made
from engines.runtimes.trt_log import logger

Shape = tuple[int, ...]
PATH = Path("m.engine")


@dataclass
class Engine:
    """What `ICudaEngine` and `IExecutionContext` answer; an output whose batch is open has that of the inputs."""

    inputs: dict[str, Shape]
    outputs: dict[str, Shape]
    profile: tuple[int, int, int] = (1, 4, 8)
    dtypes: dict[str, Any] = field(default_factory=dict)
    given: dict[str, Shape] = field(default_factory=dict)

    @property
    def num_io_tensors(self) -> int:
        return len(self.inputs) + len(self.outputs)

    def get_tensor_name(self, index: int) -> str:
        return [*self.outputs, *self.inputs][index]

    def get_tensor_mode(self, name: str) -> Any:
        return trt.TensorIOMode.INPUT if name in self.inputs else trt.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return self.dtypes.get(name, trt.DataType.FLOAT)

    def get_tensor_shape(self, name: str) -> Any:
        if not self.given:
            return trt.Dims({**self.inputs, **self.outputs}[name])
        rows = next(iter(self.given.values()))[0]
        batch, *row = self.outputs[name] or (None,)
        return trt.Dims(self.outputs[name] if batch != -1 else (rows, *row))

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Any]:
        assert profile_index == 0
        return [trt.Dims((rows, *self.inputs[name][1:])) for rows in self.profile]

    def set_input_shape(self, name: str, shape: Shape) -> bool:
        self.given[name] = shape
        return True


def described(engine: Engine) -> Network:
    return describe(trt, PATH, engine, lambda: engine)


def test_inputs_outputs_and_batch() -> None:
    network = described(
        Engine(
            {"frames": (-1, 64, 64, 3)},
            {"boxes": (-1, 300, 4), "classes": (-1, 300)},
            dtypes={"frames": trt.DataType.UINT8, "classes": trt.DataType.INT32},
        )
    )
    assert network.inputs == (TensorSpec("frames", np.dtype(np.uint8), (None, 64, 64, 3)),)
    assert network.outputs == (
        TensorSpec("boxes", np.dtype(np.float32), (None, 300, 4)),
        TensorSpec("classes", np.dtype(np.int32), (None, 300)),
    )
    assert (network.least, network.most) == (1, 8)
    assert network.name == "m.engine"


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [({"a": (3, 5)}, (3, 3)), ({"a": (-1, 5), "b": (-1, 2)}, (2, 6))],
    ids=["fixed", "two inputs"],
)
def test_rows_are_those_of_the_graph_or_of_the_profile(inputs: dict[str, Shape], expected: tuple[int, int]) -> None:
    network = described(Engine(inputs, {"y": (next(iter(inputs.values()))[0], 5)}, profile=(2, 4, 6)))
    assert (network.least, network.most) == expected
    assert network.inputs[0].shape == (None, 5)


@pytest.mark.parametrize(
    ("engine", "complaint"),
    [
        (Engine({"x": (-1, 3, -1, 8)}, {"y": (-1, 1)}), r"m\.engine: input 'x' \(\?, 3, \?, 8\) is of any size"),
        (Engine({"x": (-1, 3)}, {"y": (-1, -1, 4)}), "'y' .* sizes make no batch"),
        (Engine({"x": (-1, 3)}, {"y": (1, 4)}), r"output 'y' is \(1, 4\) for 8 rows"),
        (Engine({"x": (-1, 3)}, {"y": ()}), "output 'y' .* the batch"),
        (Engine({"x": (-1, 3)}, {"y": (-1, 4)}, dtypes={"y": trt.DataType.BF16}), "'y' is BF16, .* cast it to FLOAT"),
    ],
    ids=["any size", "ragged", "no batch", "no axes", "bf16"],
)
def test_engines_that_no_batch_goes_through(engine: Engine, complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        described(engine)


def test_a_context_that_is_not_made_says_why() -> None:
    def refuse() -> None:
        logger(trt).log(trt.ILogger.ERROR, "IEngine::create: Error Code 2: OutOfMemory (Requested size was 9 bytes.)")

    assert made(trt, PATH, FakeDevice(), lambda: 5) == 5
    with pytest.raises(ModelError, match=r"m\.engine: fake sm_00 has no room left"):
        made(trt, PATH, FakeDevice(), refuse)
    with pytest.raises(ModelError, match="it makes no execution context"):
        made(trt, PATH, FakeDevice(), lambda: None)


# --- from a file to answers ---


class DoublingContext(FakeContext):
    """A context of an engine that doubles x (N, 3) into y."""

    def get_tensor_shape(self, name: str) -> Any:
        return trt.Dims(self.shapes["x"])

    def set_device_memory(self, memory: int, size: int) -> None:
        assert size == 1000
        self.scratch = memory


@dataclass
class DoublingEngine(Engine):
    """An engine that doubles x (N, 3) into y, on a device of its own."""

    device: FakeDevice = field(default_factory=FakeDevice)
    device_memory_size_v2: int = 1000
    asked: list[Any] = field(default_factory=list)

    def create_runtime_config(self) -> Any:
        return Cache()

    def create_execution_context(self, how: Any) -> Any:
        self.asked.append(how)
        x, y = (TensorSpec(name, np.dtype(np.float32), (None, 3)) for name in "xy")
        return DoublingContext(self.device, (x,), (y,), lambda feeds: {"y": feeds["x"] * 2})


@pytest.fixture(params=["tensorrt", "tensorrt_rtx"])
def opener(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module that opens engines; the full TensorRT is stood in for by RTX where it is not installed."""
    name = f"engines.runtimes.{request.param}"
    if find_spec(request.param) is not None:
        yield import_module(name)
        return
    monkeypatch.setitem(sys.modules, request.param, trt)
    yield import_module(name)
    del sys.modules[name]


def test_an_engine_opens_and_answers(opener: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All but the engine and the device is real."""
    engine = DoublingEngine({"x": (-1, 3)}, {"y": (-1, 3)}, profile=(1, 2, 4))
    monkeypatch.setattr(opener, "open_gpu", lambda _name, _options: engine.device)
    monkeypatch.setattr(opener, "read_engine", lambda _trt, _path, _device: engine)
    (tmp_path / "m.engine").write_bytes(b"an engine")
    open_ = opener.open_tensorrt_rtx if hasattr(opener, "open_tensorrt_rtx") else opener.open_tensorrt
    runtime = open_(tmp_path / "m.engine", RuntimeOptions(max_batch=8))
    assert runtime.max_batch == 8
    assert "fake sm_00" in runtime.description
    for rows in (1, 4, 1, 1, 3, 7, 8):
        x = np.random.default_rng(rows).random((rows, 3), np.float32)
        assert np.array_equal(runtime.infer({"x": x})["y"], 2 * x)
        assert np.array_equal(runtime.start({"x": x})()["y"], 2 * x)
    runtime.close()
    assert engine.device.memory().free == engine.device.room


def test_each_library_is_asked_in_its_own_way(opener: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    engine = DoublingEngine({"x": (-1, 3)}, {"y": (-1, 3)})
    monkeypatch.setattr(opener, "open_gpu", lambda _name, _options: engine.device)
    monkeypatch.setattr(opener, "read_engine", lambda _trt, _path, _device: engine)
    (tmp_path / "m.engine").write_bytes(b"an engine")
    if hasattr(opener, "open_tensorrt_rtx"):
        runtime = opener.open_tensorrt_rtx(tmp_path / "m.engine", RuntimeOptions())
        assert all(how.cuda_graph_strategy == trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE for how in engine.asked)
        assert "launch" not in engine.device.journal
        runtime.close()
        assert (tmp_path / "m.kernels").read_bytes() == b"kernels"
        return
    opener.open_tensorrt(tmp_path / "m.engine", RuntimeOptions())
    assert set(engine.asked) == {trt.ExecutionContextAllocationStrategy.USER_MANAGED}
    assert "launch" in engine.device.journal


# --- kernels that were compiled before ---


class Cache:
    """What `IRuntimeConfig` and `IRuntimeCache` are asked for."""

    cuda_graph_strategy: Any = None

    def __init__(self) -> None:
        self.known = b""
        self.set = False

    def create_runtime_cache(self) -> Cache:
        return self

    def set_runtime_cache(self, cache: Cache) -> bool:
        self.set = cache is self
        return True

    def deserialize(self, blob: bytes) -> bool:
        if blob.startswith(b"kernels"):
            self.known = blob
        return bool(self.known)

    def serialize(self) -> bytes:
        return self.known + b"kernels"


def test_kernels_are_kept_for_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "m.kernels"
    for start in range(3):
        cache = Cache()
        kernels = Kernels(cache, path)
        assert cache.set
        assert cache.known == b"kernels" * start
        kernels.save()
    assert [p.name for p in tmp_path.iterdir()] == ["m.kernels"]


def test_kernels_of_another_gpu_are_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "m.kernels"
    path.write_bytes(b"of another GPU")
    with caplog.at_level("INFO"):
        Kernels(Cache(), path).save()
    assert "compiled anew" in caplog.text
    assert path.read_bytes() == b"kernels"


def test_kernels_that_cannot_be_kept_only_cost_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level("INFO"):
        Kernels(Cache(), tmp_path / "file" / "m.kernels").save()
    assert "the next start compiles its kernels again" in caplog.text

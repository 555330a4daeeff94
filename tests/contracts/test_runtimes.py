"""Every runtime that can be opened here passes the same tests, on networks that the tests make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from engines.errors import ModelError, RuntimeUnavailable
from engines.runtimes import BACKENDS, available, open_runtime, usable
from engines.runtimes.base import Runtime, RuntimeOptions
from engines.runtimes.cores import cores
from engines.runtimes.fake import FakeRuntime
from engines.runtimes.fake_device import FakeContext, FakeDevice
from engines.runtimes.trt_core import Network as EngineNetwork
from engines.runtimes.trt_core import TrtRuntime
from engines.types import Array, TensorSpec

Open = Callable[[Path, RuntimeOptions], Runtime]
Shape = list[int | str]
F32 = np.dtype(np.float32)
EXACT = RuntimeOptions("fp32", max_batch=4)
ONNX_READERS = ("openvino", "onnxruntime")  # the others open what `engines.build` made for them


@dataclass(frozen=True)
class Network:
    """A network to be made: its nodes, and the shape of what goes in and comes out."""

    inputs: dict[str, Shape]
    outputs: dict[str, Shape]
    nodes: list[NodeProto] = field(default_factory=list)

    def save(self, path: Path) -> Path:
        constants = [helper.make_tensor("two", TensorProto.INT64, [1], [2])]
        graph = helper.make_graph(self.nodes, "g", infos(self.inputs), infos(self.outputs), constants)
        return networks.save(graph, path)


def infos(shapes: dict[str, Shape]) -> list[ValueInfoProto]:
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]


def two_outputs(batch: int | str) -> Network:
    """Read x (N, 2, 3); give its double, and its sums (N, 2)."""
    return Network(
        {"x": [batch, 2, 3]},
        {"double": [batch, 2, 3], "sums": [batch, 2]},
        [
            helper.make_node("Add", ["x", "x"], ["double"]),
            helper.make_node("ReduceSum", ["x", "two"], ["sums"], keepdims=0),
        ],
    )


FAKE_INPUTS = (TensorSpec("x", F32, (None, 2, 3)),)
FAKE_OUTPUTS = (TensorSpec("double", F32, (None, 2, 3)), TensorSpec("sums", F32, (None, 2)))


def double_and_sums(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
    return {"double": feeds["x"] * 2, "sums": feeds["x"].sum(axis=2)}


def fake(_path: Path, options: RuntimeOptions) -> Runtime:
    return FakeRuntime(double_and_sums, FAKE_INPUTS, FAKE_OUTPUTS, options.max_batch)


def fake_gpu(path: Path, options: RuntimeOptions) -> Runtime:
    """Run what both TensorRTs are run with, on a GPU in host memory."""
    device = FakeDevice()
    network = EngineNetwork(
        name=str(path),
        inputs=FAKE_INPUTS,
        outputs=FAKE_OUTPUTS,
        least=1,
        most=3,
        scratch=64,
        captures_itself=False,
        new_context=lambda scratch: FakeContext(device, FAKE_INPUTS, FAKE_OUTPUTS, double_and_sums, scratch),
        complaint=lambda: "no reason",
    )
    return TrtRuntime(network, device, options.max_batch, "fake")


def pytorch(path: Path, options: RuntimeOptions) -> Runtime:
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'streamer[build]'")
    from engines.build.pytorch import export_program

    class DoubleAndSums(torch.nn.Module):  # type: ignore[misc, name-defined]  # imported only where it is installed
        def forward(self, x: Any) -> dict[str, Any]:
            return {"double": x * 2, "sums": x.sum(2)}

    engine = path.with_suffix(".engine")
    engine.write_bytes(export_program(DoubleAndSums(), torch.zeros(2, 2, 3), {"precision": "fp32"}))
    return open_runtime("pytorch", engine, options)


# Those that do not read ONNX: each opens a network of its own that gives what `two_outputs` gives.
OWN_NETWORKS: dict[str, Open] = {"fake": fake, "tensorrt core on a fake gpu": fake_gpu, "pytorch": pytorch}


def opener(name: str) -> Open:
    if name in OWN_NETWORKS:
        return OWN_NETWORKS[name]
    if find_spec(BACKENDS[name].package) is None:
        pytest.skip(f"{name} is not installed: {BACKENDS[name].install}")
    return lambda path, options: open_runtime(name, path, options)


@pytest.fixture(params=[*OWN_NETWORKS, *ONNX_READERS])
def any_runtime(request: pytest.FixtureRequest) -> Open:
    return opener(request.param)


@pytest.fixture(params=ONNX_READERS)
def backend(request: pytest.FixtureRequest) -> Open:
    return opener(request.param)


@pytest.fixture(params=[1, "n"], ids=["one row", "any rows"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return two_outputs(request.param).save(tmp_path / "m.onnx")


def noise(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).random(shape, np.float32)


# --- every runtime, the fake one too ---


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_every_row_gets_its_own_answer(any_runtime: Open, path: Path, rows: int) -> None:
    x = noise(rows, 2, 3)
    got = any_runtime(path, EXACT).infer({"x": x})
    assert np.allclose(got["double"], 2 * x)
    assert np.allclose(got["sums"], x.sum(axis=2))


def test_it_says_what_it_takes_and_gives(any_runtime: Open, path: Path) -> None:
    runtime = any_runtime(path, EXACT)
    assert runtime.inputs == (TensorSpec("x", F32, (None, 2, 3)),)
    assert runtime.outputs == (TensorSpec("double", F32, (None, 2, 3)), TensorSpec("sums", F32, (None, 2)))
    assert runtime.max_batch == 4
    assert runtime.description


def test_outputs_hold_until_the_next_call_and_calls_do_not_mix(any_runtime: Open, path: Path) -> None:
    runtime = any_runtime(path, EXACT)
    for rows, value in ((3, 1.0), (1, 5.0), (4, 3.0)):
        x = np.full((rows, 2, 3), value, np.float32)
        got = runtime.infer({"x": x})
        x[:] = -1  # the caller's memory is the caller's again
        assert (got["double"] == 2 * value).all()
        assert got["sums"].shape == (rows, 2)


@pytest.mark.parametrize(
    "feeds",
    [
        {},
        {"y": np.zeros((1, 2, 3), np.float32)},
        {"x": np.zeros((1, 2, 3), np.float32), "y": np.zeros((1, 2, 3), np.float32)},
        {"x": np.zeros((1, 2, 4), np.float32)},
        {"x": np.zeros((2, 3), np.float32)},
        {"x": np.zeros((1, 2, 3), np.float64)},
        {"x": np.zeros((0, 2, 3), np.float32)},
        {"x": np.zeros((5, 2, 3), np.float32)},
    ],
    ids=["none", "other", "extra", "shape", "rank", "dtype", "no rows", "too many rows"],
)
def test_a_wrong_feed_is_refused_and_does_no_harm(any_runtime: Open, path: Path, feeds: dict[str, Array]) -> None:
    runtime = any_runtime(path, EXACT)
    with pytest.raises(ModelError, match="'x'") as caught:
        runtime.infer(feeds)
    assert "\n" not in str(caught.value)
    assert (runtime.infer({"x": np.ones((1, 2, 3), np.float32)})["double"] == 2).all()


def test_closed_twice_it_stays_closed(any_runtime: Open, path: Path) -> None:
    runtime = any_runtime(path, EXACT)
    held = runtime.infer({"x": np.ones((1, 2, 3), np.float32)})["double"]
    runtime.close()
    runtime.close()
    with pytest.raises(ModelError, match="closed"):
        runtime.infer({"x": np.ones((1, 2, 3), np.float32)})
    assert (held == 2).all()  # what was given out outlives the network


# --- real backends ---


def test_feeds_may_be_any_view_and_are_not_written(backend: Open, path: Path) -> None:
    runtime = backend(path, EXACT)
    whole = noise(8, 3, 2)
    view = whole[::2].transpose(0, 2, 1)  # neither in one piece …
    view.flags.writeable = False  # … nor writable
    assert np.allclose(runtime.infer({"x": view})["double"], 2 * view)
    assert np.array_equal(whole, noise(8, 3, 2))


@pytest.mark.parametrize("goal", ["latency", "throughput"])
@pytest.mark.parametrize("threads", [None, 1, 3])
def test_goal_and_threads_change_no_answer(backend: Open, path: Path, goal: str, threads: int | None) -> None:
    options = RuntimeOptions("fp32", "latency" if goal == "latency" else "throughput", max_batch=4, threads=threads)
    x = noise(4, 2, 3)
    assert np.allclose(backend(path, options).infer({"x": x})["double"], 2 * x)


def test_two_inputs_are_fed_row_by_row_together(backend: Open, tmp_path: Path) -> None:
    network = Network({"a": [1, 2], "b": [1, 2]}, {"y": [1, 2]}, [helper.make_node("Sub", ["a", "b"], ["y"])])
    runtime = backend(network.save(tmp_path / "m.onnx"), EXACT)
    a, b = noise(3, 2), noise(3, 2) * 5
    assert np.allclose(runtime.infer({"b": b, "a": a})["y"], a - b)
    with pytest.raises(ModelError, match="'b' takes 1 to 4 rows"):
        runtime.infer({"a": a, "b": b[:2]})


def test_a_network_of_any_size_takes_it_from_the_feed(backend: Open, tmp_path: Path) -> None:
    shape: Shape = ["n", 3, "h", "w"]
    network = Network({"x": shape}, {"y": shape}, [helper.make_node("Neg", ["x"], ["y"])])
    runtime = backend(network.save(tmp_path / "m.onnx"), EXACT)
    assert runtime.inputs[0].shape == (None, 3, None, None)
    for x in (noise(2, 3, 8, 6), noise(1, 3, 8, 6), noise(3, 3, 4, 4)):
        assert np.array_equal(runtime.infer({"x": x})["y"], -x)
    assert runtime.description


@pytest.mark.parametrize(
    ("network", "complaint"),
    [
        (two_outputs(3), r"m\.onnx: the first axis of 'x' \(3, 2, 3\) is not a batch"),
        (Network({"x": [1, 4]}, {"y": []}, [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)]), "'y'"),
        (Network({"x": [1, 4]}, {"y": [4, 1]}, [helper.make_node("Transpose", ["x"], ["y"])]), "'y'.*batch"),
    ],
    ids=["a batch of three", "an output without axes", "an output without a batch"],
)
def test_networks_without_rows_are_refused(backend: Open, tmp_path: Path, network: Network, complaint: str) -> None:
    path = network.save(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=complaint):
        backend(path, EXACT).infer({"x": np.zeros((1, 4), np.float32)})


def test_rows_of_several_sizes_are_refused(backend: Open, tmp_path: Path) -> None:
    network = Network(
        {"x": [1, 4]},
        {"y": [1, "found"]},
        [
            helper.make_node("NonZero", ["x"], ["at"]),
            helper.make_node("Cast", ["at"], ["places"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMax", ["places"], ["y"], axes=[0]),
        ],
    )
    path = network.save(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"'y' .* sizes make no batch"):
        backend(path, EXACT).infer({"x": np.array([[0, 1, 1, 0], [0, 1, 0, 0]], np.float32)})


@pytest.mark.parametrize("content", [b"", b"no network at all", bytes(300), None])
def test_a_file_that_is_no_network(
    backend: Open, tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    path = tmp_path / "bad.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.onnx") as caught:
        backend(path, EXACT)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # the message says it all


def test_half_a_network_and_a_folder(backend: Open, tmp_path: Path) -> None:
    whole = networks.bright_spots(tmp_path / "m.onnx").read_bytes()
    (tmp_path / "half.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"half\.onnx.*export it again"):
        backend(tmp_path / "half.onnx", EXACT)
    with pytest.raises(ModelError, match="is not a file"):
        backend(tmp_path, EXACT)


def test_an_operation_that_nobody_knows_is_named(backend: Open, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    node = helper.make_node("Frobnicate", ["x"], ["y"], domain="nowhere")
    graph = helper.make_graph([node], "g", infos({"x": [1, 3]}), infos({"y": [1, 3]}))
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("nowhere", 1)]
    path.write_bytes(helper.make_model(graph, opset_imports=versions, ir_version=9).SerializeToString())
    with pytest.raises(ModelError, match=r"m\.onnx.*Frobnicate"):
        backend(path, EXACT)


def test_backends_agree(tmp_path: Path) -> None:
    path = networks.bright_spots(tmp_path / "m.onnx", batch="n")
    x = noise(3, 3, 64, 64) * 255
    first, *others = (opener(name)(path, EXACT).infer({"images": x})["output"] for name in ONNX_READERS)
    for other in others:
        assert np.allclose(first, other, rtol=1e-5, atol=1e-5)


# --- what only one of them does ---


def test_openvino_reads_its_own_files(tmp_path: Path) -> None:
    ov = pytest.importorskip("openvino", reason="needs openvino: pip install openvino")
    source = two_outputs(1).save(tmp_path / "m.onnx")
    ov.save_model(ov.Core().read_model(source), tmp_path / "m.xml", compress_to_fp16=False)
    x = noise(2, 2, 3)
    assert np.allclose(opener("openvino")(tmp_path / "m.xml", EXACT).infer({"x": x})["double"], 2 * x)
    (tmp_path / "m.bin").unlink()
    (tmp_path / "m.xml").write_text("<net")
    with pytest.raises(ModelError, match=r"m\.xml"):
        opener("openvino")(tmp_path / "m.xml", EXACT)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (RuntimeOptions("fp32", threads=2), "fp32, 2 streams x 1 thread"),
        (RuntimeOptions("fp32", "latency", threads=2), "fp32, 1 stream x 2 threads"),
        (RuntimeOptions("fp32", max_batch=1, threads=2), "fp32, 1 stream x 2 threads"),
    ],
)
def test_openvino_says_what_it_runs_on(path: Path, options: RuntimeOptions, says: str) -> None:
    assert opener("openvino")(path, options).description.endswith(says)


def test_int8_is_a_property_of_the_file(backend: Open, path: Path) -> None:
    with pytest.raises((ModelError, RuntimeUnavailable), match="take precision auto"):
        backend(path, RuntimeOptions("int8"))


def test_onnxruntime_does_not_change_the_precision_of_a_file(path: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match="take precision auto, or the openvino runtime"):
        opener("onnxruntime")(path, RuntimeOptions("bf16"))


# --- by name ---


def test_choosing_a_runtime() -> None:
    assert usable() == available()
    assert usable(available()[::-1]) == available()[::-1]
    with pytest.raises(RuntimeUnavailable, match="did you mean 'onnxruntime'"):
        usable(["openvino", "onnxruntim"])
    with pytest.raises(RuntimeUnavailable, match="known are: tensorrt, tensorrt_rtx, openvino, onnxruntime, pytorch"):
        open_runtime("abacus", Path("m.onnx"), EXACT)


def test_a_preferred_runtime_that_is_not_installed_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.runtimes.find_spec", lambda name: name == "onnxruntime" or None)
    assert usable(["tensorrt", "onnxruntime"]) == ["onnxruntime"]
    assert usable() == ["onnxruntime"]


def test_a_runtime_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setattr("engines.runtimes.find_spec", lambda name: None)
    assert available() == []
    with pytest.raises(RuntimeUnavailable, match=r"pip install 'streamer\[onnxruntime\]'"):
        usable(["onnxruntime"])
    with pytest.raises(RuntimeUnavailable, match=r"pip install 'streamer\[onnxruntime\]'"):
        open_runtime("onnxruntime", path, EXACT)


def test_a_broken_installation_is_no_traceback(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    def broken(_name: str) -> None:
        raise ImportError("libwhatever.so.1: cannot open shared object file")

    monkeypatch.setattr("engines.runtimes.import_module", broken)
    with pytest.raises(RuntimeUnavailable, match=r"cannot be loaded \(libwhatever"):
        open_runtime("openvino", path, EXACT)


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({}, None),
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "100000 100000"}, 1),
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/cpu.max": "50000 100000"}, 1),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, None),
    ],
    ids=["bare", "unlimited", "container", "service", "old container", "old, unlimited"],
)
def test_cores_are_those_that_this_process_is_given(tmp_path: Path, files: dict[str, str], most: int | None) -> None:
    free = cores(tmp_path)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert cores(tmp_path) == (free if most is None else min(free, most))


@pytest.mark.parametrize("name", [name for name in ONNX_READERS if name in available()])
def test_a_batch_that_fails_spoils_no_other_and_not_the_end(name: str, tmp_path: Path) -> None:
    """Ask for a shape that the numbers do not fill, as only a run can find out."""
    constants = [
        helper.make_tensor("first", TensorProto.INT64, [1], [0]),
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("sides", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("row", TensorProto.INT64, [2], [1, 1]),
    ]
    nodes = [
        helper.make_node("Squeeze", ["shape", "first"], ["wanted"]),
        helper.make_node("Concat", ["one", "wanted"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["shaped"]),
        helper.make_node("ReduceSum", ["shaped", "sides"], ["sum"], keepdims=0),
        helper.make_node("Reshape", ["sum", "row"], ["y"]),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4]),
        helper.make_tensor_value_info("shape", TensorProto.INT64, [1, 2]),
    ]
    graph = helper.make_graph(nodes, "g", inputs, infos({"y": [1, 1]}), constants)
    runtime = open_runtime(name, networks.save(graph, tmp_path / "m.onnx"), EXACT)
    x = np.ones((1, 4), np.float32)
    good, bad = (dict[str, Array](x=x, shape=np.array([[rows, 2]], np.int64)) for rows in (2, 3))
    for _ in range(2):
        with pytest.raises(ModelError, match="cannot run"):
            runtime.infer(bad)
        for _ in range(7):  # every lane has its turn
            assert runtime.infer(good)["y"].tolist() == [[4]]
    with pytest.raises(ModelError, match="cannot run"):
        runtime.infer(bad)
    runtime.close()

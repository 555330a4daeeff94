"""Every runtime that can be opened here passes the same tests, on networks that the test makes."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import networks
import numpy as np
import pytest
from onnx import TensorProto, helper

from engines.errors import ModelError, RuntimeUnavailable
from engines.preprocess import Preprocess, PreprocessSpec
from engines.runtimes import BACKENDS, available, choose, open_runtime
from engines.runtimes.base import PixelInput, Runtime, RuntimeOptions
from engines.runtimes.fake import FakeRuntime
from engines.types import Array, TensorSpec

Open = Callable[..., Runtime]
F32 = np.dtype(np.float32)


def two_outputs(path: Path, batch: int | str) -> Path:
    """x (N, 2, 3) -> double (N, 2, 3) and its sums (N, 2)."""
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "x"], ["double"]),
            helper.make_node("ReduceSum", ["x", "axis"], ["sums"], keepdims=0),
        ],
        "two_outputs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 2, 3])],
        [
            helper.make_tensor_value_info("double", TensorProto.FLOAT, [batch, 2, 3]),
            helper.make_tensor_value_info("sums", TensorProto.FLOAT, [batch, 2]),
        ],
        [helper.make_tensor("axis", TensorProto.INT64, [1], [2])],
    )
    return networks.save(graph, path)


def fake(_path: Path, options: RuntimeOptions) -> Runtime:
    return FakeRuntime(
        lambda feeds: {"double": feeds["x"] * 2, "sums": feeds["x"].sum(axis=2)},
        (TensorSpec("x", F32, (None, 2, 3)),),
        (TensorSpec("double", F32, (None, 2, 3)), TensorSpec("sums", F32, (None, 2))),
        options.max_batch,
    )


def opener(name: str) -> Open:
    if name == "fake":
        return fake
    if find_spec(BACKENDS[name].package) is None:
        pytest.skip(f"{name} is not installed; {BACKENDS[name].install}")
    return lambda path, options: open_runtime(name, path, options)


@pytest.fixture(params=["fake", *BACKENDS])
def any_runtime(request: pytest.FixtureRequest) -> Open:
    return opener(request.param)


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Open:
    return opener(request.param)


EXACT = RuntimeOptions("fp32", max_batch=4)


@pytest.mark.parametrize("batch", [1, "n"])
@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_every_row_gets_its_own_answer(any_runtime: Open, tmp_path: Path, batch: int | str, rows: int) -> None:
    runtime = any_runtime(two_outputs(tmp_path / "m.onnx", batch), EXACT)
    x = np.random.default_rng(rows).random((rows, 2, 3), np.float32)
    got = runtime.infer({"x": x})
    assert got["double"].shape == (rows, 2, 3)
    assert np.allclose(got["double"], 2 * x)
    assert np.allclose(got["sums"], x.sum(axis=2))


def test_a_runtime_says_what_it_takes_and_gives(any_runtime: Open, tmp_path: Path) -> None:
    runtime = any_runtime(two_outputs(tmp_path / "m.onnx", "n"), EXACT)
    assert runtime.inputs == (TensorSpec("x", F32, (None, 2, 3)),)
    assert {s.name: s.shape for s in runtime.outputs} == {"double": (None, 2, 3), "sums": (None, 2)}
    assert runtime.max_batch == 4
    assert runtime.description
    runtime.close()
    runtime.close()


def test_outputs_hold_until_the_next_call_and_calls_do_not_mix(any_runtime: Open, tmp_path: Path) -> None:
    runtime = any_runtime(two_outputs(tmp_path / "m.onnx", 1), EXACT)
    for value in (1.0, 5.0, 3.0):
        x = np.full((3, 2, 3), value, np.float32)
        got = runtime.infer({"x": x})
        x[:] = -1  # the caller's buffer is the caller's again
        assert (got["double"] == 2 * value).all()


@pytest.mark.parametrize(
    "feeds",
    [
        {"y": np.zeros((1, 2, 3), np.float32)},
        {"x": np.zeros((1, 2, 4), np.float32)},
        {"x": np.zeros((1, 2, 3), np.float64)},
        {"x": np.zeros((0, 2, 3), np.float32)},
        {"x": np.zeros((5, 2, 3), np.float32)},
    ],
)
def test_a_wrong_feed_is_refused_in_one_sentence(backend: Open, tmp_path: Path, feeds: dict[str, Array]) -> None:
    runtime = backend(two_outputs(tmp_path / "m.onnx", 1), EXACT)
    with pytest.raises(ModelError, match=r"m\.onnx.*'x'"):
        runtime.infer(feeds)


def test_a_closed_runtime_says_so(backend: Open, tmp_path: Path) -> None:
    runtime = backend(two_outputs(tmp_path / "m.onnx", 1), EXACT)
    runtime.close()
    with pytest.raises(ModelError, match="closed"):
        runtime.infer({"x": np.zeros((1, 2, 3), np.float32)})


@pytest.mark.parametrize("content", [b"", b"no network at all", bytes(300), None])
def test_a_file_that_is_no_network(backend: Open, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.onnx") as caught:
        backend(path, EXACT)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_pixels_prepared_in_the_graph_or_outside_give_the_same(backend: Open, tmp_path: Path, channels: str) -> None:
    pixels = PixelInput("bgr" if channels == "bgr" else "rgb", (10.0, 20.0, 30.0), (2.0, 3.0, 4.0))
    path = networks.bright_spots(tmp_path / "m.onnx")
    images = [np.random.default_rng(i).integers(0, 255, (50 + i, 80, 3), np.uint8) for i in range(3)]
    spec = PreprocessSpec((64, 64), pixels=pixels)
    runtime = backend(path, RuntimeOptions("fp32", max_batch=4, pixels=pixels))
    feeds, _ = Preprocess(spec, runtime)(images)
    plain = open_runtime("openvino", path, EXACT)  # its input is the graph's own
    expected, _ = Preprocess(spec, plain)(images)
    assert next(iter(expected.values())).dtype == np.float32
    got = runtime.infer(feeds)["output"]
    assert np.allclose(got, plain.infer(expected)["output"], rtol=1e-5, atol=1e-5)


def test_choosing_a_runtime() -> None:
    assert choose() == available()[0]
    assert choose(available()[::-1]) == available()[-1]
    with pytest.raises(RuntimeUnavailable, match="did you mean 'onnxruntime'"):
        choose(["onnxruntim"])


def test_a_runtime_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.runtimes.find_spec", lambda name: None)
    with pytest.raises(RuntimeUnavailable, match=r"pip install 'streamer\[onnxruntime\]'"):
        choose(["onnxruntime"])

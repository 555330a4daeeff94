"""The exported graph is the network: in ONNX Runtime and OpenVINO, for batches of any size."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torchnets
from scratch import scratch
from torch import nn

from engines.build.export import export_body
from engines.errors import BuildError, WeightsError
from engines.runtimes import available, open_runtime
from engines.runtimes.base import RuntimeOptions
from engines.types import Float

SIZE = (64, 96)
PLAIN = {"Add", "Concat", "Conv", "MaxPool", "Mul", "Reshape", "Resize", "Sigmoid", "Slice", "Transpose"}


@dataclass(frozen=True)
class Exported:
    network: nn.Module
    checkpoint: Path
    path: Path
    model: onnx.ModelProto
    told: list[str]


@pytest.fixture(scope="module", params=["nano", "s"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    network = torchnets.network(request.param)
    told: list[str] = []
    with scratch(tmp_path_factory, request.param) as folder:
        checkpoint = torchnets.checkpoint(folder / "w.pth", network)
        model = export_body(torchnets.manifest(request.param, size=SIZE), checkpoint, told.append)
        onnx.save(model, folder / "body.onnx")
        yield Exported(network, checkpoint, folder / "body.onnx", model, told)


def images(rows: int) -> Float:
    return np.random.default_rng(rows).random((rows, 3, *SIZE), np.float32) * 4


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_it_gives_what_torch_gives_for_any_batch(exported: Exported, runtime: str) -> None:
    if runtime not in available():
        pytest.skip(f"{runtime} is not installed: pip install 'streamer[test]'")
    opened = open_runtime(runtime, exported.path, RuntimeOptions("fp32", max_batch=5))
    for rows in (1, 2, 5):
        with torch.inference_mode():
            want = exported.network(torch.from_numpy(images(rows))).numpy()
        got = opened.infer({"images": images(rows)})["output"]
        assert np.linalg.norm(got - want) / np.linalg.norm(want) < 1e-3


def test_it_is_plain_and_says_its_shapes(exported: Exported) -> None:
    graph = exported.model.graph
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert shapes == {"images": ["N", 3, *SIZE], "output": ["N", 126, 85]}
    assert {node.op_type for node in graph.node} <= PLAIN
    assert {(opset.domain, opset.version) for opset in exported.model.opset_import} == {("", 18)}
    assert Counter(node.op_type for node in graph.node)["Resize"] == 2


def test_it_tells_each_step_and_nothing_of_this_machine(exported: Exported) -> None:
    assert [sentence.split()[0] for sentence in exported.told] == ["reading", "exporting", "comparing"]
    told = exported.model.SerializeToString()
    assert not [word for word in (b"site-packages", b"engines/networks", b"forward", b"aten") if word in told]


@pytest.mark.parametrize("exported", ["nano"], indirect=True)
def test_another_process_makes_the_same_bytes_in_silence(exported: Exported) -> None:
    code = (
        "import sys, torchnets; from pathlib import Path; from engines.build.export import export_body;"
        f"body = export_body(torchnets.manifest(size={SIZE}), Path({str(exported.checkpoint)!r}));"
        "sys.stdout.buffer.write(body.SerializeToString())"
    )
    root = Path(__file__).resolve().parents[2]
    paths = {"PYTHONPATH": f"{root}:{root / 'tests/support'}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=paths, check=True)
    assert done.stderr == b""
    assert done.stdout == exported.model.SerializeToString()


def test_weights_that_are_no_numbers_are_not_exported(tmp_path: Path) -> None:
    network = torchnets.network()
    network.get_parameter("head.stems.0.conv.weight").data[:] = float("nan")
    path = torchnets.checkpoint(tmp_path / "w.pth", network)
    with pytest.raises(BuildError, match=r"yolox-nano: .*w\.pth holds weights that give no finite numbers"):
        export_body(torchnets.manifest(size=(32, 32)), path)


def test_weights_of_another_network_are_not_exported(exported: Exported) -> None:
    with pytest.raises(WeightsError, match="does not fit"):
        export_body(torchnets.manifest("tiny"), exported.checkpoint)

"""Every network that a manifest of ours exports: alike in torch, ONNX Runtime and OpenVINO; built by TensorRT-RTX."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anchornets
import numpy as np
import pytest
import torch
import torchnets
from scratch import scratch
from torch import nn

from engines.build.base import GraphPrecision, Layout, Material, Order, Profile, Recipe, silent
from engines.build.graph import material
from engines.manifest import Manifest, find, names
from engines.networks.checkpoint import open_network
from engines.networks.served import serve
from engines.runtimes import open_runtime
from engines.runtimes.base import RuntimeOptions
from engines.types import Image

EVERY_SM = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_120", "sm_121")
SIZE = (64, 96)  # a network is the same at any; this one is quick

EXPORTED = [name for name in names() if find(name).weights.checkpoint]
# Architectures with tests of their own: of R-CNNs, of flow, of clips.
ELSEWHERE = {"faster-rcnn", "mask-rcnn", "flownet", "conv3d", "i3d", "slowfast", "vgg16-stream"}
HERE = [name for name in EXPORTED if find(name).architecture not in ELSEWHERE]


@dataclass(frozen=True)
class Exported:
    """A model of ours with random weights, on the bench."""

    manifest: Manifest
    bench: Material

    def graph(self, precision: GraphPrecision = "fp32", layout: Layout = "raw") -> Path:
        return self.bench.graph(Recipe(precision, layout))


@pytest.fixture(scope="module", params=HERE)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    manifest, network = _random(request.param)
    told = manifest.weights.checkpoint
    save = torchnets.checkpoint if told is not None and told.key else anchornets.checkpoint
    with scratch(tmp_path_factory, request.param) as folder:
        yield Exported(manifest, material(manifest, save(folder / "w.pth", network), folder / "graphs"))


def _random(name: str) -> tuple[Manifest, nn.Module]:
    """Make a network of ours, for small images where it takes them; and the manifest that says so."""
    if find(name).architecture in ("ssd", "retinanet"):
        manifest = anchornets.manifest(name)
        return manifest, anchornets.network(manifest)
    ours = find(name)
    manifest = ours.model_copy(update={"preprocess": ours.preprocess.model_copy(update={"size": SIZE})})
    return manifest, torchnets.network(str(ours.variant), len(ours.labels))


@pytest.fixture
def frames(exported: Exported) -> Image:
    return np.random.default_rng(7).integers(0, 256, (2, *exported.manifest.preprocess.size, 3), np.uint8)


def test_the_cpu_runtimes_give_what_torch_gives(exported: Exported, frames: Image) -> None:
    network = open_network(exported.manifest, exported.bench.weights)
    with torch.inference_mode():
        wanted = serve(network, exported.manifest, torch.float32, "raw")(torch.from_numpy(frames))
    for runtime in ("onnxruntime", "openvino"):
        opened = open_runtime(runtime, exported.graph(), RuntimeOptions("fp32", max_batch=2))
        got = opened.infer({"frames": frames})
        assert got.keys() == wanted.keys()
        for name, value in wanted.items():
            assert np.linalg.norm(got[name] - value.numpy()) <= 1e-3 * np.linalg.norm(value), (runtime, name)
        opened.close()


@pytest.mark.parametrize("targets", [(), EVERY_SM], ids=["portable", "every SM"])
def test_tensorrt_rtx_builds_it(exported: Exported, targets: tuple[str, ...]) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'streamer[tensorrt-rtx]'")
    from engines.build.tensorrt_rtx import TensorRtRtxBuilder

    builder = TensorRtRtxBuilder()
    order = Order(Recipe("fp16"), Profile(1, 4, 8), targets=targets)
    built = builder.build(exported.bench, order, silent)
    path = exported.bench.weights.with_suffix(".engine")
    path.write_bytes(built.data)
    assert builder.fault(path) is None


def test_half_precision_is_as_good_as_halves_are(exported: Exported, frames: Image) -> None:
    """In ONNX Runtime, which computes as the types say; what overflows shows here."""
    outputs = []
    for precision in ("fp32", "fp16"):
        opened = open_runtime("onnxruntime", exported.graph(precision), RuntimeOptions(precision, max_batch=2))
        outputs.append({name: value.copy() for name, value in opened.infer({"frames": frames}).items()})
        opened.close()
    for name, exact in outputs[0].items():
        assert np.linalg.norm(outputs[1][name] - exact) <= 1e-2 * np.linalg.norm(exact), name


def test_a_manifest_that_is_not_exported_is_not_forgotten() -> None:
    """Whoever adds a model without a checkpoint says here how it is proven."""
    assert [name for name in names() if find(name).decoder.kind != "fusion"] == EXPORTED
    assert {find(name).architecture for name in EXPORTED} - ELSEWHERE == {"yolox", "ssd", "retinanet"}

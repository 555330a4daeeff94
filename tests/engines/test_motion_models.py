"""The models for motion and actions that come with us: each manifest fits its network, and the public weights."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clipnets
import numpy as np
import pytest
import torch
from clipnets import randomise
from torch import nn

from engines.build.base import Recipe
from engines.build.graph import material
from engines.feeds import feed_of
from engines.manifest import Manifest, find, names
from engines.networks import build_network, find_family
from engines.networks.served import Feeding, example, serve
from engines.networks.two_stream import STREAMS, Sizes, Vgg16
from engines.outputs import FusionDecoder
from engines.runtimes import available, open_runtime
from engines.runtimes.base import RuntimeOptions

PARITY = Path(os.environ.get("PARITY_DIR") or Path(__file__).resolve().parents[2] / "../shared/parity")
NETWORKS = [
    name
    for name in names()
    if find(name).task in ("flow", "recognise") and not isinstance(find(name).decoder, FusionDecoder)
]


def network_of(manifest: Manifest) -> nn.Module:
    return build_network(manifest.architecture or "", manifest.variant, len(manifest.labels))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_takes_the_size_of_its_manifest_and_has_an_output_for_each_label(name: str) -> None:
    manifest = find(name)
    with torch.device("meta"), torch.inference_mode():
        out = network_of(manifest).eval()(torch.empty(2, *feed_of(manifest).network))
    height, width = manifest.preprocess.size
    assert out.shape == ((2, 2, height // 4, width // 4) if manifest.task == "flow" else (2, len(manifest.labels)))


def cases(manifest: Manifest) -> list[Path]:
    """The reference cases of what somebody published with a manifest's architecture and variant."""
    published = find_family(manifest.architecture or "").published
    known = [name for name, each in published.items() if each.variant == manifest.variant]
    return [path for name in known for path in (PARITY / f"{name}.npz",) if path.exists()]


@pytest.mark.parametrize(
    "name", [name for name in NETWORKS if not name.startswith("vgg16") and not name.endswith("-pico")]
)
def test_the_public_weights_have_the_shapes_of_the_network_that_the_manifest_names(name: str) -> None:
    manifest = find(name)
    found = cases(manifest)
    if not found:
        pytest.skip(f"needs the reference cases: put them into {PARITY}, or say where with PARITY_DIR")
    with torch.device("meta"):
        state = network_of(manifest).state_dict()
    for path in found:
        with np.load(path) as case:
            params: dict[str, Any] = json.loads(bytes(case["meta"]).decode())["params"]
        assert {key: list(value.shape) for key, value in state.items()} == {
            k: shape for k, (shape, _) in params.items()
        }


def test_both_streams_of_vgg16_have_the_keys_of_the_two_as_one_network() -> None:
    with torch.device("meta"):
        streams = {name: build_network("vgg16-stream", name, 101).state_dict() for name in STREAMS}
        both = build_network("two-stream", "vgg16", 101).state_dict()
    joined = {f"{name}.{key}": value.shape for name, state in streams.items() for key, value in state.items()}
    assert joined == {key: value.shape for key, value in both.items()}


@pytest.mark.parametrize("name", [name for name in NETWORKS if find(name).task == "flow"])
def test_what_lies_beside_an_image_is_nothing_for_a_network_that_finds_motion(name: str) -> None:
    told = find(name).preprocess
    assert all(side % 64 == 0 for side in told.size)
    pad = torch.tensor(told.pad, dtype=torch.uint8).expand(1, 2, *told.size, 3)
    assert Feeding(feed_of(find(name)))(pad).abs().max() < 0.005


@pytest.mark.parametrize(
    ("name", "bounds"), [("i3d-rgb", (-1, 1)), ("slowfast-r50", (-2, 2.4445)), ("c3d", (-101.41, 164.75))]
)
def test_values_have_the_range_that_the_network_was_trained_on(name: str, bounds: tuple[float, float]) -> None:
    manifest = find(name)
    black = torch.zeros(1, *feed_of(manifest).shape, dtype=torch.uint8)
    values = [Feeding(feed_of(manifest))(pixels) for pixels in (black, black + 255)]
    assert (float(values[0].min()), float(values[1].max())) == pytest.approx(bounds, abs=1e-3)


# --- in ONNX Runtime, as they are served ---


def small(name: str, size: tuple[int, int], length: int) -> Manifest:
    """A manifest that comes with us, for smaller and shorter clips: what is served is the same, and made sooner."""
    manifest = find(name)
    told = {"preprocess": manifest.preprocess.model_copy(update={"size": size})}
    clip = manifest.clip and manifest.clip.model_copy(update={"length": length})
    return manifest.model_copy(update={**told, "clip": clip})


def narrow_vgg16(manifest: Manifest) -> nn.Module:
    return Vgg16(STREAMS[manifest.variant or ""], Sizes(len(manifest.labels), hidden=16))


SERVED: dict[str, tuple[Manifest, Callable[[Manifest], nn.Module]]] = {
    "flownet": (small("flownets-bn", (64, 128), 2), network_of),
    "conv3d": (small("r3d-18", (32, 48), 4), network_of),
    "slowfast": (small("slowfast-r50", (32, 48), 8), network_of),
    "i3d": (small("i3d-flow", (32, 48), 8), network_of),
    "vgg16-stream": (small("vgg16-temporal", (224, 224), 10), narrow_vgg16),
}


@pytest.mark.parametrize("family", SERVED)
def test_a_served_graph_gives_what_torch_gives(family: str, tmp_path: Path) -> None:
    if "onnxruntime" not in available():
        pytest.skip("onnxruntime is not installed: pip install 'streamer[test]'")
    manifest, make = SERVED[family]
    assert manifest.architecture == family
    network, feed, fed = randomise(make(manifest)), feed_of(manifest), example(manifest)
    with torch.inference_mode():
        wanted = serve(network, manifest, torch.float32)(fed)
    body = clipnets.export(network, {"input": Feeding(feed)(fed)}, find_family(family).outputs, tmp_path / "body.onnx")
    runtime = open_runtime(
        "onnxruntime", material(manifest, body.path, tmp_path).graph(Recipe()), RuntimeOptions("fp32")
    )
    try:
        (name, found), *others = runtime.infer({feed.name: fed.numpy()}).items()
    finally:
        runtime.close()
    assert not others
    assert name == ("flow" if manifest.task == "flow" else "probs")
    (expected,) = wanted.values()
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-5 * float(np.abs(found).max()))
    if name == "probs":
        assert found.shape == (2, len(manifest.labels))
        np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)

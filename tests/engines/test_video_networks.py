"""The networks of clips; what they compute is compared with the public ones in tests/parity."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import clipnets
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from clipnets import Exported, noise, randomise
from hypothesis import given, settings
from hypothesis import strategies as st
from scratch import scratch
from torch import Tensor, nn

from engines.networks import build_network, find_family
from engines.networks.conv3d import RESNETS, C3d, VideoResNet
from engines.networks.i3d import I3d, SameConv, same_pool
from engines.networks.slowfast import SlowFast, slow_frames
from engines.networks.two_stream import Sizes, TwoStream, Vgg16
from engines.runtimes import available

CLASSES = 7
NARROW = 32  # channels of layers whose width only costs memory
Shapes = dict[str, tuple[int, ...]]


def two_vgg16() -> TwoStream:
    sizes = Sizes(CLASSES, NARROW)
    return TwoStream(Vgg16(3, sizes), Vgg16(20, sizes))


# What is not here, mc3-18 and i3d-rgb, has no operators of its own.
EXPORTED: dict[str, tuple[Callable[[], nn.Module], Shapes]] = {
    "c3d": (lambda: C3d(CLASSES, NARROW), {"clip": (3, 16, 96, 96)}),
    "r3d-18": (lambda: VideoResNet(RESNETS["r3d-18"], CLASSES), {"clip": (3, 6, 32, 40)}),
    "r2plus1d-18": (lambda: VideoResNet(RESNETS["r2plus1d-18"], CLASSES), {"clip": (3, 6, 32, 40)}),
    "slowfast": (lambda: SlowFast(CLASSES), {"clip": (3, 32, 32, 40)}),
    "i3d-flow": (lambda: I3d(2, CLASSES), {"clip": (2, 10, 64, 72)}),
    "vgg16": (two_vgg16, {"rgb": (3, 224, 224), "flow": (20, 224, 224)}),
}


def run(network: nn.Module, *inputs: Tensor) -> Tensor:
    with torch.inference_mode():
        out: Tensor = network(*inputs)
    return out


def apart(one: Tensor, other: Tensor) -> float:
    """Relative difference."""
    return float(torch.linalg.norm(one - other) / torch.linalg.norm(other))


# --- in other runtimes ---


@pytest.fixture(scope="module", params=EXPORTED)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    make, shapes = EXPORTED[request.param]
    inputs = {name: noise(clipnets.ROWS, *shape) for name, shape in shapes.items()}
    outputs = ("spatial", "temporal") if len(shapes) == 2 else ("logits",)
    with scratch(tmp_path_factory, request.param) as folder:
        yield clipnets.export(randomise(make()), inputs, outputs, folder / f"{request.param}.onnx")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_cpu_runtimes_give_what_torch_gives_for_any_batch(exported: Exported, runtime: str) -> None:
    if runtime not in available():
        pytest.skip(f"{runtime} is not installed: pip install 'streamer[test]'")
    assert exported.error(runtime) <= 1e-3


def test_tensorrt_rtx_builds_it_even_for_turing(exported: Exported) -> None:
    """Turing is the pickiest: it has no 3-D convolutions in fp32."""
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'streamer[tensorrt-rtx]'")
    assert len(exported.build_rtx("sm_75", "sm_120").data) > 1_000_000


# --- what they are made of ---


@pytest.mark.parametrize(
    ("architecture", "variant", "classes", "millions"),
    [  # as torchvision and pytorchvideo publish them; the others as the layers of the papers add up
        ("conv3d", "c3d", 487, 79.99),
        ("conv3d", "r3d-18", 400, 33.37),
        ("conv3d", "mc3-18", 400, 11.70),
        ("conv3d", "r2plus1d-18", 400, 31.51),
        ("slowfast", "8x8-r50", 400, 34.57),
        ("i3d", "rgb", 400, 12.70),
        ("two-stream", "vgg16", 101, 2 * 134.67 + 0.01),
    ],
)
def test_variants_have_the_published_number_of_parameters(
    architecture: str, variant: str, classes: int, millions: float
) -> None:
    with torch.device("meta"):
        network = build_network(architecture, variant, classes)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize("name", RESNETS)
@pytest.mark.parametrize("shape", [(1, 1, 33, 47), (2, 9, 16, 16)])
def test_resnets_take_clips_of_any_length_and_size(name: str, shape: tuple[int, ...]) -> None:
    rows, *rest = shape
    assert run(randomise(VideoResNet(RESNETS[name], CLASSES)), noise(rows, 3, *rest)).shape == (rows, CLASSES)


@pytest.mark.parametrize("name", ["r3d-18", "mc3-18", "r2plus1d-18"])
def test_a_clip_backwards_is_another_clip(name: str) -> None:
    network, clip = randomise(VideoResNet(RESNETS[name], CLASSES)), noise(1, 3, 6, 32, 32)
    assert apart(run(network, clip.flip(2)), run(network, clip)) > 1e-2


# --- SlowFast ---


@pytest.fixture(scope="module")
def slowfast() -> SlowFast:
    network = randomise(SlowFast(CLASSES))
    assert isinstance(network, SlowFast)
    return network


CLIP = noise(1, 3, 32, 32, 32)


@pytest.mark.parametrize("frames", [8, 16, 32, 64, 128])
def test_the_slow_pathway_takes_its_frames_from_the_first_to_the_last(frames: int) -> None:
    assert slow_frames(frames) == torch.linspace(0, frames - 1, frames // 4).long().tolist()


def test_one_clip_feeds_both_pathways(slowfast: SlowFast) -> None:
    seen = [0, 4, 8, 13, 17, 22, 26, 31]
    every_fourth, later, swapped = [*range(0, 32, 4)], [1, 5, 9, 14, 18, 23, 27, 31], [4, 0, 8, 13, 17, 22, 26, 31]
    slow = torch.cat([CLIP[:, :, frames] for frames in (seen, every_fourth, later, swapped)])
    with torch.inference_mode():
        wanted, *others = slowfast.pathways(slow, CLIP.expand(len(slow), -1, -1, -1, -1))
        assert apart(slowfast(CLIP)[0], wanted) < 1e-5
    assert all(apart(other, wanted) > 1e-3 for other in others)


ORDERS = {
    "as they came": [*range(32)],
    "one later": [*range(1, 32), 31],
    "one earlier": [0, *range(31)],
    "two swapped, one of which the slow pathway sees": [1, 0, *range(2, 32)],
    "two swapped that the fast pathway alone sees": [0, 2, 1, *range(3, 32)],
    "backwards": [*range(31, -1, -1)],
}


def test_the_place_of_every_frame_matters(slowfast: SlowFast) -> None:
    wanted, *others = run(slowfast, torch.cat([CLIP[:, :, order] for order in ORDERS.values()]))
    told = {name: apart(other, wanted) for name, other in zip([*ORDERS][1:], others, strict=True)}
    assert min(told.values()) > 1e-4, told


# --- I3D ---

sides = st.integers(1, 3)
lengths = st.integers(1, 9)


def padded(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Pad each axis with zeros as TensorFlow defines "same": to ceil(size / stride) outputs, the odd zero last."""
    pads: list[int] = []
    for size in reversed(x.shape[2:]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


@settings(max_examples=60, deadline=None)
@given(st.tuples(lengths, lengths, lengths), st.integers(1, 7), sides)
def test_same_padding_is_that_of_its_definition(size: tuple[int, int, int], kernel: int, stride: int) -> None:
    conv = SameConv(1, 2, (kernel,) * 3, (stride,) * 3)
    x = noise(1, 1, *size)
    want = F.conv3d(padded(x, kernel, stride), conv.weight, stride=stride)
    assert torch.allclose(conv(x), want, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.tuples(lengths, lengths, lengths), st.sampled_from([(1, 1), (2, 2), (3, 1), (3, 2), (3, 3)]))
def test_same_pooling_is_that_of_its_definition(size: tuple[int, int, int], window: tuple[int, int]) -> None:
    kernel, stride = window
    x = noise(1, 2, *size).relu()
    want = F.max_pool3d(padded(x, kernel, stride), kernel, stride)
    assert torch.equal(same_pool(x, (kernel,) * 3, (stride,) * 3), want)


def test_the_logits_of_a_clip_are_the_mean_of_its_segments() -> None:
    network = randomise(I3d(2, CLASSES))
    assert isinstance(network, I3d)
    clip = noise(1, 2, 32, 32, 40)
    with torch.inference_mode():
        segments = network.segments(clip)
        assert segments.shape == (1, CLASSES, 3, 1, 1)
        assert torch.allclose(network(clip), segments.mean((2, 3, 4)), atol=1e-5)


# --- two streams ---


def test_u_and_v_are_not_the_same_to_a_stream_of_flow() -> None:
    flow = noise(1, 2, 10, 64, 64)
    assert apart(run(randomise(I3d(2, CLASSES)), flow.flip(1)), run(randomise(I3d(2, CLASSES)), flow)) > 1e-2


def test_each_stream_sees_its_own_input_only() -> None:
    rgb, flow = noise(1, 3, 224, 224), noise(1, 20, 224, 224)
    exchanged = flow.reshape(1, 10, 2, 224, 224).flip(2).reshape(flow.shape)  # u and v
    later = flow.roll(2, 1)
    with torch.inference_mode():
        spatial, temporal = randomise(two_vgg16())(rgb.expand(3, -1, -1, -1), torch.cat((flow, exchanged, later)))
    assert torch.allclose(spatial[1:], spatial[:1], atol=1e-5)
    assert all(apart(other, temporal[0]) > 1e-2 for other in temporal[1:])


def test_a_stream_has_the_keys_of_torchvisions_vgg16() -> None:
    with torch.device("meta"):
        state = build_network("two-stream", "vgg16", 101).state_dict()
    convs = [f"features.{i}" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)]
    layers = [*convs, *(f"classifier.{i}" for i in (0, 3, 6))]
    parts = ("weight", "bias")
    assert list(state) == [f"{s}.{layer}.{p}" for s in ("spatial", "temporal") for layer in layers for p in parts]
    assert state["spatial.features.0.weight"].shape == (64, 3, 3, 3)
    assert state["temporal.features.0.weight"].shape == (64, 20, 3, 3)
    assert state["temporal.classifier.0.weight"].shape == (4096, 25088)
    assert state["temporal.classifier.6.weight"].shape == (101, 4096)


def test_an_image_of_another_size_is_brought_to_what_the_last_layers_take() -> None:
    stream = randomise(Vgg16(3, Sizes(CLASSES, NARROW)))
    assert run(stream, noise(1, 3, 96, 160)).shape == (1, CLASSES)


@pytest.mark.parametrize(
    ("pair", "stream", "variants"),
    [("i3d", "i3d", ("rgb", "flow")), ("vgg16", "vgg16-stream", ("spatial", "temporal"))],
)
def test_two_streams_are_the_networks_that_they_are_alone(pair: str, stream: str, variants: tuple[str, str]) -> None:
    with torch.device("meta"):
        state = build_network("two-stream", pair, 400).state_dict()
        networks = [find_family(stream).build(variant, 400) for variant in variants]
    parts = dict(zip(("spatial", "temporal"), networks, strict=True))
    wanted = {f"{name}.{key}": value.shape for name, net in parts.items() for key, value in net.state_dict().items()}
    assert {key: value.shape for key, value in state.items()} == wanted

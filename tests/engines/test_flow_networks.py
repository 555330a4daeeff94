"""The networks of flow; what they compute is compared with the public ones in tests/parity."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import clipnets
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from clipnets import Exported, noise, randomise
from scratch import scratch
from torch import Tensor

from engines.build.export import export_body
from engines.build.precision import EXACT, typed
from engines.manifest import find
from engines.networks import build_network
from engines.networks.correlation import correlate
from engines.networks.flownet import PIXELS, VARIANTS, BringBack, Fields, FlowNetPyramid, _plain
from engines.runtimes import available
from engines.types import Float

SIZE = (70, 101)  # no multiple of anything: what was doubled is cropped at every level


@pytest.fixture(scope="module", params=["s", "c", "pyramid-pico"])  # where a normalisation was, it is folded
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    pair = noise(clipnets.ROWS, 6, *SIZE)
    with scratch(tmp_path_factory, request.param) as folder:
        network = randomise(VARIANTS[request.param]())
        yield clipnets.export(network, {"pair": pair}, ("flow",), folder / "flownet.onnx")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_cpu_runtimes_give_what_torch_gives_for_any_batch(exported: Exported, runtime: str) -> None:
    if runtime not in available():
        pytest.skip(f"{runtime} is not installed: pip install 'streamer[test]'")
    assert exported.error(runtime) <= 1e-3


def test_tensorrt_rtx_builds_it(exported: Exported) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'streamer[tensorrt-rtx]'")
    assert len(exported.build_rtx("sm_75", "sm_120").data) > 1_000_000


@pytest.mark.parametrize(("variant", "millions"), [("s", 38.68), ("c", 39.18)])
def test_variants_have_the_published_number_of_parameters(variant: str, millions: float) -> None:
    with torch.device("meta"):
        network = build_network("flownet", variant, 0)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize("variant", VARIANTS)
def test_flow_has_a_quarter_of_any_size_rounded_up(variant: str) -> None:
    network = VARIANTS[variant]().eval()
    for rows, columns in ((64, 64), (65, 127), (130, 97), (33, 20)):
        with torch.inference_mode():
            flow = network(noise(1, 6, rows, columns))
        assert flow.shape == (1, 2, -(-rows // 4), -(-columns // 4))


@pytest.mark.parametrize("variant", ["s", "c", "pyramid-pico"])
def test_the_order_of_a_pair_matters(variant: str) -> None:
    network, pair = randomise(VARIANTS[variant]()), noise(1, 6, 64, 64)
    with torch.inference_mode():
        forth, back = network(pair), network(pair.roll(3, 1))
    assert torch.linalg.norm(forth - back) > 1e-2 * torch.linalg.norm(forth)


# --- looking again ---


def slid(columns: float, rows: float = 0.0, size: tuple[int, int] = (64, 96)) -> Tensor:
    """Two images (1, 6, H, W) of smooth waves, the later one so many pixels further to the right and down."""
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in size), indexing="ij")
    images = [torch.sin((x - u) / 9) + torch.cos((y - v) / 7) for u, v in ((0.0, 0.0), (columns, rows))]
    return torch.stack([image for image in images for _ in range(3)])[None]


def flow(u: float, v: float, size: tuple[int, int]) -> Tensor:
    """A field of one motion everywhere, in units of the network's."""
    return torch.tensor([u, v])[None, :, None, None].expand(1, 2, *size) / PIXELS


@pytest.mark.parametrize(("u", "v"), [(0.0, 0.0), (3.0, 0.0), (0.0, 3.0), (2.5, 1.5), (1.0, -2.0)])
def test_an_image_is_brought_back_to_where_it_came_from(u: float, v: float) -> None:
    pair = slid(u, v)
    back = BringBack()(pair[:, 3:], flow(u, v, (64, 96)))
    inner = (..., slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(back[inner].numpy(), pair[:, :3][inner].numpy(), atol=5e-3)


def test_each_row_of_a_batch_is_brought_back_by_its_own_flow() -> None:
    pairs = torch.cat((slid(3.0), slid(0.0, 2.0)))
    fields = torch.cat((flow(3.0, 0, (64, 96)), flow(0, 2.0, (64, 96))))
    back = BringBack()(pairs[:, 3:], fields)
    inner = (..., slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(back[inner].numpy(), pairs[:, :3][inner].numpy(), atol=5e-3)


def test_beyond_its_border_an_image_goes_on_as_it_ends() -> None:
    image = noise(1, 3, 8, 8)
    back = BringBack()(image, flow(0, 100, (8, 8)))
    torch.testing.assert_close(back, image[:, :, -1:].expand(-1, -1, 8, -1))


class Knowing(FlowNetPyramid):
    """Say of any pair that it has moved by as much, in pixels of what is looked at, and keep the pairs."""

    def __init__(self, *columns: float) -> None:
        super().__init__(_plain, 4)
        self.said, self.seen = iter(columns), list[Tensor]()

    def fields(self, pair: Tensor) -> Fields:
        self.seen.append(pair)
        u = next(self.said)
        two, three, four, five, six = (
            flow(u, 0, (-(-pair.shape[2] // stride), -(-pair.shape[3] // stride))) for stride in (4, 8, 16, 32, 64)
        )
        return two, three, four, five, six


def test_each_look_is_at_what_those_before_have_left() -> None:
    network = Knowing(0.25, 0.25, 0.5, 0.25)  # in pixels of an eighth, of a quarter, of a half and of all of the size
    found = network(slid(4.0))
    for images, shrunk, left in zip(network.seen, (8, 4, 2, 1), (4.0, 2.0, 1.0, 0.0), strict=True):
        wanted = F.avg_pool2d(slid(left), shrunk)
        border = 12 // shrunk  # where the later image does not show what has left it
        assert images.shape == wanted.shape
        np.testing.assert_allclose(images[..., :-border].numpy(), wanted[..., :-border].numpy(), atol=3e-2)
    torch.testing.assert_close(found, flow(4.25, 0, (16, 24)))


def test_what_a_size_lacks_to_whole_cells_is_filled_up_and_not_told() -> None:
    network = Knowing(0.25, 0.25, 0.5, 0.25)
    found = network(slid(4.0, size=(57, 90)))
    assert [images.shape[2:] for images in network.seen] == [(8, 12), (16, 24), (32, 48), (64, 96)]
    torch.testing.assert_close(found, flow(4.25, 0, (15, 23)))


def test_every_look_says_the_whole_motion() -> None:
    looks = Knowing(0.25, 0.25, 0.5, 0.25).looks(slid(4.0))
    for fields, so_far in zip(looks, (2.0, 3.0, 4.0, 4.25), strict=True):
        for field in fields:
            torch.testing.assert_close(field, flow(so_far, 0, (field.shape[2], field.shape[3])))


def test_halves_stop_where_pixels_are_counted(tmp_path: Path) -> None:
    manifest = find("flownets-pico")
    checkpoint = tmp_path / "weights.pt"
    torch.save(randomise(VARIANTS["pyramid-pico"]()).state_dict(), checkpoint)
    body = typed(export_body(manifest, checkpoint), "fp16")
    samples = [node for node in body.graph.node if node.op_type == "GridSample"]
    assert samples
    assert all(EXACT in node.name for node in samples)
    assert not any(EXACT in node.name for node in body.graph.node if node.op_type == "Conv")


# --- the correlation ---


def by_definition(first: Float, second: Float) -> Float:
    """Average the products of every two places that are 0, 2 … 20 pixels apart, rows first: a plain loop."""
    _, rows, columns = first.shape
    out = np.zeros((21, 21, rows, columns), np.float32)
    for i in range(21):
        for j in range(21):
            for y in range(rows):
                for x in range(columns):
                    v, u = y + 2 * (i - 10), x + 2 * (j - 10)
                    if 0 <= v < rows and 0 <= u < columns:
                        out[i, j, y, x] = first[:, y, x] @ second[:, v, u] / len(first)
    return out.reshape(441, rows, columns)


@pytest.mark.parametrize("size", [(1, 1), (5, 8), (8, 5), (3, 23)])
def test_the_correlation_is_that_of_its_definition(size: tuple[int, int]) -> None:
    first, second = noise(2, 16, *size), noise(2, 16, *size, seed=1)
    got = correlate(first, second).numpy()
    for row in range(2):
        np.testing.assert_allclose(got[row], by_definition(first[row].numpy(), second[row].numpy()), atol=1e-5)


def test_what_moved_is_most_alike_where_it_went() -> None:
    first = noise(1, 64, 40, 50)
    second = first.roll((6, -4), (2, 3))  # down and to the left
    inner = correlate(first, second)[0, :, 10:-10, 10:-10]
    assert (inner.argmax(0) == 21 * (10 + 3) + (10 - 2)).all()


def test_halves_hold_a_correlation_whose_sum_they_could_not() -> None:
    first = torch.full((1, 256, 2, 2), 40.0, dtype=torch.float16)
    centre = correlate(first, first)[0, 21 * 10 + 10]
    assert torch.allclose(centre, torch.tensor(1600.0, dtype=torch.float16))

"""The networks of YOLOX, and how they are found; what they compute is compared with the public ones in tests/parity."""

from __future__ import annotations

import pytest
import torch
import torchnets

from engines.errors import BuildError, ManifestError
from engines.networks import FAMILIES, build_network, find_family, find_published
from engines.networks.blocks import fold_norms
from engines.networks.heads import make_head
from engines.networks.served import serve
from engines.networks.yolox import VARIANTS, AnchorPoints


@pytest.mark.parametrize(
    ("variant", "millions"), [("nano", 0.91), ("tiny", 5.06), ("s", 8.97), ("m", 25.3), ("l", 54.2), ("x", 99.1)]
)
def test_variants_have_the_published_number_of_parameters(variant: str, millions: float) -> None:
    with torch.device("meta"):
        network = build_network("yolox", variant, 80)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.005)


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (160, 32)])
def test_a_row_for_each_anchor_point_of_any_size_and_batch(size: tuple[int, int]) -> None:
    with torch.inference_mode():
        raw = torchnets.network(classes=3)(torch.rand(2, 3, *size))
    anchors = sum((size[0] // stride) * (size[1] // stride) for stride in (8, 16, 32))
    assert raw.shape == (2, anchors, 8)
    assert ((raw[..., 4:] >= 0) & (raw[..., 4:] <= 1)).all()


def test_folding_the_normalisation_changes_nothing() -> None:
    network, images = torchnets.network(), torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        expected = network(images)
        folded = fold_norms(network)
        got = fold_norms(folded)(images)  # twice is once
    assert not [m for m in folded.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_unknown_networks_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(ManifestError, match=r"'yolo'.*did you mean 'yolox'"):
        build_network("yolo", "s", 80)
    with pytest.raises(ManifestError, match=r"'nan'.*did you mean 'nano'"):
        build_network("yolox", "nan", 80)
    with pytest.raises(ManifestError, match=r"no variant.*known: l, m, nano"):
        build_network("yolox", None, 80)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_every_family_can_build_what_it_says_is_published(architecture: str) -> None:
    family = find_family(architecture)
    for name, published in family.published.items():
        assert find_published(name) == (family, published)
        with torch.device("meta"):
            assert family.build(published.variant, published.classes).state_dict()


def test_what_nobody_published_is_not_found() -> None:
    assert find_published("yolox_xxl") is None


def test_anchor_points_lie_row_by_row_level_by_level() -> None:
    points = AnchorPoints((32, 64), (16, 32))
    assert points.origin[:5].tolist() == [[0, 0], [16, 0], [32, 0], [48, 0], [0, 16]]
    assert points.origin[8:].tolist() == [[0, 0], [32, 0]]
    assert points.stride.flatten().tolist() == [16] * 8 + [32] * 2


# --- served: bytes in, candidates out ---


def raw_rows() -> torch.Tensor:
    """One image of 32 x 32 with two classes: 21 anchor points that are empty but for two of them."""
    raw = torch.zeros(1, 21, 7)
    raw[0, 5] = torch.tensor([0.5, 0.5, 0.0, 0.0, 0.9, 0.8, 0.5])  # stride 8, the cell at 8, 8
    raw[0, 20] = torch.tensor([0.5, 0.5, -30.0, -30.0, 0.5, 0.0, 1.0])  # stride 32, next to nothing in its middle
    return raw


def test_an_anchor_point_gives_an_object_for_each_class_it_is_sure_of() -> None:
    head = make_head(torchnets.manifest(classes=2, size=(32, 32), candidates=4))
    out = head(raw_rows())
    assert torch.allclose(out["scores"], torch.tensor([[0.72, 0.5, 0.45, 0.0]]))
    assert out["classes"][0, :3].tolist() == [0, 1, 1]
    assert torch.allclose(
        out["boxes"][0, :3], torch.tensor([[8.0, 8, 16, 16], [16, 16, 16, 16], [8, 8, 16, 16]]), atol=1e-4
    )


def test_more_candidates_than_anchor_points_are_all_anchor_points() -> None:
    out = make_head(torchnets.manifest(classes=2, size=(32, 32), candidates=300))(raw_rows())
    assert {name: tuple(value.shape) for name, value in out.items()} == {
        "boxes": (1, 21, 4),
        "scores": (1, 21),
        "classes": (1, 21),
    }


@pytest.mark.parametrize("candidates", [1, 7, 30])
def test_the_best_are_those_of_decoding_everything(candidates: int) -> None:
    raw = torch.rand(3, 21, 7)
    out = make_head(torchnets.manifest(classes=2, size=(32, 32), candidates=candidates))(raw)
    everything = (raw[..., 4:5] * raw[..., 5:]).flatten(1).sort(1, descending=True).values
    count = min(candidates, 21)
    assert torch.equal(out["scores"], everything[:, :count])
    assert out["classes"].dtype == torch.int32


def test_served_bytes_are_the_normalised_floats_of_the_network() -> None:
    network, manifest = torchnets.network(), torchnets.manifest()
    frames = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8)
    floats = (frames.numpy()[..., ::-1].astype("float32") - (100, 110, 120)) / (60, 70, 80)
    with torch.inference_mode():
        expected = network(torch.from_numpy(floats).permute(0, 3, 1, 2).float())
        got = serve(network, manifest, torch.float32, "raw")(frames)["output"]
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_what_is_around_a_small_network_stays_precise() -> None:
    manifest = torchnets.manifest()
    frames = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    with torch.inference_mode():
        exact = serve(torchnets.network(), manifest, torch.float32, "raw")(frames)["output"]
        for dtype in (torch.float16, torch.bfloat16):
            out = serve(torchnets.network(), manifest, dtype, "raw")(frames)["output"]
            assert out.dtype == torch.float32
            assert torch.linalg.norm(out - exact) / torch.linalg.norm(exact) < 2e-2


def test_a_decoder_without_a_head_in_torch_is_refused() -> None:
    manifest = torchnets.manifest()
    other = manifest.model_copy(
        update={"decoder": type(manifest).model_validate({**manifest.model_dump(), "decoder": "yolov8"}).decoder}
    )
    with pytest.raises(BuildError, match=r"decoder yolov8 has no head in torch, only .*yolox"):
        make_head(other)


def test_every_variant_has_channels_that_can_be_halved() -> None:
    assert all(channels % 2 == 0 for variant in VARIANTS.values() for channels in variant.channels)

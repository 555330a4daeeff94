"""The networks of SSD and RetinaNet; what they compute is compared with the public ones in tests/parity."""

from __future__ import annotations

import anchornets
import numpy as np
import pytest
import torch

from engines.manifest import find
from engines.networks import build_network, find_family
from engines.networks.blocks import fold_norms
from engines.networks.heads import make_head
from engines.networks.served import serve
from engines.networks.ssd import VARIANTS
from engines.networks.vgg import unit_length
from engines.outputs import SsdDecoder

SSDS = {"vgg16": "ssd300-vgg16", "lite-mobilenetv3": "ssdlite320-mobilenetv3"}
_ROUNDING = 4 * float(np.finfo(np.float32).eps)  # of a score near 1


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("ssd300-vgg16", 35_641_826), ("ssdlite320-mobilenetv3", 3_440_060), ("retinanet-r50", 34_014_999)],
)
def test_networks_have_the_published_number_of_parameters(name: str, parameters: int) -> None:
    """As torchvision's documentation lists them; frozen normalisation has figures, but no parameters."""
    told = find(name)
    with torch.device("meta"):
        network = build_network(told.architecture or "", told.variant, len(told.labels))
    assert sum(each.numel() for each in network.parameters()) == parameters


@pytest.mark.parametrize(("variant", "name"), SSDS.items())
def test_manifests_say_the_default_boxes_that_the_network_has(variant: str, name: str) -> None:
    told, ours = VARIANTS[variant], find(name)
    decoder, size = ours.decoder, ours.preprocess.size
    assert isinstance(decoder, SsdDecoder)
    with torch.inference_mode():
        maps = told.backbone().eval()(torch.zeros(1, 3, *size))
    assert decoder.maps == tuple((each.shape[2], each.shape[3]) for each in maps)
    assert (decoder.scales, decoder.ratios, decoder.steps) == (told.scales, told.ratios, told.steps)


@pytest.mark.parametrize("name", anchornets.MANIFESTS)
def test_the_network_has_a_row_for_each_anchor_of_its_head(name: str) -> None:
    told = anchornets.manifest(name)
    network = build_network(told.architecture or "", told.variant, 3).eval()
    with torch.inference_mode():
        logits, offsets = network(torch.zeros(2, 3, *told.preprocess.size))
    anchors = make_head(told).get_buffer("anchors")
    assert (logits.shape, offsets.shape) == ((2, len(anchors), 3), (2, len(anchors), 4))
    np.testing.assert_allclose(anchors, anchornets.anchors_of(told), atol=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_reference_has_a_default_box_for_each_row_at_any_size(variant: str) -> None:
    network = build_network("ssd", variant, 2).eval()
    size = (320, 352) if variant == "pico" else (301, 333)  # a pyramid takes what it can halve
    with torch.inference_mode():
        found = find_family("ssd").reference(network, {"image": torch.rand(2, 3, *size)})
    assert found["cls_logits"].shape[:2] == found["bbox_regression"].shape[:2] == (2, len(found["anchors"]))


@pytest.mark.parametrize("name", ["ssdlite320-mobilenetv3", "retinanet-r50"])
def test_folding_the_normalisation_changes_nothing(name: str) -> None:
    told = anchornets.manifest(name)
    network, images = anchornets.network(told), torch.randn(1, 3, *told.preprocess.size)
    with torch.inference_mode():
        expected = network(images)
        got = fold_norms(network)(images)
    assert not [module for module in network.modules() if hasattr(module, "running_var")]
    for one, other in zip(got, expected, strict=True):
        assert torch.linalg.norm(one - other) < 1e-5 * torch.linalg.norm(other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1000.0])
def test_lengths_come_out_as_one_even_where_squares_are_too_large_for_a_half(dtype: torch.dtype, scale: float) -> None:
    features = (torch.randn(1, 512, 3, 4, generator=torch.Generator().manual_seed(0)) * scale).to(dtype)
    wanted = torch.nn.functional.normalize(features.double())
    error = torch.linalg.norm(unit_length(features).double() - wanted) / torch.linalg.norm(wanted)
    assert error < {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}[dtype]


def test_a_pixel_without_features_has_no_length() -> None:
    assert not unit_length(torch.zeros(1, 8, 1, 1, dtype=torch.float16)).any()


@pytest.mark.parametrize("name", anchornets.MANIFESTS)
def test_what_is_served_are_the_objects_of_the_definition(name: str) -> None:
    told = anchornets.manifest(name)
    told = told.model_copy(update={"decoder": told.decoder.model_copy(update={"candidates": 60})})
    network = anchornets.network(told)
    seeded = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (1, *told.preprocess.size, 3), dtype=torch.uint8, generator=seeded)
    with torch.inference_mode():
        (logits,), (offsets,) = serve(network, told, torch.float32, "raw")(frames).values()
        found = serve(network, told, torch.float32)(frames)
    # Of candidates that are as good as the last one, to a rounding, others may have been taken.
    floor = float(found["scores"].min()) + _ROUNDING
    wanted = anchornets.objects(logits.numpy(), offsets.numpy(), anchornets.anchors_of(told), told, floor, 1.0)
    solid = found["boxes"][0, :, 0] < found["boxes"][0, :, 2]
    solid &= found["boxes"][0, :, 1] < found["boxes"][0, :, 3]
    scores, boxes = found["scores"][0, solid], found["boxes"][0, solid]
    assert 20 < len(wanted) <= 60
    np.testing.assert_allclose(scores[: len(wanted)], [each.score for each in wanted], rtol=1e-4)
    apart = (boxes[:, None] - torch.tensor([each.box for each in wanted])).abs().amax(2)
    assert apart.amin(0).max() < 0.05  # in whatever order, where scores are all but equal

"""Networks in torch, one file an architecture, imported only when named; never when serving.

A file is a row of `FAMILIES`: it names its variants, builds them, and says which public implementations have the same
keys and shapes, so that their checkpoints load as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from engines.errors import ManifestError
from engines.yamlsource import suggest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from engines.build.base import Operators
    from engines.manifest import Manifest

FAMILIES = {
    "conv3d": "engines.networks.conv3d:CONV3D",
    "faster-rcnn": "engines.networks.two_stage:FASTER_RCNN",
    "flownet": "engines.networks.flownet:FLOWNET",
    "i3d": "engines.networks.i3d:I3D",
    "mask-rcnn": "engines.networks.two_stage:MASK_RCNN",
    "retinanet": "engines.networks.retinanet:RETINANET",
    "slowfast": "engines.networks.slowfast:SLOWFAST",
    "ssd": "engines.networks.ssd:SSD",
    "two-stream": "engines.networks.two_stream:TWO_STREAM",
    "vgg16-stream": "engines.networks.two_stream:VGG16_STREAM",
    "yolox": "engines.networks.yolox:YOLOX",
}


@dataclass(frozen=True, slots=True)
class Published:
    """A network as somebody has published it: `yolox_s` is variant s for the 80 classes of COCO."""

    variant: str
    classes: int


@dataclass(frozen=True, slots=True)
class Family:
    """The networks of one architecture.

    *build* takes a variant and a number of classes. *reference* runs a network on named inputs, and gives named outputs
    as the public implementation does: what both must agree on. A network gives a tensor, or a tuple of them, which
    *outputs* names. Where decoding cannot be left to a head, *served* puts it around a network, with the operators that
    are asked for; then it is this that gives what *outputs* names.
    """

    variants: tuple[str, ...]
    build: Callable[[str, int], nn.Module]
    reference: Callable[[nn.Module, Mapping[str, Tensor]], Mapping[str, Tensor]]
    published: Mapping[str, Published] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("output",)
    served: Callable[[nn.Module, Manifest, Operators], nn.Module] | None = None


def build_network(architecture: str, variant: str | None, classes: int) -> nn.Module:
    """Build a network with random weights. Raises ManifestError for one that is not known."""
    family = find_family(architecture)
    if variant not in family.variants:
        named = repr(variant) if variant else "no variant"
        raise ManifestError(
            f"architecture {architecture!r} has {named}{suggest(variant or '', family.variants)}: "
            "correct 'variant' in the manifest"
        )
    return family.build(variant, classes)


INNER = "network."  # begins the names of a network's tensors in what is put around it


def served_form(network: nn.Module, manifest: Manifest, operators: Operators = "portable") -> nn.Module:
    """Put around a manifest's network what is exported and served with it; often nothing."""
    wrap = find_family(manifest.architecture or "").served
    return network if wrap is None else wrap(network, manifest, operators)


def find_family(architecture: str) -> Family:
    """Import the networks of an *architecture*. Raises ManifestError for one that is not known."""
    if architecture not in FAMILIES:
        raise ManifestError(
            f"there is no network of architecture {architecture!r}{suggest(architecture, FAMILIES)}: "
            "correct 'architecture' in the manifest, or give ONNX weights, which need none"
        )
    module, _, name = FAMILIES[architecture].partition(":")
    family: Family = getattr(import_module(module), name)
    return family


def find_published(name: str) -> tuple[Family, Published] | None:
    """Find the family of a published network, such as `yolox_s`; None where there is none yet."""
    families = map(find_family, FAMILIES)
    return next(((family, family.published[name]) for family in families if name in family.published), None)

"""A network with everything around it that is arithmetic, in torch: the twin of the served ONNX graph.

Bytes in, candidates out: frames uint8 (N, H, W, 3) RGB become `boxes` (N, K, 4) xyxy in pixels of the network's input,
`scores` (N, K) best first, and `classes` (N, K) int32. What is around the network is float32, whatever it computes in.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from engines.build.base import Layout
from engines.errors import BuildError
from engines.manifest import Decoder, Manifest, YoloxDecoder
from engines.networks import find_family
from engines.networks.yolox import AnchorPoints
from engines.types import PixelInput

Outputs = dict[str, Tensor]


class Served(nn.Module):
    """Frames to what the *head* makes of the *body*'s outputs; the body computes in *dtype*."""

    def __init__(self, body: nn.Module, pixels: PixelInput, head: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.pixels = Pixels(pixels)
        self.body = body.to(dtype)
        self.head = head
        self.dtype = dtype

    def forward(self, frames: Tensor) -> Outputs:
        raw = in_tuple(self.body(self.pixels(frames).to(self.dtype)))
        out: Outputs = self.head(*(each.float() for each in raw))
        return out


def in_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Treat a network with one output as those with several."""
    return (outputs,) if isinstance(outputs, Tensor) else outputs


class Pixels(nn.Module):
    """Make float32 (N, 3, H, W) of bytes (N, H, W, 3), in the network's own order of channels, (value - mean) / std."""

    mean: Tensor
    std: Tensor

    def __init__(self, pixels: PixelInput) -> None:
        super().__init__()
        self._reversed = pixels.channels == "bgr"
        self._plain = not any(pixels.mean) and set(pixels.std) == {1.0}
        self.register_buffer("mean", torch.tensor(pixels.mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(pixels.std).reshape(3, 1, 1), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        # A view: the bytes lie channels-last already, which is how convolutions like them.
        planes = frames.permute(0, 3, 1, 2)
        values = (planes.flip(1) if self._reversed else planes).float()
        return values if self._plain else (values - self.mean) / self.std


class Raw(nn.Module):
    """Give the network's own outputs, under the *names* that they have in ONNX."""

    def __init__(self, names: tuple[str, ...] = ("output",)) -> None:
        super().__init__()
        self.names = names

    def forward(self, *raw: Tensor) -> Outputs:
        return dict(zip(self.names, raw, strict=True))


class YoloxHead(nn.Module):
    """Decode the best anchor points alone; an anchor point gives an object for each class that it is sure of.

    No pair of anchor point and class among the K best can belong to an anchor point that is not among the K best, so
    this gives what decoding everything would.
    """

    def __init__(self, points: AnchorPoints, candidates: int) -> None:
        super().__init__()
        self.points = points
        self.candidates = min(candidates, len(points.origin))

    def forward(self, raw: Tensor) -> Outputs:
        best = _rankable(raw[..., 4] * raw[..., 5:].amax(2)).topk(self.candidates, 1).indices
        near = _take(raw, best)
        pairs = _rankable(near[..., 4:5] * near[..., 5:])
        scores, place = pairs.flatten(1).topk(self.candidates, 1)
        row = place // pairs.shape[2]
        centre, size = self.points(near, best)
        boxes = torch.cat((centre - size / 2, centre + size / 2), 2)
        return {"boxes": _take(boxes, row), "scores": scores, "classes": (place % pairs.shape[2]).int()}


def _rankable(scores: Tensor) -> Tensor:
    """Put what is not a number last, as the ONNX head does."""
    return torch.where(scores.isnan(), -1.0, scores)


def _take(values: Tensor, rows: Tensor) -> Tensor:
    """Gather rows (N, K) of values (N, A, W)."""
    return values.gather(1, rows.unsqueeze(2).expand(-1, -1, values.shape[2]))


def _yolox(decoder: Decoder, size: tuple[int, int]) -> nn.Module:
    assert isinstance(decoder, YoloxDecoder)  # noqa: S101 - by the table
    return YoloxHead(AnchorPoints(size, decoder.strides), decoder.candidates)


_HEADS: dict[str, Callable[[Decoder, tuple[int, int]], nn.Module]] = {"yolox": _yolox}


def make_head(manifest: Manifest, layout: Layout = "candidates") -> nn.Module:
    """Make what follows the network. Raises BuildError for a decoder that has no head in torch."""
    if layout == "raw":
        return Raw(find_family(manifest.architecture or "").outputs)
    kind = manifest.decoder.kind
    if kind not in _HEADS:
        raise BuildError(
            f"{manifest.name}: decoder {kind} has no head in torch, only {', '.join(_HEADS)}: take layout raw, or "
            "another runtime"
        )
    return _HEADS[kind](manifest.decoder, manifest.preprocess.size)


def serve(network: nn.Module, manifest: Manifest, dtype: torch.dtype, layout: Layout = "candidates") -> Served:
    """Put a manifest's own pixels and head around its network. Raises BuildError as `make_head` does."""
    told = manifest.preprocess
    return Served(network, PixelInput(told.channels, told.mean, told.std), make_head(manifest, layout), dtype).eval()

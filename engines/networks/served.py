"""A network with everything around it that is arithmetic, in torch: the twin of the served ONNX graph.

Bytes in, candidates out: frames uint8 (N, H, W, 3) RGB become `boxes` (N, K, 4) xyxy in pixels of the network's input,
`scores` (N, K) best first, and `classes` (N, K) int32. What is around the network is float32, whatever it computes in.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engines.build.base import Layout
from engines.feeds import Feed, feed_of
from engines.manifest import Manifest
from engines.networks import served_form
from engines.networks.heads import Outputs, make_head
from engines.types import PixelInput


class Served(nn.Module):
    """Frames to what the *head* makes of the *body*'s outputs; the body takes images in *dtype*."""

    def __init__(self, body: nn.Module, feed: Feed, head: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.feeding = Feeding(feed)
        self.body = body
        self.head = head
        self.dtype = dtype

    def forward(self, frames: Tensor) -> Outputs:
        raw = in_tuple(self.body(self.feeding(frames).to(self.dtype)))
        out: Outputs = self.head(*(each.float() for each in raw))
        return out


def in_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Treat a network with one output as those with several."""
    return (outputs,) if isinstance(outputs, Tensor) else outputs


class Feeding(nn.Module):
    """Make what a network takes, in float32, of what its graph is fed: see `engines.feeds`."""

    mean: Tensor
    std: Tensor

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self._form = feed.form
        self._limit = None if isinstance(feed.values, PixelInput) else feed.values
        pixels = feed.values if isinstance(feed.values, PixelInput) else PixelInput()
        self._reversed = pixels.channels == "bgr"
        self._plain = not any(pixels.mean) and set(pixels.std) == {1.0}
        shape = (3, 1, 1, 1) if feed.form == "volume" else (3, 1, 1)
        self.register_buffer("mean", torch.tensor(pixels.mean).reshape(shape), persistent=False)
        self.register_buffer("std", torch.tensor(pixels.std).reshape(shape), persistent=False)

    def forward(self, fed: Tensor) -> Tensor:
        # A view: the bytes of images lie channels-last already, which is how convolutions like them.
        if self._form == "volume":
            return self._scaled(fed.permute(0, 4, 1, 2, 3), 1)
        if self._form == "image":
            return self._scaled(fed.permute(0, 3, 1, 2), 1)
        return self._scaled(fed.permute(0, 1, 4, 2, 3), 2).flatten(1, 2)

    def _scaled(self, planes: Tensor, channels: int) -> Tensor:
        if self._limit is not None:
            return planes.float().clamp(-self._limit, self._limit) / self._limit
        values = (planes.flip(channels) if self._reversed else planes).float()
        return values if self._plain else (values - self.mean) / self.std


def serve(network: nn.Module, manifest: Manifest, dtype: torch.dtype, layout: Layout = "candidates") -> Served:
    """Put what a manifest feeds and its head around its network. Raises BuildError as `make_head` does."""
    body = served_form(network.to(dtype), manifest)
    return Served(body, feed_of(manifest), make_head(manifest, layout), dtype).eval()


def example(manifest: Manifest) -> Tensor:
    """Make two rows of noise that a manifest's graph may be fed: two, for with one the batch becomes a constant."""
    feed, generator = feed_of(manifest), torch.Generator().manual_seed(0)
    if isinstance(feed.values, PixelInput):
        return torch.randint(0, 256, (2, *feed.shape), dtype=torch.uint8, generator=generator)
    return (torch.rand(2, *feed.shape, generator=generator) * 2 - 1) * feed.values

"""What a network for optical flow is taught with: two images, and the exact motion between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engines.geometry import Size
from engines.train.data.photometry import Photometry, disturb
from engines.types import Bool, Float, Image, check

Generator = np.random.Generator


@dataclass(frozen=True, slots=True, eq=False)
class FlowPair:
    """Two images, and the motion from the earlier to the later one."""

    before: Image  # (H, W, 3)
    after: Image
    uv: Float  # (H, W, 2) pixels: to the right and down
    known: Bool  # (H, W)

    def __post_init__(self) -> None:
        check("after", self.after, self.before.shape, np.uint8)
        check("uv", self.uv, (*self.before.shape[:2], 2), np.float32)
        check("known", self.known, self.before.shape[:2], np.bool_)

    def cut(self, rng: Generator, size: Size) -> FlowPair:
        """Cut the same part out of all, at random. Raises ValueError where there is less than that."""
        height, width = self.known.shape
        if height < size[0] or width < size[1]:
            raise ValueError(f"a pair of {width} x {height} has no part of {size[1]} x {size[0]}")
        top, left = int(rng.integers(height - size[0] + 1)), int(rng.integers(width - size[1] + 1))
        part = slice(top, top + size[0]), slice(left, left + size[1])
        return FlowPair(self.before[part], self.after[part], self.uv[part], self.known[part])

    def flipped(self, rng: Generator) -> FlowPair:
        """Mirror both images, at random across and down; what went right then goes left."""
        across, down = (int(n) for n in rng.choice((-1, 1), 2))
        turn = slice(None, None, down), slice(None, None, across)
        uv = self.uv[turn] * np.array([across, down], np.float32)
        return FlowPair(self.before[turn], self.after[turn], uv, self.known[turn])

    def disturbed(self, rng: Generator, amount: Photometry) -> FlowPair:
        """Change the light, and add noise."""
        before, after = disturb(rng, (self.before, self.after), amount)
        return FlowPair(before, after, self.uv, self.known)


@dataclass(frozen=True, slots=True)
class FlowBatch:
    """Pairs as a graph for flow is fed, and the truth as its network gives it."""

    frames: Tensor  # uint8 (N, 2, H, W, 3)
    flow: Tensor  # float32 (N, 2, H, W), in pixels
    known: Tensor  # bool (N, H, W)


def batched(pairs: Sequence[FlowPair]) -> FlowBatch:
    """Put pairs of one size together."""
    frames = np.stack([np.stack([pair.before, pair.after]) for pair in pairs])
    flow = np.stack([pair.uv for pair in pairs]).transpose(0, 3, 1, 2)
    known = np.stack([pair.known for pair in pairs])
    return FlowBatch(torch.from_numpy(frames), torch.from_numpy(np.ascontiguousarray(flow)), torch.from_numpy(known))

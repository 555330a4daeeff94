"""SlowFast: few frames through a wide network for what is there, many through a narrow one for how it moves.

Feichtenhofer et al. 2019, "SlowFast Networks for Video Recognition", https://arxiv.org/abs/1812.03982. Keys and shapes
are those of pytorchvideo's SLOWFAST_8x8_R50.pyth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from engines.networks import Family, Published
from engines.networks.blocks3d import ONE, Triple, conv_norm, mean_features, window_means

ALPHA = 4  # the fast pathway sees as many times the frames of the slow one
_BETA = 8  # and has this fraction of its channels
_DEPTHS = (3, 4, 6, 3)  # blocks of each stage
_SLOW_TIMES, _FAST_TIMES = (1, 1, 3, 3), (3, 3, 3, 3)  # frames that the first convolution of a block sees
_WINDOW = 7  # a side of the map that an image of 224 leaves, over which the head averages
_TIME_WINDOW = 1 << 30  # the head averages over all of time


class Stem(nn.Module):
    """A quarter of the size, for a first look."""

    def __init__(self, outputs: int, time: int) -> None:
        super().__init__()
        self.conv, self.norm = conv_norm(3, outputs, (time, 7, 7), (1, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool3d(F.relu(self.norm(self.conv(x))), (1, 3, 3), (1, 2, 2), (0, 1, 1))


class Bottleneck(nn.Module):
    """Narrow, looking around in time; look around in space; widen."""

    def __init__(self, inputs: int, outputs: int, time: int, stride: Triple) -> None:
        super().__init__()
        inner = outputs // 4
        self.conv_a, self.norm_a = conv_norm(inputs, inner, (time, 1, 1))
        self.conv_b, self.norm_b = conv_norm(inner, inner, (1, 3, 3), stride)
        self.conv_c, self.norm_c = conv_norm(inner, outputs, ONE)

    def forward(self, x: Tensor) -> Tensor:
        near = F.relu(self.norm_a(self.conv_a(x)))
        near = F.relu(self.norm_b(self.conv_b(near)))
        out: Tensor = self.norm_c(self.conv_c(near))
        return out


class Block(nn.Module):
    """Add what a bottleneck finds to what it was given."""

    def __init__(self, inputs: int, outputs: int, time: int, stride: Triple) -> None:
        super().__init__()
        self.branch2 = Bottleneck(inputs, outputs, time, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.branch2(x))


class Reshaping(Block):
    """A block whose output has another shape, so that what it was given takes on that shape as well."""

    def __init__(self, inputs: int, outputs: int, time: int, stride: Triple) -> None:
        super().__init__(inputs, outputs, time, stride)
        self.branch1_conv, self.branch1_norm = conv_norm(inputs, outputs, ONE, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.branch1_norm(self.branch1_conv(x)) + self.branch2(x))


class Blocks(nn.Module):
    """The blocks of one pathway in one stage."""

    def __init__(self, depth: int, inputs: int, outputs: int, time: int, stride: Triple) -> None:
        super().__init__()
        first = Reshaping(inputs, outputs, time, stride)
        self.res_blocks = nn.Sequential(first, *(Block(outputs, outputs, time, ONE) for _ in range(depth - 1)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.res_blocks(x)
        return out


class Fusion(nn.Module):
    """Tell the slow pathway what the fast one has seen."""

    def __init__(self, fast: int) -> None:
        super().__init__()
        self.conv_fast_to_slow, self.norm = conv_norm(fast, 2 * fast, (7, 1, 1), (ALPHA, 1, 1))

    def forward(self, slow: Tensor, fast: Tensor) -> Tensor:
        return torch.cat((slow, F.relu(self.norm(self.conv_fast_to_slow(fast)))), 1)


class Stage(nn.Module):
    """Both pathways a step further, each on its own."""

    def __init__(self, slow: nn.Module, fast: nn.Module) -> None:
        super().__init__()
        self.multipathway_blocks = nn.ModuleList((slow, fast))

    def forward(self, slow: Tensor, fast: Tensor) -> tuple[Tensor, Tensor]:
        return self.multipathway_blocks[0](slow), self.multipathway_blocks[1](fast)


class FusedStage(Stage):
    """Both pathways a step further, and then the slow one learns of the fast."""

    def __init__(self, slow: nn.Module, fast: nn.Module, width: int) -> None:
        super().__init__(slow, fast)
        self.multipathway_fusion = Fusion(width // _BETA)

    def forward(self, slow: Tensor, fast: Tensor) -> tuple[Tensor, Tensor]:
        slow, fast = super().forward(slow, fast)
        return self.multipathway_fusion(slow, fast), fast


class Head(nn.Module):
    """Average what both pathways know over windows of the image, and classify it."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.proj = nn.Linear(features, classes)

    def forward(self, slow: Tensor, fast: Tensor) -> Tensor:
        window = (_TIME_WINDOW, _WINDOW, _WINDOW)
        means = [mean_features(window_means(x, window)) for x in (slow, fast)]
        scores: Tensor = self.proj(torch.cat(means, 1))
        return scores


class SlowFast(nn.Module):
    """Clips (N, 3, T, H, W) of which the slow pathway sees a quarter of the frames, to logits (N, classes).

    The public weights are for 32 frames, normalised.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        stem = FusedStage(Stem(64, 1), Stem(64 // _BETA, 5), 64)
        # Between them lies what has no weights, but is counted.
        self.blocks = nn.ModuleList((stem, *map(_stage, range(4)), nn.Identity(), Head(2048 + 2048 // _BETA, classes)))

    def forward(self, clip: Tensor) -> Tensor:
        slow = torch.tensor(slow_frames(clip.shape[2]), device=clip.device)
        return self.pathways(clip.index_select(2, slow), clip)

    def pathways(self, slow: Tensor, fast: Tensor) -> Tensor:
        """Classify what is on both pathways already: (N, 3, T / 4, H, W) and (N, 3, T, H, W)."""
        *stages, _, head = self.blocks
        for stage in stages:
            slow, fast = stage(slow, fast)
        scores: Tensor = head(slow, fast)
        return scores


def slow_frames(count: int) -> Sequence[int]:
    """Choose the frames of the slow pathway as pytorchvideo does, from the first to the last: a linspace, cut off."""
    slow = count // ALPHA
    return [i * (count - 1) // max(slow - 1, 1) for i in range(slow)]


def _stage(number: int) -> Stage:
    width = 256 << number
    inputs = 64 if number == 0 else width // 2
    stride = ONE if number == 0 else (1, 2, 2)
    fused = inputs + 2 * inputs // _BETA
    slow = Blocks(_DEPTHS[number], fused, width, _SLOW_TIMES[number], stride)
    fast = Blocks(_DEPTHS[number], inputs // _BETA, width // _BETA, _FAST_TIMES[number], stride)
    return FusedStage(slow, fast, width) if number < 3 else Stage(slow, fast)


def _reference(network: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    assert isinstance(network, SlowFast)  # noqa: S101 - by the table
    return {"scores": network.pathways(inputs["slow"], inputs["fast"])}


SLOWFAST = Family(
    variants=("8x8-r50",),
    build=lambda _variant, classes: SlowFast(classes),
    reference=_reference,
    published={"slowfast_r50": Published("8x8-r50", classes=400)},
    outputs=("logits",),
)

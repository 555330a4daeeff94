"""What networks of several families are made of; the names of attributes are the keys of public checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import TypeAlias, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Makes a convolution that looks around: input channels, output channels, kernel, stride.
Spatial: TypeAlias = Callable[[int, int, int, int], nn.Module]


class ConvNorm(nn.Module):
    """Convolve so that a stride of one keeps the size, normalise, and activate with SiLU."""

    # The public YOLOX models are built with these, not with torch's own.
    eps, momentum = 1e-3, 0.03

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, self.eps, self.momentum)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


class Separable(nn.Module):
    """Convolve each channel on its own, then mix them pixel by pixel: a fraction of the arithmetic.

    Howard et al. 2017, "MobileNets", https://arxiv.org/abs/1704.04861
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.dconv = ConvNorm(inputs, inputs, kernel, stride, groups=inputs)
        self.pconv = ConvNorm(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pconv(self.dconv(x))
        return out


class Bottleneck(nn.Module):
    """Mix the channels, then look around."""

    def __init__(self, channels: int, spatial: Spatial) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, channels)
        self.conv2 = spatial(channels, channels, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.conv1(x))
        return out


class Residual(Bottleneck):
    """Add what a bottleneck finds to what it was given."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class CrossStage(nn.Module):
    """Send half of the channels through a chain of bottlenecks, and the other half past it.

    Wang et al. 2019, "CSPNet", https://arxiv.org/abs/1911.11929
    """

    def __init__(self, inputs: int, outputs: int, depth: int, block: type[Bottleneck], spatial: Spatial) -> None:
        super().__init__()
        half = outputs // 2
        self.conv1 = ConvNorm(inputs, half)
        self.conv2 = ConvNorm(inputs, half)
        self.conv3 = ConvNorm(2 * half, outputs)
        self.m = nn.Sequential(*(block(half, spatial) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv3(torch.cat((self.m(self.conv1(x)), self.conv2(x)), 1))
        return out


class PyramidPooling(nn.Module):
    """Show every pixel the strongest values around it, near and far.

    He et al. 2014, "Spatial Pyramid Pooling", https://arxiv.org/abs/1406.4729, as YOLO has it: at a stride of one.
    """

    def __init__(self, inputs: int, outputs: int, kernels: tuple[int, ...] = (5, 9, 13)) -> None:
        super().__init__()
        half = inputs // 2
        self.conv1 = ConvNorm(inputs, half)
        self.m = nn.ModuleList(nn.MaxPool2d(kernel, 1, kernel // 2) for kernel in kernels)
        self.conv2 = ConvNorm(half * (1 + len(kernels)), outputs)

    def forward(self, x: Tensor) -> Tensor:
        near = self.conv1(x)
        out: Tensor = self.conv2(torch.cat((near, *(pool(near) for pool in self.m)), 1))
        return out


class Focus(nn.Module):
    """Halve the size, keeping every pixel: each square of four becomes four times the channels."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = ConvNorm(4 * inputs, outputs, kernel)

    def forward(self, x: Tensor) -> Tensor:
        even, odd = x[..., ::2, :], x[..., 1::2, :]
        out: Tensor = self.conv(torch.cat((even[..., ::2], odd[..., ::2], even[..., 1::2], odd[..., 1::2]), 1))
        return out


def fold_norms(network: nn.Module) -> nn.Module:
    """Fold every normalisation into the convolution before it, in place; a network in training mode would lose it.

    The convolution before it is the one that its module was given just before it: conv1, bn1, conv2, bn2.
    """
    for module, _, (before, conv), (name, norm) in [*_normed(network.eval())]:
        setattr(module, before, fuse_conv_bn_eval(conv, norm))
        setattr(module, name, nn.Identity())
    return network


def unfold_norms(network: nn.Module, folded: Mapping[str, Tensor], norms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take apart what `fold_norms` left of a state dict, by the tensors of the normalisations that it was folded from.

    *network* is as it was before. A convolution whose normalisation is not among *norms* stays as it is.
    """
    out = {**folded, **norms}
    for _, place, (before, conv), (name, norm) in _normed(network):
        kernel, bias = f"{place}{before}.weight", f"{place}{before}.bias"
        gain, shift, mean, spread = (norms.get(f"{place}{name}.{each}") for each in _NORM)
        if gain is None or shift is None or mean is None or spread is None or not folded.keys() >= {kernel, bias}:
            continue
        factor = gain.float() * (spread.float() + norm.eps).rsqrt()
        back = torch.where(factor == 0, 0.0, 1 / factor)  # what a gain of zero left is zero
        values = folded[kernel].float()
        out[kernel] = values * back.reshape(-1, *[1] * (values.ndim - 1))
        if conv.bias is None:
            del out[bias]
        else:
            out[bias] = (folded[bias].float() - shift.float()) * back + mean.float()
    return out


def folded_away(network: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Tell whether a state dict has convolutions of a network, but lacks the normalisations behind them."""
    return any(
        f"{place}{before}.weight" in state and f"{place}{name}.{_NORM[-1]}" not in state
        for _, place, (before, _), (name, _) in _normed(network)
    )


_NORM = ("weight", "bias", "running_mean", "running_var")  # a normalisation's tensors
_Conv: TypeAlias = nn.Conv2d | nn.Conv3d


def _normed(network: nn.Module) -> Iterator[tuple[nn.Module, str, tuple[str, _Conv], tuple[str, _BatchNorm]]]:
    """Find each convolution with a normalisation behind it: their module, its place ("" or "a."), and both by name."""
    for path, module in list(network.named_modules()):
        for (before, conv), (name, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d | nn.Conv3d) and _is_norm(norm):
                yield module, f"{path}." if path else "", (before, conv), (name, norm)


def _is_norm(module: nn.Module) -> TypeGuard[_BatchNorm]:
    """Tell a normalisation whose figures are known beforehand, frozen or not."""
    return isinstance(getattr(module, "running_var", None), Tensor)

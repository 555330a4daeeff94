"""FlowNet: how far each pixel has moved from one image to the next, coarsely at first.

Dosovitskiy et al. 2015, "FlowNet: Learning Optical Flow with Convolutional Networks",
https://arxiv.org/abs/1504.06852. Keys and shapes are those of ClementPinard/FlowNetPytorch's checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from engines.networks import Family, Published
from engines.networks.correlation import DISPLACEMENTS, correlate
from engines.networks.exact import Exact

PIXELS = 20.0  # of the input, to one unit of output
_SLOPE = 0.1  # of what is below zero
_REDIRECTED = 32  # channels of the first image beside the correlation
_FLOW = 2
_WIDE = 64  # channels of the first features
_HALVINGS = 3  # of images, before they are looked at first
_CELL = 4 * 2**_HALVINGS  # pixels: of the finest flow that is found there

Fields = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # flow at strides 4, 8, 16, 32 and 64

# Makes a convolution: channels in, channels out, kernel, stride.
Conv = Callable[[int, int, int, int], nn.Sequential]


def _plain(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), nn.LeakyReLU(_SLOPE))


def _normed(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.LeakyReLU(_SLOPE))


def _doubling(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)


def _predicting(inputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, _FLOW, 3, padding=1, bias=False)


class FlowNet(nn.Module):
    """Pairs (N, 6, H, W) of RGB images to flow (N, 2, H / 4, W / 4), u and v in units of 20 pixels; sides round up.

    What subclasses do is find the features that are coarse enough; the public weights want pixels in 0..1 less their
    mean (0.411, 0.432, 0.45), and are 64 channels wide at first.
    """

    def __init__(self, inputs: int, found: int, conv: Conv, wide: int = _WIDE) -> None:
        super().__init__()
        self.conv1 = conv(inputs, wide, 7, 2)
        self.conv2 = conv(wide, 2 * wide, 5, 2)
        self.conv3 = conv(2 * wide, 4 * wide, 5, 2)
        self.conv3_1 = conv(found, 4 * wide, 3, 1)
        self.conv4, self.conv4_1 = conv(4 * wide, 8 * wide, 3, 2), conv(8 * wide, 8 * wide, 3, 1)
        self.conv5, self.conv5_1 = conv(8 * wide, 8 * wide, 3, 2), conv(8 * wide, 8 * wide, 3, 1)
        self.conv6, self.conv6_1 = conv(8 * wide, 16 * wide, 3, 2), conv(16 * wide, 16 * wide, 3, 1)
        self.predict_flow6 = _predicting(16 * wide)
        self.deconv5, self.upsampled_flow6_to_5 = _raising(16 * wide, 8 * wide)
        self.predict_flow5 = _predicting(16 * wide + _FLOW)
        self.deconv4, self.upsampled_flow5_to_4 = _raising(16 * wide + _FLOW, 4 * wide)
        self.predict_flow4 = _predicting(12 * wide + _FLOW)
        self.deconv3, self.upsampled_flow4_to_3 = _raising(12 * wide + _FLOW, 2 * wide)
        self.predict_flow3 = _predicting(6 * wide + _FLOW)
        self.deconv2, self.upsampled_flow3_to_2 = _raising(6 * wide + _FLOW, wide)
        self.predict_flow2 = _predicting(3 * wide + _FLOW)

    def forward(self, pair: Tensor) -> Tensor:
        return self.looks(pair)[-1][0]

    def fields(self, pair: Tensor) -> Fields:
        """Find flow at strides 4, 8, 16, 32 and 64, the finest first: what training compares with the truth."""
        two, three = self.find(pair)
        four = self.conv4_1(self.conv4(three))
        five = self.conv5_1(self.conv5(four))
        six = self.conv6_1(self.conv6(five))
        flow6 = self.predict_flow6(six)
        five = _joined(five, self.deconv5(six), self.upsampled_flow6_to_5(flow6))
        flow5 = self.predict_flow5(five)
        four = _joined(four, self.deconv4(five), self.upsampled_flow5_to_4(flow5))
        flow4 = self.predict_flow4(four)
        three = _joined(three, self.deconv3(four), self.upsampled_flow4_to_3(flow4))
        flow3 = self.predict_flow3(three)
        two = _joined(two, self.deconv2(three), self.upsampled_flow3_to_2(flow3))
        return self.predict_flow2(two), flow3, flow4, flow5, flow6

    def looks(self, pair: Tensor) -> tuple[Fields, ...]:
        """Give the fields of each time that the pair is looked at, the last time's last: one is enough for most."""
        return (self.fields(pair),)

    def find(self, pair: Tensor) -> tuple[Tensor, Tensor]:
        """Give features at stride 4, twice as wide as the first, and 8, four times: (N, 128, h, w) and (N, 256, …)."""
        raise NotImplementedError


def _raising(inputs: int, outputs: int) -> tuple[nn.Sequential, nn.ConvTranspose2d]:
    """Make what doubles the size of features, and of the flow that was found with them."""
    return nn.Sequential(_doubling(inputs, outputs), nn.LeakyReLU(_SLOPE)), _doubling(_FLOW, _FLOW)


def _joined(fine: Tensor, *coarser: Tensor) -> Tensor:
    """Stack what has become of coarser maps on a finer one; where its sides are odd, they are longer by one."""
    rows, columns = fine.shape[2:]
    return torch.cat((fine, *(x if x.shape[2:] == fine.shape[2:] else x[:, :, :rows, :columns] for x in coarser)), 1)


def _resized(field: Tensor, like: Tensor) -> Tensor:
    """Read a field at the places of another; it goes on saying the same."""
    size = like.shape[2], like.shape[3]
    return F.interpolate(field, size, mode="bilinear", align_corners=False)


class FlowNetS(FlowNet):
    """Both images go through the network as one: "simple"."""

    def __init__(self, conv: Conv, wide: int = _WIDE) -> None:
        super().__init__(6, 4 * wide, conv, wide)

    def find(self, pair: Tensor) -> tuple[Tensor, Tensor]:
        two = self.conv2(self.conv1(pair))
        return two, self.conv3_1(self.conv3(two))


class FlowNetPyramid(FlowNetS):
    """Look at both images in an eighth of their size, and in twice that up to all of it: at what is left each time.

    For that the later image is brought back by what has been found: Ranjan and Black 2017, "SPyNet",
    https://arxiv.org/abs/1611.00850. It is the same weights that look: Hur and Roth 2019, "Iterative Residual
    Refinement", https://arxiv.org/abs/1904.05290. To `looks`, sides are multiples of 32.
    """

    def __init__(self, conv: Conv, wide: int = _WIDE) -> None:
        super().__init__(conv, wide)
        self.bring_back = BringBack()

    def forward(self, pair: Tensor) -> Tensor:
        found, (rows, columns) = self.looks(_filled(pair))[-1][0], (-(-side // 4) for side in pair.shape[2:])
        return found if found.shape[2:] == (rows, columns) else found[:, :, :rows, :columns]

    def looks(self, pair: Tensor) -> tuple[Fields, ...]:
        sizes = [pair]
        for _ in range(_HALVINGS):
            sizes.append(_halved(sizes[-1]))
        looks = [_times(2**_HALVINGS, self.fields(sizes.pop()))]
        while sizes:
            shrunk, images = 2 ** (len(sizes) - 1), sizes.pop()
            # Each look learns from its own errors only: those before have theirs to learn from.
            found = looks[-1][0].detach()
            back = self.bring_back(images[:, 3:], _resized(found, images) / shrunk)
            left = _times(shrunk, self.fields(torch.cat((images[:, :3], back), 1)))
            looks.append(_plus(left, found))
        return tuple(looks)


def _times(factor: int, fields: Fields) -> Fields:
    two, three, four, five, six = (factor * field for field in fields)
    return two, three, four, five, six


def _plus(fields: Fields, found: Tensor) -> Fields:
    """Add what was found before to the fields of what was left."""
    two, three, four, five, six = (field + _resized(found, field) for field in fields)
    return two, three, four, five, six


def _filled(images: Tensor) -> Tensor:
    """Go on beyond the last row and column, to sides that the smallest size divides into cells."""
    below, beside = (-side % _CELL for side in images.shape[2:])
    return F.pad(images, (0, beside, 0, below), "replicate") if below or beside else images


def _halved(images: Tensor) -> Tensor:
    """Average 2 x 2 pixels: a convolution, for a pool of six channels takes OpenVINO five times as long."""
    channels = images.shape[1]
    mean = images.new_full((channels, 1, 2, 2), 1 / 4)
    return F.conv2d(images, mean, stride=2, groups=channels)


class BringBack(Exact):
    """Move each pixel of an image (N, 3, H, W) back by a flow (N, 2, H, W); beyond its border it goes on as it ends."""

    def forward(self, image: Tensor, flow: Tensor) -> Tensor:
        height, width = image.shape[2:]
        x = torch.arange(width, dtype=torch.float32, device=image.device)
        y = torch.arange(height, dtype=torch.float32, device=image.device)[:, None]
        u, v = torch.split(flow.float() * PIXELS, 1, 1)
        # As grid_sample counts: from -1 to 1, from the first pixel's outer edge to the last one's.
        grid = torch.cat(((2 * (x + u) + 1) / width - 1, (2 * (y + v) + 1) / height - 1), 1).permute(0, 2, 3, 1)
        moved = F.grid_sample(image.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
        return moved.to(image.dtype)


class FlowNetC(FlowNet):
    """Each image goes through the network by itself, and then it is seen where they are alike: "corr"."""

    def __init__(self, conv: Conv) -> None:
        super().__init__(3, _REDIRECTED + DISPLACEMENTS, conv)
        self.conv_redir = conv(256, _REDIRECTED, 1, 1)

    def find(self, pair: Tensor) -> tuple[Tensor, Tensor]:
        two = self.conv2(self.conv1(pair[:, :3]))
        first, second = self.conv3(two), self.conv3(self.conv2(self.conv1(pair[:, 3:])))
        alike = F.leaky_relu(correlate(first, second), _SLOPE)
        return two, self.conv3_1(torch.cat((self.conv_redir(first), alike), 1))


VARIANTS: dict[str, Callable[[], FlowNet]] = {
    "s": lambda: FlowNetS(_plain),
    "s-bn": lambda: FlowNetS(_normed),
    "c": lambda: FlowNetC(_plain),
    "c-bn": lambda: FlowNetC(_normed),
    "s-pico": lambda: FlowNetS(_plain, 16),
    "pyramid-pico": lambda: FlowNetPyramid(_plain, 16),
}


def _reference(network: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {"flow2": network(inputs["pair"])}


FLOWNET = Family(
    variants=tuple(VARIANTS),
    build=lambda variant, _classes: VARIANTS[variant](),
    reference=_reference,
    published={
        "flownets": Published("s", classes=0),
        "flownets_bn": Published("s-bn", classes=0),
        "flownetc": Published("c", classes=0),
        "flownetc_bn": Published("c-bn", classes=0),
    },
    outputs=("flow",),
)

"""How alike the places of two images are at every displacement: FlowNetC's correlation, in plain operators.

Dosovitskiy et al. 2015, "FlowNet", https://arxiv.org/abs/1504.06852, section 3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

STEP = 2  # pixels between displacements
REACH = 20  # pixels, the farthest of them, either way
SIDE = 2 * REACH // STEP + 1
DISPLACEMENTS = SIDE * SIDE


def correlate(first: Tensor, second: Tensor) -> Tensor:
    """Average over channels what each place of *first* has in common with those of *second* around it.

    Takes two maps (N, C, H, W), gives (N, 441, H, W): channel 21 i + j is the displacement by 2 (i - 10) rows and
    2 (j - 10) columns. Beyond its border an image is zero.
    """
    rows, columns = first.shape[2:]
    groups = -(-columns // STEP)
    rest = groups * STEP - columns
    each = first.shape[1] ** -0.5  # both before they are multiplied: a half could not hold their sum
    near = _by_remainder(F.pad(first * each, (0, rest))).transpose(3, 4)
    far = _by_remainder(F.pad(second * each, (REACH, REACH + rest, REACH, REACH)))
    # Every column of a row with every other is more arithmetic than is asked for, but as one product of matrices it
    # takes a fraction of the time that 441 small products take.
    pairs = torch.stack([near @ far[:, row : row + rows] for row in range(0, 2 * REACH + 1, STEP)], 1)
    return _band(pairs).permute(0, 1, 5, 2, 4, 3).reshape(-1, DISPLACEMENTS, rows, groups * STEP)[..., :columns]


def _by_remainder(x: Tensor) -> Tensor:
    """Part even columns from odd ones, which never meet: (N, C, H, W) to (N, H, 2, C, W / 2)."""
    channels, rows, columns = x.shape[1:]
    return x.reshape(-1, channels, rows, columns // STEP, STEP).permute(0, 2, 4, 1, 3)


def _band(pairs: Tensor) -> Tensor:
    """Take from matrices (…, W, W + 20) the 21 diagonals from the main one on: (…, W, 21).

    Written into rows that are longer by one, each row starts a place further on.
    """
    side, rows, remainders, width, wide = pairs.shape[1:]
    flat = F.pad(pairs.flatten(4), (0, width))
    return flat.reshape(-1, side, rows, remainders, width, wide + 1)[..., :SIDE]

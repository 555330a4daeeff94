"""What a network for actions is taught with: short clips of pictures or of motion, and what is done in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engines.geometry import Size
from engines.manifest import ClipInput, Manifest
from engines.train.errors import TrainingError
from engines.types import Array


@dataclass(frozen=True, slots=True)
class ClipSpec:
    """What a clip is: as a manifest says what its network looks at."""

    told: ClipInput
    size: Size

    @classmethod
    def of(cls, manifest: Manifest) -> ClipSpec:
        """Read it out of a manifest. Raises TrainingError for a model that looks at no clips."""
        if manifest.clip is None:
            raise TrainingError(f"{manifest.name} looks at no clips: name a network that recognises actions")
        return cls(manifest.clip, manifest.preprocess.size)

    @property
    def seconds(self) -> float:
        """The time from its first to its last sample."""
        return (self.told.length - 1) / self.told.fps


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One clip: uint8 (T, H, W, 3) of colours, or float32 (T, H, W, 2) of motion in its pixels, from tick to tick."""

    samples: Array
    label: int


@dataclass(frozen=True, slots=True)
class ClipBatch:
    """Clips as a graph is fed with them."""

    samples: Tensor  # (N, T, H, W, C)
    labels: Tensor  # int64 (N,)


def batched(examples: Sequence[Example]) -> ClipBatch:
    """Put clips of one shape together."""
    samples = torch.from_numpy(np.stack([each.samples for each in examples]))
    return ClipBatch(samples, torch.tensor([each.label for each in examples]))

"""What it costs to name the wrong action.

Label smoothing: Szegedy et al. 2015, "Rethinking the Inception Architecture", https://arxiv.org/abs/1512.00567.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

SMOOTHING = 0.1  # of the certainty, shared out among all classes


def cross_entropy(logits: Tensor, truth: Tensor, smoothing: float = SMOOTHING) -> Tensor:
    """Average over clips, in float32, what *logits* (N, C) lack of the *truth*, class ids int64 (N,).

    An id of -1 is a clip of which nobody knows what it shows: it costs nothing.
    """
    known = truth >= 0
    lost = F.cross_entropy(logits.float(), truth, ignore_index=-1, label_smoothing=smoothing, reduction="sum")
    return lost / known.sum().clamp_min(1)

"""How far a flow field is from the truth: endpoint error and the share of outliers.

Endpoint error: Baker et al. 2011, "A Database and Evaluation Methodology for Optical Flow". Outliers: Menze and Geiger
2015, "Object Scene Flow for Autonomous Vehicles": wrong by 3 pixels or more, and by 5 % of the true motion.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from engines.types import Bool, Float

_OUTLIER_PIXELS, _OUTLIER_SHARE = 3.0, 0.05


@dataclass(frozen=True, slots=True)
class FlowError:
    """Errors over a number of pixels; NaN over none."""

    endpoint: float  # pixels, averaged over all pixels of all fields
    outliers: float  # a share of them, 0..1
    pixels: int

    @classmethod
    def mean(cls, errors: Iterable[FlowError]) -> FlowError:
        """Average over fields, by their pixels."""
        counted = [each for each in errors if each.pixels]
        if not counted:
            return cls(float("nan"), float("nan"), 0)
        weights = [each.pixels for each in counted]
        endpoint = float(np.average([each.endpoint for each in counted], weights=weights))
        return cls(endpoint, float(np.average([each.outliers for each in counted], weights=weights)), sum(weights))


def flow_error(truth: Float, found: Float, known: Bool | None = None) -> FlowError:
    """Compare two fields (H, W, 2), in pixels, where the truth is *known* (H, W), everywhere without.

    Raises ValueError for fields of two sizes.
    """
    if truth.shape != found.shape:
        raise ValueError(f"the truth is {truth.shape}, but what was found {found.shape}")
    error = np.linalg.norm(found.astype(np.float64) - truth, axis=2)
    length = np.linalg.norm(truth.astype(np.float64), axis=2)
    if known is not None:
        error, length = error[known], length[known]
    if not error.size:
        return FlowError(float("nan"), float("nan"), 0)
    # What is not a number is as wrong as can be.
    outliers = ~(error < _OUTLIER_PIXELS) & ~(error < _OUTLIER_SHARE * length)
    return FlowError(float(error.mean()), float(outliers.mean()), error.size)

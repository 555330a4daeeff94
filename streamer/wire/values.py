"""Arrays and names to what JSON holds. No scalar of NumPy is ever touched one by one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.types import Array
from streamer.wire.base import WireError
from streamer.wire.facts import NodeFacts


class NotFinite(Exception):  # noqa: N818 - the encoder makes a WireError of it
    """Says which field."""


def finite(value: float, name: str) -> float:
    if not math.isfinite(value):
        raise WireError(f"{name}: {value} is not finite; check the source")
    return value


def rounded(array: Array, decimals: int, name: str) -> Any:
    """Turn an array into lists of short floats. Float64 first: a rounded float32 is long again; + 0.0: no -0.0."""
    doubles: npt.NDArray[np.float64] = np.asarray(array, np.float64)
    if not np.isfinite(doubles).all():
        raise NotFinite(name)
    return (doubles.round(decimals) + 0.0).tolist()


def name_of(facts: NodeFacts, class_id: int) -> str:
    return facts.labels[class_id] if 0 <= class_id < len(facts.labels) else str(class_id)

"""Outputs that hold no numbers: a network whose halves overflow must not pass for one that sees nothing.

Comparisons with NaN are false, so that a threshold would leave out all there is, and nobody would be told.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from engines.errors import ModelError
from engines.types import Array

# Of these every value counts. Boxes and masks are looked at where they are picked: a doubtful one may well overflow.
_WHOLE = ("scores", "probs", "flow")
_LEAST = -0.5  # of a score: graphs put -1 in the place of NaN, which a top-k could put first


def check_outputs(outputs: Mapping[str, Array]) -> None:
    """Raise ModelError when what a served graph gives is no number; takes 2 to 4 µs for the scores of a batch."""
    for name in _WHOLE:
        if name in outputs:
            check_numbers(name, outputs[name])
    if "scores" in outputs and outputs["scores"].min(initial=0) < _LEAST:
        raise _no_numbers("scores")


def check_numbers(name: str, values: Array) -> None:
    """Raise ModelError unless all values, of the output *name*, are finite."""
    if not np.isfinite(values).all():
        raise _no_numbers(name)


def _no_numbers(name: str) -> ModelError:
    return ModelError(
        f"output {name!r} holds NaN or infinity: compute in 'precision: fp32', or, where it does already, fetch or "
        "export its weights anew"
    )

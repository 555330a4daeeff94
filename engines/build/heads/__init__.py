"""What turns a family's raw outputs into candidates, as part of the graph: so little leaves the device.

A file a family; `base` says what every head gives.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import spox.opset.ai.onnx.v17 as op
from spox import Var

from engines.build.heads import anchors, finished, rcnn, yolo, yoloseg
from engines.build.heads.base import Candidates, Head, Place
from engines.build.heads.yolo import grid
from engines.errors import BuildError
from engines.outputs import Decoder, OwnDecoder

__all__ = ["Candidates", "Head", "Place", "decode", "grid"]


_HEADS: dict[str, Head] = {**yolo.HEADS, **anchors.HEADS, **yoloseg.HEADS, **finished.HEADS, **rcnn.HEADS}


def decode(raw: Mapping[str, Var], decoder: Decoder, place: Place) -> Candidates:
    """Add the head that the manifest names. Raises BuildError when the network's outputs are not what it reads."""
    if isinstance(decoder, OwnDecoder):
        raise BuildError(f"decoder {decoder.name} is Python and no part of a graph, so there is no int8: take fp16")
    given = {name: _exact(output) for name, output in raw.items()}
    return _HEADS[decoder.kind](given, decoder, place)


def _exact(output: Var) -> Var:
    """Make a float32 of any float; whole numbers stay, for they tell labels from scores."""
    return output if output.unwrap_tensor().dtype.kind in "iu" else op.cast(output, to=np.float32)

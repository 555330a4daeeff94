"""Head of our own R-CNNs, which decode within the network: what they give has its names already."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import spox.opset.ai.onnx.v17 as op
from spox import Var

from engines.build.heads.base import Candidates, Head, Place
from engines.errors import BuildError
from engines.outputs import Decoder

_WANTED = ("boxes", "scores", "classes")


def _rcnn(raw: Mapping[str, Var], _decoder: Decoder, _place: Place) -> Candidates:
    if any(name not in raw for name in _WANTED):
        raise BuildError(
            f"decoder rcnn reads outputs {', '.join(_WANTED)}, but the network gives {', '.join(raw)}: export it from "
            "its checkpoint, or give the decoder of the tool that exported it, such as torchvision-maskrcnn"
        )
    extras = {"masks": raw["masks"]} if "masks" in raw else {}
    return Candidates(raw["boxes"], raw["scores"], op.cast(raw["classes"], to=np.int32), extras)


HEADS: dict[str, Head] = {"rcnn": _rcnn}

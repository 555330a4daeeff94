"""What is in front of a network in its served graph: bytes, or flow, to the values that it was trained on."""

from __future__ import annotations

import numpy as np
import spox.opset.ai.onnx.v17 as op
from spox import Var

from engines.feeds import Feed
from engines.types import PixelInput


def arranged(fed: Var, feed: Feed) -> Var:
    """Make what the network takes, in float32, of what the graph is fed."""
    # The cast comes first: TensorRT does nothing else with bytes.
    values = op.cast(fed, to=np.float32)
    if feed.form == "volume":
        return _scaled(op.transpose(values, perm=[0, 4, 1, 2, 3]), feed, 4)
    if feed.form == "image":
        return _scaled(op.transpose(values, perm=[0, 3, 1, 2]), feed, 3)
    planes = _scaled(op.transpose(values, perm=[0, 1, 4, 2, 3]), feed, 3)
    return op.reshape(planes, op.const(np.array([0, *feed.network], np.int64)))


def _scaled(planes: Var, feed: Feed, trailing: int) -> Var:
    """Put values, whose channels are *trailing* axes from the end, into the network's order and range."""
    if isinstance(feed.values, PixelInput):
        return _normalised(planes, feed.values, trailing)
    limit = op.const(np.float32(feed.values))
    return op.div(op.clip(planes, op.neg(limit), limit), limit)


def _normalised(planes: Var, pixels: PixelInput, trailing: int) -> Var:
    """Normalise; what would change nothing is left out."""
    if pixels.channels == "bgr":
        last = np.iinfo(np.int64).min
        # A slice backwards costs nothing that could be measured; a gather does.
        planes = op.slice(planes, _ints(-1), _ints(last), _ints(-trailing), _ints(-1))
    if any(pixels.mean):
        planes = op.sub(planes, _channels(pixels.mean, trailing))
    return op.div(planes, _channels(pixels.std, trailing)) if set(pixels.std) != {1.0} else planes


def _ints(*values: int) -> Var:
    return op.const(np.array(values, np.int64))


def _channels(values: tuple[float, float, float], trailing: int) -> Var:
    return op.const(np.array(values, np.float32).reshape(3, *[1] * (trailing - 1)))

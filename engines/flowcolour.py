"""Flow as colour: hue tells where things move to, and the paler, the slower.

The colour wheel of Baker et al. 2011, "A Database and Evaluation Methodology for Optical Flow", as everybody paints it:
red is to the right, yellow down, blue-green to the left, violet up.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from engines.types import Array, Bool, Float, Image

# Steps from one pure colour to the next, more of them where the eye sees more.
_STEPS = {
    ((255, 0, 0), (255, 255, 0)): 15,
    ((255, 255, 0), (0, 255, 0)): 6,
    ((0, 255, 0), (0, 255, 255)): 4,
    ((0, 255, 255), (0, 0, 255)): 11,
    ((0, 0, 255), (255, 0, 255)): 13,
    ((255, 0, 255), (255, 0, 0)): 6,
}
_BEYOND = np.float32(0.75)  # how bright is what is longer than the largest
_TINY = float(np.finfo(np.float32).tiny)
_FINE = 64  # colours from one of the wheel to the next


@cache
def wheel() -> Float:
    """Give the colours of the wheel (55, 3), RGB in 0..255, clockwise from what moves to the right."""
    arcs = [_arc(np.array(start), np.array(end), steps) for (start, end), steps in _STEPS.items()]
    return _frozen(np.concatenate(arcs))


def _arc(start: Array, end: Array, steps: int) -> Array:
    return start + np.trunc((end - start) * np.arange(steps)[:, None] / steps)


def paint(uv: Float, largest: float | None = None) -> Image:
    """Paint a field (H, W, 2) as RGB (H, W, 3): what does not move is white, what is no number is black.

    A motion as long as *largest*, in the field's pixels, has the full colour, and longer ones are darker; by default
    the longest has it.
    """
    known: Bool = np.asarray(np.isfinite(uv).all(axis=2))
    flow = np.where(known[..., None], uv, np.float32(0)).astype(np.float32, copy=False)
    length: Float = np.hypot(flow[..., 0], flow[..., 1])
    unit = float(length.max(initial=0)) if largest is None else largest
    strength = length / np.float32(max(unit, _TINY))
    hue = _hues()[_direction(flow)]
    colour = 255 - strength[..., None] * (255 - hue)
    np.multiply(hue, _BEYOND, out=colour, where=strength[..., None] > 1)
    out: Image = colour.astype(np.uint8)
    out[~known] = 0
    return out


def _direction(flow: Float) -> npt.NDArray[np.intp]:
    """Say which of `_hues` each vector has (H, W)."""
    turn = (np.arctan2(-flow[..., 1], -flow[..., 0]) / np.float32(np.pi) + 1) / 2
    return np.asarray(np.rint(turn * np.float32(len(_hues()) - 1)), np.intp)


@cache
def _hues() -> Float:
    """The wheel (N, 3), so fine that no step is more than a level. All but its last colour is one turn."""
    colours = wheel()
    at = np.linspace(0, len(colours) - 1, (len(colours) - 1) * _FINE + 1)
    return _frozen(np.stack([np.interp(at, np.arange(len(colours)), channel) for channel in colours.T], axis=1))


def _frozen(colours: Array) -> Float:
    out: Float = colours.astype(np.float32)
    out.flags.writeable = False
    return out

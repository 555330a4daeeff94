"""Flow as colours or as arrows.

The colours are those of Baker et al. 2011, "A Database and Evaluation Methodology for Optical Flow": the direction is a
place on their wheel of hues, and the length how far it is from white.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from engines.motion import upsample
from engines.types import Float, Flow, Image

# How many hues lie between each of their six pure colours and the next: as many as the eye tells apart.
_STEPS = (
    ("red", "yellow", 15),
    ("yellow", "green", 6),
    ("green", "cyan", 4),
    ("cyan", "blue", 11),
    ("blue", "magenta", 13),
    ("magenta", "red", 6),
)
_PURE = {
    "red": (255, 0, 0),
    "yellow": (255, 255, 0),
    "green": (0, 255, 0),
    "cyan": (0, 255, 255),
    "blue": (0, 0, 255),
    "magenta": (255, 0, 255),
}
_FULL = 0.02  # of the image's longer side: vectors of this length have the full colour, longer ones are darker
_STILL = 0.05  # of the full length: what moves less is left as it is
_OPACITY = 0.55
_ARROWS = 24  # along the longer side
_SHORTEST = 1.0  # pixels


@lru_cache(maxsize=1)
def hues() -> Float:
    """Return the wheel: (55, 3) RGB in 0..1."""
    parts = [
        np.linspace(_PURE[first], _PURE[then], count, endpoint=False, dtype=np.float32) for first, then, count in _STEPS
    ]
    wheel: Float = np.concatenate(parts) / np.float32(255)
    return wheel


def wheel(uv: Float, full: float) -> Image:
    """Colour a field (h, w, 2): nothing is white, and *full* pixels have the whole colour: (h, w, 3) RGB."""
    u, v = uv[..., 0] / full, uv[..., 1] / full
    length, angle = np.hypot(u, v), np.arctan2(-v, -u) / np.pi
    colours = hues()
    place = (angle + 1) / 2 * (len(colours) - 1)
    low = place.astype(np.intp)
    part = (place - low)[..., None]
    hue = (1 - part) * colours[low] + part * colours[(low + 1) % len(colours)]
    shade = length[..., None]
    rgb = np.where(shade <= 1, 1 - shade * (1 - hue), hue * 0.75)
    out: Image = np.rint(rgb * 255).astype(np.uint8)
    return out


def paint_flow(canvas: Image, flow: Flow) -> None:
    """Lay the colours of a flow over an image of the source's size, so that what is under it stays to be seen."""
    height, width = canvas.shape[:2]
    full = _FULL * max(height, width)
    cover = np.clip(np.linalg.norm(flow.uv, axis=2) / full / _STILL - 1, 0, 1).astype(np.float32) * _OPACITY
    colours, share = (cv2.resize(part, (width, height)) for part in (wheel(flow.uv, full), cover))
    canvas[:] = cv2.blendLinear(canvas, colours, 1 - share, share)


def draw_arrows(canvas: Image, flow: Flow, line: int) -> None:
    """Draw a flow as arrows over an image of the source's size; each is as long as its vector, in pixels."""
    height, width = canvas.shape[:2]
    step = max(width, height) / _ARROWS
    rows, columns = max(1, round(height / step)), max(1, round(width / step))
    uv = upsample(flow.uv, (rows, columns))
    colours = wheel(uv, _FULL * max(height, width))
    for row, column in np.argwhere(np.linalg.norm(uv, axis=2) >= _SHORTEST).tolist():
        x, y = (column + 0.5) * width / columns, (row + 0.5) * height / rows
        u, v = uv[row, column].tolist()
        tint = [int(value) for value in colours[row, column]]
        cv2.arrowedLine(canvas, (round(x), round(y)), (round(x + u), round(y + v)), tint, line, cv2.LINE_AA, 0, 0.3)

"""Pictures that move in a known way, and packets of them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from engines.types import Detections, Float, Image
from streamer.types import Frame, Packet

Motion = npt.NDArray[np.float64]  # (2, 3): where a pixel of one picture lies in the next


def texture(size: tuple[int, int], seed: int = 0) -> Image:
    """A picture (H, W, 3) with something to hold on to everywhere, and no hard edges."""
    rng = np.random.default_rng(seed)
    fine, coarse = (
        cv2.GaussianBlur(rng.uniform(0, 255, (*size, 3)).astype(np.float32), (0, 0), sigma) for sigma in (2, 7)
    )
    both = sum((part - part.mean()) / part.std() for part in (fine, coarse))
    out: Image = np.clip(128 + 30 * both, 0, 255).astype(np.uint8)
    return out


def shift(u: float, v: float) -> Motion:
    return np.array([[1, 0, u], [0, 1, v]], np.float64)


def turn(degrees: float, zoom: float, size: tuple[int, int]) -> Motion:
    """Turn about the middle, clockwise as seen, and zoom in."""
    height, width = size
    return np.asarray(cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, zoom), np.float64)


def moved(image: Image, motion: Motion) -> Image:
    """Move every pixel of a picture; what comes in from outside mirrors what is there."""
    how, beyond = cv2.INTER_CUBIC, cv2.BORDER_REFLECT
    return np.asarray(cv2.warpAffine(image, motion, image.shape[1::-1], flags=how, borderMode=beyond), np.uint8)


def field(motion: Motion, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The true motion of pixels (…, 2: x, y), counted from the middle of the first one."""
    return points @ motion[:, :2].T + motion[:, 2] - points


def middles(grid: tuple[int, int], size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """The middles (h, w, 2: x, y) of the cells of a grid that lies over a picture."""
    y, x = ((np.arange(n) + 0.5) * length / n - 0.5 for n, length in zip(grid, size, strict=True))
    return np.stack(np.meshgrid(x, y), axis=-1)


def inner(array: Float, share: float = 0.15) -> Float:
    """Leave the border out, where pictures have nothing in common."""
    rows, columns = (round(n * share) for n in array.shape[:2])
    return array[rows:-rows, columns:-columns]


def packet(image: Image, seq: int, camera: str = "gate", pts: float | None = None, **values: object) -> Packet:
    """A frame at 10 FPS, unless *pts* says otherwise."""
    return Packet(Frame(camera, seq, seq / 10 if pts is None else pts, 0.0, 0, image), values)


def tracked(boxes: Sequence[Sequence[float]], ids: Sequence[int]) -> Detections:
    n = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(n, 4),
        np.zeros(n, np.int32),
        np.full(n, 0.9, np.float32),
        np.array(ids, np.int32).reshape(n),
    )

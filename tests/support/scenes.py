"""Images that move by known fields: a smooth pattern, warped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np

from engines.geometry import Size
from engines.types import Array, Float, Image


def pattern(size: Size, seed: int = 0) -> Image:
    """Paint blobs of several sizes and colours, so that there is something to follow everywhere."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(
            rng.normal(size=(size[0] // cell + 2, size[1] // cell + 2, 3)), size[::-1], interpolation=cv2.INTER_CUBIC
        )
        for cell in (6, 14, 40)
    ]
    return np.asarray(np.clip(128 + 38 * np.sum(layers, axis=0), 0, 255), np.uint8)


def translation(u: float, v: float) -> Array:
    return np.array([[1, 0, u], [0, 1, v]], np.float64)


def rotation(size: Size, degrees: float, zoom: float = 1.0) -> Array:
    """Turn clockwise, as it is seen, about the middle, and zoom in."""
    middle = (size[1] - 1) / 2, (size[0] - 1) / 2
    return np.asarray(cv2.getRotationMatrix2D(middle, -degrees, zoom))


def moved(image: Image, motion: Array) -> Image:
    """Move every pixel of an image; the border repeats."""
    return np.asarray(cv2.warpAffine(image, motion, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT), np.uint8)


def field(size: Size, motion: Array) -> Float:
    """Say by how much each pixel of an image moves: (H, W, 2)."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    to = np.stack([x, y, np.ones_like(x)], axis=-1) @ motion.T
    return np.asarray(to - np.stack([x, y], axis=-1), np.float32)


def film(path: Path, images: Iterable[Image], fps: int = 10) -> Path:
    """Encode images as a video, almost without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = images
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=fps, options={"crf": "8", "preset": "ultrafast"})
        stream.pix_fmt = "yuv420p"
        stream.height, stream.width = first.shape[:2]
        for image in (first, *others):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode())
    return path


def sliding(u: int, v: int, frames: int = 12, size: Size = (64, 96)) -> Iterator[Image]:
    """Show a scene that moves by *u*, *v* pixels an image."""
    far = frames * max(abs(u), abs(v))
    scene = pattern((size[0] + 2 * far, size[1] + 2 * far))
    for n in range(frames):
        top, left = far - n * v, far - n * u
        yield np.ascontiguousarray(scene[top : top + size[0], left : left + size[1]])

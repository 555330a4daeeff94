"""Two images to the motion between them: what surrounds a network for optical flow.

An image is placed once, and serves twice: as the later one of a pair, then as the earlier one of the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from engines.errors import ModelError
from engines.geometry import Size
from engines.model import Model
from engines.preprocess import PreprocessSpec, place
from engines.runtimes.base import Overlapping, Runtime
from engines.runtimes.checks import shown
from engines.types import Array, Float, Flow, Geometry, Image

_EXACT = 1e-3  # cells: an edge that is no farther from a whole one lies on it


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """An image as the network sees it."""

    pixels: Image  # (H, W, 3)
    geometry: Geometry


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two images of one camera; the motion is that from the earlier to the later one. Both were of one size."""

    before: Placed
    after: Placed
    seconds: float | None = None  # between them

    def __post_init__(self) -> None:
        if self.before.geometry != self.after.geometry:
            raise ValueError(f"images of {self.before.geometry.source_hw} and {self.after.geometry.source_hw}")


class FlowModel:
    """A network for optical flow with what surrounds it: pairs of placed images in, flow in source pixels out."""

    def __init__(self, model: Model[Pair, Flow], spec: PreprocessSpec) -> None:
        self.model, self.spec = model, spec

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def runtime(self) -> Runtime:
        return self.model.runtime

    def place(self, image: Image) -> Placed:
        """Place an RGB image (H, W, 3) of any size, in memory of its own."""
        return Placed(*place(image, self.spec))

    def __call__(self, pairs: Sequence[Pair]) -> list[Flow]:
        """Find the flow of any number of pairs."""
        return _timed(pairs, self.model(pairs))

    def begin(self, pairs: Sequence[Pair]) -> Callable[[], list[Flow]]:
        """Start on pairs; the function that is returned waits for their flow. See `Model.begin`."""
        finish = self.model.begin(pairs)
        return lambda: _timed(pairs, finish())

    def close(self) -> None:
        self.model.close()


def flow_model(name: str, spec: PreprocessSpec, runtime: Runtime) -> FlowModel:
    """Put what flow needs around a runtime that takes `frames` u8 (N, 2, H, W, 3) and gives `flow` (N, h, w, 2).

    Raises ModelError when the runtime takes something else.
    """
    return FlowModel(Model(name, (), FeedPairs(spec.size, runtime), runtime, DecodeFlow(spec.size)), spec)


def upsample(uv: Float, size: Size) -> Float:
    """Sample a field (h, w, 2) bilinearly at (H, W, 2) points of the same image; its vectors stay what they are."""
    return np.asarray(cv2.resize(uv, size[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _timed(pairs: Sequence[Pair], flows: Sequence[Flow]) -> list[Flow]:
    return [replace(flow, seconds=pair.seconds) for pair, flow in zip(pairs, flows, strict=True)]


class FeedPairs:
    """Put pairs together in one buffer that is used again and again.

    The arrays are valid until the next call; for a runtime that overlaps, until as many calls later as it has lanes.
    """

    def __init__(self, size: Size, runtime: Runtime) -> None:
        self._name = _check_input(runtime, size)
        lanes = runtime.lanes if isinstance(runtime, Overlapping) else 1
        self._buffers = deque(np.empty((runtime.max_batch, 2, *size, 3), np.uint8) for _ in range(lanes))

    def __call__(self, pairs: Sequence[Pair], /) -> tuple[Mapping[str, Array], list[Geometry]]:
        """Feed 1 to the runtime's `max_batch` pairs."""
        self._buffers.rotate(-1)
        buffer = self._buffers[-1]
        if len(pairs) > len(buffer):
            raise ValueError(f"{len(pairs)} pairs are more than the {len(buffer)} that the runtime takes")
        for row, pair in zip(buffer, pairs, strict=False):
            row[0], row[1] = pair.before.pixels, pair.after.pixels
        return {self._name: buffer[: len(pairs)]}, [pair.after.geometry for pair in pairs]


def _check_input(runtime: Runtime, size: Size) -> str:
    wanted = (2, *size, 3)
    for found in runtime.inputs if len(runtime.inputs) == 1 else ():
        fits = len(found.shape) == 5 and all(n in (None, w) for n, w in zip(found.shape[1:], wanted, strict=True))
        if fits and found.dtype == np.uint8:
            return found.name
    given = " and ".join(f"{each.name!r} {each.dtype} {shown(each.shape)}" for each in runtime.inputs) or "nothing"
    raise ModelError(
        f"the network takes {given}, but pairs are fed as uint8 {shown((None, *wanted))}: build it anew from its "
        "manifest"
    )


class DecodeFlow:
    """Cut what lies over the image out of `flow` (N, h, w, 2), in pixels of the network's input, and scale it."""

    def __init__(self, input_size: Size) -> None:
        self._size = input_size

    def __call__(self, outputs: Mapping[str, Array], geometry: Sequence[Geometry], /) -> list[Flow]:
        """Give each flow in pixels of its source image. Raises ModelError for what is no flow."""
        fields = outputs.get("flow")
        if fields is None or fields.ndim != 4 or fields.shape[3] != 2 or len(fields) != len(geometry):
            given = ", ".join(f"{name} {array.shape}" for name, array in outputs.items())
            raise ModelError(f"a served network for flow gives `flow` (N, h, w, 2), not {given}: build it anew")
        return [self._decode(field, place) for field, place in zip(fields, geometry, strict=True)]

    def _decode(self, field: Float, place: Geometry) -> Flow:
        cell = np.array(self._size[::-1]) / np.array(field.shape[1::-1])  # x, y: input pixels
        corner = np.array(place.offset_xy) / cell
        extent = np.array(place.source_hw[::-1]) * place.scale_xy / cell
        scale: Float = np.array(place.scale_xy, np.float32)
        return Flow(_cut(field, corner, extent) / scale)


def _cut(field: Float, corner: Array, extent: Array) -> Float:
    """Sample the part of a field (h, w, 2) that starts at *corner* and is *extent* long (x, y in cells)."""
    edges = np.concatenate([corner, corner + extent])
    left, top, right, bottom = (int(n) for n in np.rint(edges))
    if np.abs(edges - np.rint(edges)).max() < _EXACT:
        return field[top:bottom, left:right]
    width, height = (max(1, int(n)) for n in np.rint(extent))
    # The middle of each new cell, where pixels are counted from the middle of the first.
    x = (corner[0] + (np.arange(width) + 0.5) * extent[0] / width - 0.5).astype(np.float32)
    y = (corner[1] + (np.arange(height) + 0.5) * extent[1] / height - 0.5).astype(np.float32)
    columns, rows = np.meshgrid(x, y)
    out = cv2.remap(field, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(out, np.float32)

"""Small detectors with the inputs and outputs of torchvision's exports, made of ONNX nodes; they find bright cells.

A cell of 32 x 32 pixels is an object of class c + 1 where channel c is brighter there than *least* on average: `labels`
(K,), `scores` (K,) are that mean, `boxes` (K, 4) reach a little beyond the cell, by another amount in every cell, and
`masks` are a fixed pattern for each class: (K, 1, 28, 28) on the box, or pasted into the whole image (K, 1, H, W) as
torchvision pastes them. NonMaxSuppression decides how many there are: nobody knows it before, and they are not sorted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
import spox.opset.ai.onnx.v17 as op
from spox import Tensor, Var, argument, build

from engines.types import Array, Float, Image

CELL, CELLS = 32, 28
CLASSES = ("background", "red", "green", "blue")


@dataclass(frozen=True)
class Rcnn:
    """What an export may differ in."""

    size: tuple[int | str, int | str] = (96, 128)
    batch: tuple[int, ...] = ()  # torchvision's have no such axis; (1,) has one
    masks: Literal["none", "box", "image"] = "image"
    names: tuple[str, str, str, str] = ("boxes", "labels", "scores", "masks")
    normalised: bool = True  # with the mean of ImageNet inside
    least: float = 0.5  # brightness of an object
    logits: bool = False  # masks lack the sigmoid at their end


def make(kind: Rcnn, grid: tuple[int, int] = (3, 4)) -> onnx.ModelProto:
    """Make a network that looks at *grid* cells (rows, columns) of its image."""
    image = argument(Tensor(np.float32, (*kind.batch, 3, *kind.size)))
    boxes, scores, labels = _found(image if kind.batch else op.unsqueeze(image, _ints(0)), grid, kind)
    outputs = {"boxes": boxes, "labels": labels, "scores": scores}
    if kind.masks != "none":
        on_box = op.unsqueeze(
            op.gather(op.const(patterns() * (9 if kind.logits else 1)), op.sub(labels, _ints(1))), _ints(1)
        )
        outputs["masks"] = on_box if kind.masks == "box" else _pasted(on_box, boxes, image)
    roles = dict(zip(("boxes", "labels", "scores", "masks"), kind.names, strict=True))
    model = build({"image": image}, {roles[role]: op.identity(var) for role, var in outputs.items()})
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


def patterns() -> Float:
    """Give a soft mask (28, 28) for each class: a disc, a bar that lies, one that stands."""
    y, x = (np.mgrid[:CELLS, :CELLS] + 0.5) / CELLS - 0.5
    distances = np.stack([np.hypot(x, y) - 0.35, np.abs(y) - 0.2, np.abs(x) - 0.2])
    soft: Float = (1 / (1 + np.exp(distances * 20))).astype(np.float32)
    return soft


def cells(grid: tuple[int, int]) -> Float:
    """List the boxes (A, 4) of all cells, row by row."""
    y, x = (axis.ravel() * CELL for axis in np.mgrid[: grid[0], : grid[1]])
    reach = np.arange(len(x)) % 5 / 4
    return np.stack([x - reach, y - reach, x + CELL + reach, y + CELL + 2 * reach], 1).astype(np.float32)


def scene(bright: dict[tuple[int, int], tuple[int, int]], grid: tuple[int, int] = (3, 4)) -> Image:
    """Paint an image (H, W, 3): of each cell (row, column) one channel, and how bright that is."""
    image = np.zeros((grid[0] * CELL, grid[1] * CELL, 3), np.uint8)
    for (row, column), (channel, level) in bright.items():
        image[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL, channel] = level
    return image


def _found(image: Var, grid: tuple[int, int], kind: Rcnn) -> tuple[Var, Var, Var]:
    count = grid[0] * grid[1]
    if kind.normalised:
        mean = op.const(np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 3, 1, 1))
        image = op.add(op.sub(image, mean), mean)
    bright = op.reshape(op.average_pool(image, kernel_shape=[CELL] * 2, strides=[CELL] * 2), _ints(1, 3, count))
    all_boxes = op.const(cells(grid))
    overlap, least = (op.const(np.array([value], np.float32)) for value in (0.9, kind.least))
    chosen = op.non_max_suppression(op.unsqueeze(all_boxes, _ints(0)), bright, _ints(count), overlap, least)
    channel, cell = (
        op.squeeze(part, _ints(1)) for part in op.split(chosen, _ints(1, 1, 1), outputs_count=3, axis=1)[1:]
    )
    return op.gather(all_boxes, cell), op.gather_nd(bright, chosen), op.add(channel, _ints(1))


def _pasted(masks: Var, boxes: Var, image: Var) -> Var:
    """Paste masks (K, 1, 28, 28) into (K, 1, H, W): a cell of zeros round each, and its box in whole pixels."""
    wider = (CELLS + 2) / CELLS
    low, high = op.split(boxes, _ints(2, 2), outputs_count=2, axis=1)
    middle, half = op.mul(op.add(low, high), _number(0.5)), op.mul(op.sub(high, low), _number(0.5 * wider))
    first, last = (_whole(edge) for edge in (op.sub(middle, half), op.add(middle, half)))
    sides = op.add(op.sub(last, first), _number(1))
    size = op.slice(op.shape(image), _ints(-2), _ints(2**31), _ints(0))
    height, width = op.split(size, _ints(1, 1), outputs_count=2, axis=0)
    across = [
        _normalised(length, op.gather(first, _ints(axis), axis=1), op.gather(sides, _ints(axis), axis=1))
        for axis, length in ((0, width), (1, height))
    ]  # each (K, length)
    shape = op.concat([op.shape(boxes, start=0, end=1), height, width], axis=0)
    x = op.expand(op.unsqueeze(across[0], _ints(1)), shape)
    y = op.expand(op.unsqueeze(across[1], _ints(2)), shape)
    where = op.concat([op.unsqueeze(axis, _ints(3)) for axis in (x, y)], axis=3)
    padded = op.pad(masks, _ints(0, 0, 1, 1, 0, 0, 1, 1))
    return op.grid_sample(padded, where, align_corners=0, mode="bilinear", padding_mode="zeros")


def _normalised(length: Var, first: Var, side: Var) -> Var:
    """Say where the middles of pixels 0 … length - 1 lie on a side (K, 1) that starts at *first*: -1 to 1 on it."""
    zero, one = (op.const(np.array(value, np.int64)) for value in (0, 1))
    pixels = op.cast(op.range(zero, op.squeeze(length, _ints(0)), one), to=np.float32)
    share = op.div(op.sub(op.add(pixels, _number(0.5)), first), side)
    return op.sub(op.mul(share, _number(2)), _number(1))


def paste(mask: Array, box: Array, size: tuple[int, int]) -> Float:
    """Paste one mask (28, 28) as `masks` of the whole image are, pixel by pixel: (H, W)."""
    padded = np.pad(mask, 1)
    x1, y1, x2, y2 = box
    reach = np.array([x2 - x1, y2 - y1]) / 2 * (CELLS + 2) / CELLS
    middle = np.array([x1 + x2, y1 + y2]) / 2
    first, last = (middle - reach).astype(np.int64), (middle + reach).astype(np.int64)
    x, y = (((np.arange(size[1 - axis]) + 0.5 - first[axis]) / (last[axis] - first[axis] + 1)) * (CELLS + 2) - 0.5
            for axis in (0, 1))  # fmt: skip
    return np.array([[_bilinear(padded, u, v) for u in x] for v in y], np.float32)


def _bilinear(values: Array, x: float, y: float) -> float:
    left, top = int(np.floor(x)), int(np.floor(y))
    corners = ((left + i, top + j, (1 - abs(x - left - i)) * (1 - abs(y - top - j))) for i in (0, 1) for j in (0, 1))
    height, width = values.shape
    return sum(float(values[v, u]) * share for u, v, share in corners if 0 <= u < width and 0 <= v < height)


def _whole(values: Var) -> Var:
    return op.cast(op.cast(values, to=np.int64), to=np.float32)


def _ints(*values: int) -> Var:
    return op.const(np.array(values, np.int64))


def _number(value: float) -> Var:
    return op.const(np.array(value, np.float32))

"""Run lengths as COCO writes them: column by column, first the zeros, in a string of six bits a character.

What is made here is equal to that of pycocotools bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.geometry import Size
from engines.types import Bool, Float

_Longs = npt.NDArray[np.int64]

_MORE, _SIGN, _FIVE, _FIRST = 0x20, 0x10, 0x1F, 48  # bits of a character, and the first that is used


@dataclass(frozen=True, slots=True)
class Rle:
    """One mask of an image."""

    size: Size  # height, width
    counts: bytes


def encode(mask: Bool) -> Rle:
    """Encode a mask (H, W)."""
    height, width = mask.shape
    return compress([from_runs(0, 0, mask.T, (height, width))], (height, width))[0]


def decode(rle: Rle) -> Bool:
    """Make the mask (H, W) that *rle* tells of. Raises ValueError when it is not as long as it says."""
    height, width = rle.size
    counts = _counts(rle)
    if counts.sum() != height * width or counts.min(initial=0) < 0:
        raise ValueError(f"an RLE of {counts.sum()} pixels is none of an image of {height} x {width}")
    flat: Bool = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(width, height).T


def area(rle: Rle) -> int:
    """Count the pixels of the object."""
    return int(_counts(rle)[1::2].sum())


def rle_iou(a: Sequence[Rle], b: Sequence[Rle], crowd: Bool | None = None) -> Float:
    """Overlap every mask of *a* with every one of *b*: intersection over union, (N, M) in 0..1.

    Where *crowd* (M,) says so, one of *b* stands for many, and the intersection is divided by the area of *a*'s alone,
    as COCO does it. Raises ValueError when they are not of images of one size.
    """
    if len({rle.size for rle in (*a, *b)}) > 1:
        raise ValueError("masks of images of different sizes do not overlap: compare those of one image")
    ones, others = [_edges(rle) for rle in a], [_edges(rle) for rle in b]
    both = _intersections(ones, others)
    a_area, b_area = (np.array([e[1::2].sum() - e[::2].sum() for e in s], np.float64) for s in (ones, others))
    whole = a_area[:, None] + b_area - both
    if crowd is not None:
        whole = np.where(crowd, a_area[:, None], whole)
    out: Float = np.divide(both, whole, out=np.zeros_like(both), where=whole > 0).astype(np.float32)
    return out


def from_runs(top: int, left: int, columns: Bool, size: Size) -> _Longs:
    """Count the runs of a mask that is *columns* (w, h) of an image of *size* from *left* and *top*, else nothing."""
    height, width = size
    long = columns.shape[1] + 1
    # A zero before everything and after each column: so every run begins and ends within its column.
    flat = np.zeros(1 + columns.shape[0] * long, np.bool_)
    flat[1:].reshape(-1, long)[:, :-1] = columns
    column, row = np.divmod(np.flatnonzero(flat[1:] != flat[:-1]), long)
    edges = (column + left) * height + row + top
    if columns.shape[1] == height:  # a run to the last row may go on in the next column
        edges = _joined(edges)
    counts = np.empty(len(edges) + 1, np.int64)
    counts[:-1], counts[-1] = edges, height * width
    counts[1:] -= edges
    return counts if counts[-1] or len(counts) == 1 else counts[:-1]


def _joined(edges: _Longs) -> _Longs:
    """Leave out where one run ends and the next begins at once."""
    apart = np.ones(len(edges), np.bool_)
    apart[1:-1] = np.repeat(edges[2::2] != edges[1:-1:2], 2)
    return edges[apart]


def compress(runs: Sequence[_Longs], size: Size) -> list[Rle]:
    """Write the run lengths of N masks as COCO does; together, for most of them are short."""
    if not runs:
        return []
    text, lengths = _characters(np.concatenate([_differences(counts) for counts in runs]))
    ends = np.cumsum(np.add.reduceat(lengths, np.cumsum([0, *map(len, runs[:-1])]))).tolist()
    return [Rle(size, text[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _characters(numbers: _Longs) -> tuple[bytes, _Longs]:
    """Write numbers (N,) with five bits a character, the lowest first; and say how many each has (N,)."""
    digits, used = [], [np.ones(len(numbers), np.bool_)]
    while used[-1].any():
        digit, numbers = numbers & _FIVE, numbers >> 5
        more = numbers != np.where(digit & _SIGN, -1, 0)  # else what is left is only the sign
        digits.append((digit + (more * _MORE + _FIRST)).astype(np.uint8))
        used.append(more)
    table = np.stack(used[:-1], axis=1)
    return np.stack(digits, axis=1)[table].tobytes(), table.sum(1)


def _differences(counts: _Longs) -> _Longs:
    """Subtract from each count the one two before it, from the fourth on."""
    out = counts.copy()
    out[3:] -= counts[1:-2]
    return out


def _counts(rle: Rle) -> _Longs:
    """Read the run lengths. Raises ValueError when the last one breaks off."""
    text = np.frombuffer(rle.counts, np.uint8).astype(np.int64) - _FIRST
    if not len(text) or text[-1] & _MORE:
        raise ValueError(f"the counts of an RLE of {len(text)} characters break off: take them whole")
    last = np.flatnonzero((text & _MORE) == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    place = np.arange(len(text)) - np.repeat(first, last - first + 1)
    out = np.add.reduceat((text & _FIVE) << (5 * place), first)
    out -= np.where(text[last] & _SIGN, 1 << (5 * (place[last] + 1)), 0)
    out[1::2] = np.cumsum(out[1::2])
    out[2::2] = np.cumsum(out[2::2])
    return out


def _edges(rle: Rle) -> _Longs:
    """List where the object begins and ends, by turns."""
    edges = np.cumsum(_counts(rle))
    return edges[: len(edges) // 2 * 2]


def _intersections(a: Sequence[_Longs], b: Sequence[_Longs]) -> npt.NDArray[np.float64]:
    """Count the pixels that are in both, (N, M): how many of *a*'s lie before each edge of *b*'s, added up."""
    out = np.zeros((len(a), len(b)))
    every = np.concatenate([*b, np.zeros(0, np.int64)])
    owner = np.repeat(np.arange(len(b)), [len(edges) for edges in b])
    sign = np.where(np.arange(len(every)) % 2, 1.0, -1.0)
    for row, edges in enumerate(a):
        if len(edges):
            lengths = np.diff(edges, prepend=edges[0])
            lengths[::2] = 0
            before = np.interp(every, edges, np.cumsum(lengths))
            out[row] = np.bincount(owner, before * sign, len(b))
    return out

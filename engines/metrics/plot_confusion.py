"""What is taken for what, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engines.metrics.actions import Counts

_FEW = 25  # classes: with more, numbers in cells could not be read
_LONGEST = 28  # characters of a name
_EDGE, _NARROWEST = 0.2, 7.0  # inches
_DPI = 110
_DARK = 0.55  # a shade from which a cell's number is white


@dataclass(frozen=True, slots=True)
class _Look:
    cell: float  # inches a side: just enough for a name
    names: float  # inches for names and for what the axis is
    head: float  # inches above the cells
    text: int  # points
    title: int  # points


_FEW_LOOK = _Look(0.55, 2.8, 0.5, 9, 10)
_MANY_LOOK = _Look(0.115, 2.0, 0.7, 6, 16)


def plot(confusion: Counts, labels: Sequence[str], title: str) -> bytes:
    """Draw a PNG with a row for each class that is truly there, and a column for each of these, and for all others.

    A cell is as dark as the root of the share of its row that was taken for its column. Of few classes numbers are
    written, too.
    """
    there = np.flatnonzero(confusion.sum(1))
    counts, others = _among(confusion, there)
    rows = [labels[i] for i in there.tolist()]
    look = _FEW_LOOK if len(rows) <= _FEW else _MANY_LOOK
    figure, axes = _canvas(max(counts.shape[1], 1), max(len(rows), 1), look)
    _draw(axes, counts)
    _name(axes, rows, [*rows, *(["any other class"] if others else [])], look)
    figure.text(_EDGE / figure.get_figwidth(), 1 - _EDGE / figure.get_figheight(), title, va="top", fontsize=look.title,
                parse_math=False)  # fmt: skip
    out = BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _canvas(columns: int, rows: int, look: _Look) -> tuple[Figure, Axes]:
    """Place the cells by hand: to measure hundreds of names takes a layout engine many seconds."""
    width = max(look.names + columns * look.cell + 2 * _EDGE, _NARROWEST)
    height = look.names + rows * look.cell + look.head + _EDGE
    figure = Figure(figsize=(width, height), dpi=_DPI)
    place = look.names / width, look.names / height, columns * look.cell / width, rows * look.cell / height
    return figure, figure.add_axes(place)


def _among(confusion: Counts, there: npt.NDArray[np.intp]) -> tuple[Counts, bool]:
    """Cut the table to the classes that are there, with a last column for the others if any is found."""
    counts = confusion[np.ix_(there, there)]
    elsewhere = confusion[there].sum(1) - counts.sum(1)
    if not elsewhere.any():
        return counts, False
    return np.column_stack([counts, elsewhere]), True


def _draw(axes: Axes, counts: Counts) -> None:
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    shade = share**0.5  # rare errors are what one looks for among many classes
    if not counts.size:
        return
    axes.imshow(shade, cmap=colormaps["Blues"], vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    if len(counts) > _FEW:
        return
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shade[row, column] > _DARK else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=9)


def _name(axes: Axes, rows: Sequence[str], columns: Sequence[str], look: _Look) -> None:
    axes.set_yticks(range(len(rows)), [_short(name) for name in rows], parse_math=False)  # one may be called "$"
    axes.set_xticks(range(len(columns)), [_short(name) for name in columns], rotation=90, parse_math=False)
    axes.set_ylabel("truly", fontsize=look.title)
    axes.set_xlabel("taken for", fontsize=look.title)
    axes.tick_params(labelsize=look.text, length=2, pad=2)
    lines = {"colors": "0.85", "linewidth": 0.3}
    axes.hlines(np.arange(len(rows) + 1) - 0.5, -0.5, len(columns) - 0.5, **lines)  # type: ignore[arg-type]  # its stubs list each style
    axes.vlines(np.arange(len(columns) + 1) - 0.5, -0.5, len(rows) - 0.5, **lines)  # type: ignore[arg-type]  # as above


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"

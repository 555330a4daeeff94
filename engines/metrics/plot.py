"""Precision over recall, drawn."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engines.metrics.coco import Evaluation, Kind

_RECALL = np.linspace(0, 1, 101)
_CLASSES = 9  # that are drawn alone: more could not be told apart


def plot(evaluations: Mapping[Kind, Evaluation], title: str) -> bytes:
    """Draw a PNG with a panel for each evaluation, by what was measured.

    Thick: the mean of all classes at IoU 0.50, at 0.75, and over 0.50 … 0.95; thin: the classes with most objects at
    0.50. The area under a line is its average precision.
    """
    figure = Figure(figsize=(8.5 * len(evaluations), 5.5), layout="constrained", dpi=120)
    panels = figure.subplots(1, len(evaluations), squeeze=False)[0]
    for axes, (name, evaluation) in zip(panels, evaluations.items(), strict=True):
        _draw(axes, evaluation)
        _finish(axes, name)
    figure.suptitle(title, parse_math=False)
    out = BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _draw(axes: Axes, evaluation: Evaluation) -> None:
    there = [i for i, each in enumerate(evaluation.classes) if each.objects]
    precision = evaluation.precision[there]  # (classes, IoUs, recalls)
    if not there:
        return
    thick = {"color": "black", "linewidth": 2.2, "zorder": 3}
    _line(axes, precision[:, 0].mean(axis=0), "all classes, IoU 0.50", linestyle="-", **thick)
    _line(axes, precision[:, 5].mean(axis=0), "all classes, IoU 0.75", linestyle="--", **thick)
    _line(axes, precision.mean(axis=(0, 1)), "all classes, IoU 0.50 … 0.95", linestyle=":", **thick)
    largest = sorted(range(len(there)), key=lambda i: -evaluation.classes[there[i]].objects)[:_CLASSES]
    for number, i in enumerate(largest if len(there) > 1 else ()):
        told = evaluation.classes[there[i]]
        _line(axes, precision[i, 0], f"{told.objects} x {told.name}", color=f"C{number}", linewidth=1.2)


def _line(axes: Axes, precision: npt.NDArray[np.float64], name: str, **style: object) -> None:
    axes.plot(_RECALL, precision, label=f"{name}: {precision.mean():.3f}", **style)  # type: ignore[arg-type]  # its stubs list each style


def _finish(axes: Axes, name: str) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.set_title(name, fontsize="medium")
    axes.grid(visible=True, alpha=0.3)
    if not axes.lines:
        return
    legend = axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, title="average precision")
    for text in legend.get_texts():
        text.set(parse_math=False, fontsize="small")  # a class may be called "$"

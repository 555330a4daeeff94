"""What a training tells while it runs: two CSV files, and a plot of them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from engines.build.files import write_whole
from engines.train.errors import TrainingError

LOSSES, FIGURES, PLOT = "losses.csv", "figures.csv", "training.png"


class Window:
    """The mean of the loss and its parts over the steps since it was last read."""

    def __init__(self) -> None:
        self._parts: list[Mapping[str, Tensor]] = []

    def add(self, parts: Mapping[str, Tensor]) -> None:
        self._parts.append({name: value.detach() for name, value in parts.items()})

    def read(self, step: int) -> dict[str, float]:
        """Give the means, and start anew. Raises TrainingError where they are no numbers."""
        means = self.means(step)
        self._parts.clear()
        return means

    def means(self, step: int) -> dict[str, float]:
        """Give the means. Raises TrainingError where they are no numbers."""
        names = self._parts[0] if self._parts else ()
        means = {name: float(torch.stack([each[name].float() for each in self._parts]).mean()) for name in names}
        total = sum(means.values())
        if not -float("inf") < total < float("inf"):
            told = ", ".join(f"{name} {value:.3g}" for name, value in means.items())
            raise TrainingError(
                f"the loss is no number before step {step} ({told}): resume from the last checkpoint with a lower rate"
            )
        return {"loss": total} | means


class Table:
    """A CSV file that grows a row at a time; its columns are those of the first row."""

    def __init__(self, path: Path, known_to: int) -> None:
        """Go on with the rows up to step *known_to*: what came after it is done again."""
        self.path = path
        kept = [row for row in read(path) if int(row["step"]) <= known_to]
        if path.exists():
            self._write(kept)

    def add(self, row: Mapping[str, float]) -> None:
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(row)
            writer.writerow([_short(value) for value in row.values()])

    def _write(self, rows: list[dict[str, str]]) -> None:
        self.path.unlink()
        for row in rows:
            self.add({name: float(value) for name, value in row.items()})


def _short(value: float) -> str:
    return f"{value:.6g}" if value != int(value) else str(int(value))


def read(path: Path) -> list[dict[str, str]]:
    """Read a table's rows; none where there is no file yet."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def draw(folder: Path, title: str) -> None:
    """Draw both tables of a training: each part of the loss, and each figure, over steps."""
    figure = Figure(figsize=(12, 4.5), layout="constrained", dpi=110)
    for axes, name in zip(figure.subplots(1, 2), (LOSSES, FIGURES), strict=True):
        rows = read(folder / name)
        steps = [float(row["step"]) for row in rows]
        for column in rows[0] if rows else ():
            if column not in ("step", "seconds", "rate"):
                axes.plot(steps, [float(row[column]) for row in rows], label=column)
        axes.set_xlabel("step")
        axes.set_title(name.removesuffix(".csv"), fontsize="medium")
        axes.grid(visible=True, alpha=0.3)
        if axes.lines:
            axes.legend(frameon=False)
        if name == LOSSES and axes.lines:
            axes.set_yscale("log")
    figure.suptitle(title, parse_math=False)
    image = BytesIO()
    figure.savefig(image, format="png")
    write_whole(folder / PLOT, image.getvalue())

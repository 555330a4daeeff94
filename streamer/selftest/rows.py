"""What the self-test says: a row for each thing that it looked at, with its verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["right", "short", "missing", "stale", "failed", "told"]
# right: as expected, or better; short: worse; missing: a model has no weights here; stale: what is expected was
# recorded of other weights or other films; failed: it could not be measured; told: there is nothing to expect.
GOOD: frozenset[Verdict] = frozenset({"right", "told"})


@dataclass(frozen=True, slots=True)
class Bound:
    """Which values are right."""

    least: float = -math.inf
    most: float = math.inf
    about: float | None = None  # what was expected, where there is one such value

    def holds(self, value: float) -> bool:
        return self.least <= value <= self.most  # what is no number is never right

    def __str__(self) -> str:
        if self.about is not None:
            return f"{self.about:.1f}"
        if self.least == self.most:
            return f"{self.least:g}"
        if math.isinf(self.most):
            return f"{self.least:g} or more"
        return f"{self.most:g} or less" if math.isinf(self.least) else f"{self.least:g} to {self.most:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. FPS and latency are those of what was looked at, by itself where it is a node."""

    what: str
    figure: str
    unit: str
    verdict: Verdict
    measured: float | None = None
    expected: Bound | None = None
    runtime: str = ""
    precision: str = ""
    fps: float | None = None
    latency_ms: float | None = None  # at the median
    why: str = ""  # one sentence, where it is not right

    @property
    def good(self) -> bool:
        return self.verdict in GOOD


def judged(what: str, figure: str, unit: str, measured: float, expected: Bound, why: str = "") -> Row:
    """Make a row of a value that must keep within bounds; *why* says what it means when it does not."""
    right = expected.holds(measured)
    return Row(what, figure, unit, "right" if right else "short", measured, expected, why="" if right else why)


@dataclass(frozen=True, slots=True)
class Report:
    """All rows, and how long they took."""

    rows: tuple[Row, ...]
    seconds: float

    @property
    def good(self) -> bool:
        return bool(self.rows) and all(row.good for row in self.rows)

    def told(self) -> Mapping[str, Any]:
        """Say all of it as JSON can: what is no number is null."""
        return {"good": self.good, "seconds": round(self.seconds, 1), "rows": [_told(row) for row in self.rows]}


def _told(row: Row) -> Mapping[str, Any]:
    return {name: _plain(value) for name, value in asdict(row).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value

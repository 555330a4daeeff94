"""Pair rows with columns so that what all pairs have in common is as much as can be.

The shortest augmenting path of Jonker and Volgenant 1987, https://doi.org/10.1007/BF02278710, for rectangles as in
Crouse 2016, https://doi.org/10.1109/TAES.2016.140952. Most rows of a tracker's table need none: whoever is alone with
its only candidate is paired at once, all of them together, and the rest mostly by their first choice.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engines.boxes import Rows
from engines.types import Array

_Doubles = npt.NDArray[np.float64]


def match(similarity: Array, least: float) -> tuple[Rows, Rows]:
    """Pair rows with columns of *similarity* (N, M) so that the sum of what exceeds *least* is the greatest.

    Only pairs that exceed *least* are made, and each row and column is in one at most: rows (K,), ascending, and their
    columns (K,). Of pairings with equal sums it is always the same one that is chosen.
    """
    gain = np.maximum(similarity.astype(np.float64) - least, 0.0)
    wanted = gain > 0
    alone = wanted & (wanted.sum(1) == 1)[:, None] & (wanted.sum(0) == 1)
    rows, columns = np.nonzero(alone)
    contested = wanted & ~alone
    some, others = np.flatnonzero(contested.any(1)), np.flatnonzero(contested.any(0))
    if not len(some):
        return rows, columns
    i, j = _best(gain[np.ix_(some, others)])
    rows, columns = np.append(rows, some[i]), np.append(columns, others[j])
    order = np.argsort(rows)
    return rows[order], columns[order]


def _best(gain: _Doubles) -> tuple[Rows, Rows]:
    """Pair rows with columns of *gain* (N, M), which is never negative; pairs that gain nothing are not made."""
    wide = gain if gain.shape[0] <= gain.shape[1] else gain.T
    rows, columns = np.arange(len(wide)), _cheapest(-wide)
    worth = wide[rows, columns] > 0
    rows, columns = rows[worth], columns[worth]
    return (rows, columns) if wide is gain else (columns, rows)


def _cheapest(cost: _Doubles) -> Rows:
    """Give each row of *cost* (N, M >= N) a column of its own, as cheaply as can be for all together: (N,)."""
    prices = _Prices(cost)
    for row in np.flatnonzero(prices.column_of < 0):
        prices.augment(int(row))
    return prices.column_of


class _Prices:
    """A partial assignment with the prices that prove it optimal: no pair costs less than u + v, those made no more.

    Columns without a row have v = 0, and no v is above it.
    """

    def __init__(self, cost: _Doubles) -> None:
        rows, columns = cost.shape
        favourite = cost.argmin(1)
        _, first = np.unique(favourite, return_index=True)  # of all rows that want a column, the first one has it
        self._cost = cost
        self._u, self._v = cost.min(1), np.zeros(columns)
        self.column_of: Rows = np.full(rows, -1)
        self.column_of[first] = favourite[first]
        self._row_of: Rows = np.full(columns, -1)
        self._row_of[favourite[first]] = first

    def augment(self, row: int) -> None:
        """Assign one more row, moving others where that is cheaper for all."""
        column, before = self._search(row)
        at = -1
        while at != row:
            at = int(before[column])
            self._row_of[column] = at
            column, self.column_of[at] = int(self.column_of[at]), column

    def _search(self, row: int) -> tuple[int, Rows]:
        """Walk from *row* to the nearest column that is free (Dijkstra): it, and the row before each column."""
        distance = np.full(len(self._v), np.inf)
        open_distance = distance.copy()
        before: Rows = np.full(len(self._v), row)
        settled: list[int] = []
        here, walked = row, 0.0
        while True:
            reach = self._cost[here] - self._v
            reach += walked - self._u[here]
            closer = reach < distance
            closer[settled] = False
            distance[closer] = open_distance[closer] = reach[closer]
            before[closer] = here
            column = int(open_distance.argmin())
            walked = float(distance[column])
            here = int(self._row_of[column])
            if here < 0:
                break
            settled.append(column)
            open_distance[column] = np.inf
        slack = walked - distance[settled]
        self._v[settled] -= slack
        self._u[self._row_of[settled]] += slack
        self._u[row] += walked
        return column, before

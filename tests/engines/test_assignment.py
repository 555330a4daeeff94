from __future__ import annotations

from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engines.track.assignment import match

Doubles = npt.NDArray[np.float64]

# A coarse grid, so that ties and rows that want the same column are the rule.
VALUES = st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.5, 0.7, 0.9, 1.0])


@st.composite
def tables(draw: st.DrawFn, most: int) -> Doubles:
    shape = draw(st.tuples(st.integers(0, most), st.integers(0, most)))
    return draw(hnp.arrays(np.float64, shape, elements=VALUES))


def worth(similarity: Doubles, least: float) -> float:
    rows, columns = match(similarity, least)
    assert (np.diff(rows) > 0).all()
    assert len(set(columns.tolist())) == len(columns)
    gains = similarity[rows, columns] - least
    assert (gains > 0).all()
    return float(gains.sum())


def by_trying_all(similarity: Doubles, least: float) -> float:
    gain = np.maximum(similarity - least, 0)
    if gain.shape[0] > gain.shape[1]:
        gain = gain.T
    rows = range(gain.shape[0])
    return max(
        float(sum(gain[i, j] for i, j in zip(rows, p, strict=True)))
        for p in permutations(range(gain.shape[1]), len(rows))
    )


@given(tables(5), st.sampled_from([0.0, 0.15, 0.5, 0.95]))
def test_no_other_pairing_is_worth_more(similarity: Doubles, least: float) -> None:
    assert worth(similarity, least) == pytest.approx(by_trying_all(similarity, least))


@pytest.mark.parametrize(("rows", "columns", "least"), [(60, 60, 0.0), (40, 90, 0.3), (90, 40, 0.9), (70, 70, 0.97)])
def test_large_tables_are_worth_what_scipy_makes_of_them(rows: int, columns: int, least: float) -> None:
    optimize = pytest.importorskip("scipy.optimize", reason="scipy is not installed: pip install 'streamer[test]'")
    rng = np.random.default_rng(rows)
    for _ in range(5):
        similarity = rng.random((rows, columns))
        gain = np.maximum(similarity - least, 0)
        assert worth(similarity, least) == pytest.approx(gain[optimize.linear_sum_assignment(-gain)].sum())


def test_the_best_for_all_is_not_the_best_for_the_first() -> None:
    similarity = np.array([[0.9, 0.8], [0.85, 0.1]], np.float32)
    rows, columns = match(similarity, 0.2)
    assert (rows.tolist(), columns.tolist()) == ([0, 1], [1, 0])


def test_a_row_stays_alone_where_that_is_worth_more() -> None:
    similarity = np.array([[0.9, 0.31], [0.35, 0.0]])
    rows, columns = match(similarity, 0.3)  # 0.6 for the first alone, 0.01 + 0.05 for both
    assert (rows.tolist(), columns.tolist()) == ([0], [0])


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_is_paired_with_nothing(shape: tuple[int, int]) -> None:
    rows, columns = match(np.zeros(shape), 0.1)
    assert len(rows) == len(columns) == 0


def test_what_just_reaches_the_least_is_not_paired() -> None:
    assert len(match(np.full((3, 3), 0.5), 0.5)[0]) == 0

from __future__ import annotations

from itertools import islice

import pytest

from streamer.backoff import Backoff


def test_delays_double_up_to_the_longest() -> None:
    delays = Backoff(0.5, 3.0).delays(chance=lambda: 0.0)
    assert list(islice(delays, 5)) == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_chance_only_shortens_and_never_to_nothing() -> None:
    policy = Backoff(1.0, 8.0, jitter=0.5)
    assert list(islice(policy.delays(chance=lambda: 0.999999), 2)) == pytest.approx([0.5, 1.0], rel=1e-3)
    assert all(0.5 <= next(policy.delays()) <= 1.0 for _ in range(50))


def test_each_iterator_starts_anew() -> None:
    policy = Backoff()
    first = policy.delays(chance=lambda: 0.0)
    list(islice(first, 3))
    assert next(policy.delays(chance=lambda: 0.0)) == policy.delay


@pytest.mark.parametrize("wrong", [{"delay": 0.0}, {"delay": 5.0, "max_delay": 1.0}, {"factor": 0.5}, {"jitter": 1.0}])
def test_nonsense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Backoff(**wrong)

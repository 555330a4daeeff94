from __future__ import annotations

from itertools import islice

import pytest

from streamer.backoff import Backoff, Retries


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


@pytest.mark.parametrize(
    "wrong", [{"delay": 0.0}, {"delay": 5.0, "max_delay": 1.0}, {"factor": 0.5}, {"jitter": 1.0}, {"refused": 0.0}]
)
def test_nonsense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Backoff(**wrong)


STEADY = Backoff(1.0, 8.0, jitter=0.0, refused=100.0)


def test_time_that_a_try_has_spent_counts_as_waiting() -> None:
    retries = Retries(STEADY)
    assert [retries.failed(spent=2.5) for _ in range(5)] == [1.0, 1.0, 1.5, 5.5, 5.5]


def test_after_it_worked_the_next_failure_is_a_first_one() -> None:
    retries = Retries(STEADY)
    assert [retries.failed(), retries.failed()] == [1.0, 2.0]
    retries.worked()
    assert [retries.failed(spent=3600), retries.failed()] == [1.0, 2.0]


def test_who_is_refused_five_times_tries_rarely_until_it_works_again() -> None:
    retries = Retries(STEADY)
    assert [retries.refused() for _ in range(5)] == [1.0, 2.0, 4.0, 8.0, 8.0]
    assert not retries.rare
    assert [retries.refused(), retries.refused()] == [100.0, 100.0]
    assert retries.rare
    assert retries.failed() == 8.0  # out of reach, perhaps restarting: as usual
    assert retries.refused() == 100.0
    retries.worked()
    assert retries.refused() == 1.0

"""What waits for Redis stays within its bounds, in results and in bytes, and nothing goes uncounted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.sinks.newest import Newest
from streamer.sinks.outbox import Capacity, Outbox, Result
from streamer.wire.ids import EntryId


def result(seq: int, size: int) -> Result:
    return Result("gate", 0.0, "results:gate", EntryId(1, seq), bytes(size), "live:gate")


sizes = st.lists(st.integers(0, 300), max_size=60)


@given(sizes, st.integers(1, 20), st.integers(1, 1000), st.integers(0, 10))
def test_the_oldest_go_and_the_newest_stay(sizes: list[int], most: int, size: int, pinned: int) -> None:
    outbox = Outbox(Capacity(most, size), "drop-oldest")
    results = [result(seq, length) for seq, length in enumerate(sizes)]
    gone = outbox.put(results[:pinned])
    on_their_way = outbox.pin(5)
    for one in results[pinned:]:
        gone += outbox.put([one])
        waiting = outbox.size - sum(len(r.payload) for r in on_their_way)
        assert waiting <= max(size, len(one.payload))
    left = outbox.discard()
    assert sorted([*gone, *left], key=lambda r: r.id) == results, "each went or is there, and once"
    assert len(left) <= most + len(on_their_way)
    assert left[: len(on_their_way)] == on_their_way
    assert left[len(on_their_way) :] == results[len(results) - len(left) + len(on_their_way) :]


def test_what_was_written_is_neither_left_nor_lost_when_the_end_comes_meanwhile() -> None:
    outbox = Outbox(Capacity(10, 1000), "drop-oldest")
    outbox.put([result(seq, 10) for seq in range(4)])
    batch = outbox.pin(3)
    batch[0].written = True
    assert [r.id.seq for r in outbox.discard()] == [1, 2, 3]
    batch[1].written = True  # too late: it was counted as left
    assert outbox.settle() == [batch[0]]
    assert outbox.size == 0


@given(st.lists(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 300).map(bytes))), st.integers(1, 600))
def test_newest_values_stay_within_their_bound(rounds: list[dict[str, bytes]], limit: int) -> None:
    newest, told = Newest(limit), dict[str, bytes]()
    for values in rounds:
        newest.put(values)
        for key, value in values.items():
            told.pop(key, None)
            told[key] = value
        assert newest.size <= max(limit, len(next(reversed(told.values()), b"")))
    taken: dict[str, bytes] = {}
    while newest:
        taken |= newest.take(200)
    assert newest.size == 0
    assert [*taken.items()] == [*told.items()][len(told) - len(taken) :], "the newest of the newest, oldest first"


def test_what_could_not_be_written_goes_back_behind_what_is_newer() -> None:
    newest = Newest(1000)
    newest.put({"a": b"old", "b": b"old"})
    taken = newest.take(1000)
    newest.put({"a": b"new"})
    newest.put_back(taken)
    assert newest.take(1000) == {"a": b"new", "b": b"old"}

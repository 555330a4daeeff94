from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.mailbox import Mailbox

STEPS = st.lists(st.one_of(st.just("put"), st.integers(1, 5)), max_size=60)


@given(capacity=st.integers(1, 6), steps=STEPS)
def test_every_item_is_taken_once_in_order_or_reported_dropped(capacity: int, steps: list[str | int]) -> None:
    dropped: list[int] = []
    taken: list[int] = []
    box: Mailbox[int] = Mailbox(capacity, dropped.append)
    count = 0
    for step in steps:
        if step == "put":
            box.put(count)
            count += 1
        elif isinstance(step, int):
            taken += box.poll(step)
        assert len(box) <= capacity
    taken += box.discard()
    assert taken == sorted(taken)
    assert sorted(taken + dropped) == list(range(count))

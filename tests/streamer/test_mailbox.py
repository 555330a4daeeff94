from __future__ import annotations

import threading

import pytest

from streamer.mailbox import Closed, Mailbox


def test_put_waits_for_room() -> None:
    box: Mailbox[int] = Mailbox(1)
    done = threading.Event()

    def fill() -> None:
        for i in range(3):
            box.put(i)
        done.set()

    threading.Thread(target=fill, daemon=True).start()
    assert [box.take() for _ in range(3)] == [0, 1, 2]
    assert done.wait(5)


def test_what_is_inside_outlives_closing() -> None:
    box: Mailbox[int] = Mailbox(3)
    box.put(1)
    box.close()
    assert box.take() == 1
    with pytest.raises(Closed):
        box.take()


def test_closing_frees_whoever_waits_to_put_and_whoever_waits_to_take() -> None:
    full: Mailbox[int] = Mailbox(1)
    full.put(0)
    empty: Mailbox[int] = Mailbox(1)
    ended: list[str] = []

    def wait(name: str, job: object) -> None:
        assert callable(job)
        try:
            job()
        except Closed:
            ended.append(name)

    threads = [
        threading.Thread(target=wait, args=("put", lambda: full.put(1))),
        threading.Thread(target=wait, args=("take", lambda: empty.take())),
    ]
    for thread in threads:
        thread.start()
    full.close()
    empty.close()
    for thread in threads:
        thread.join(5)
    assert sorted(ended) == ["put", "take"]
    assert full.take() == 0


def test_discard_returns_what_nobody_will_take() -> None:
    box: Mailbox[int] = Mailbox(4)
    box.put(1)
    box.put(2)
    assert box.discard() == [1, 2]
    with pytest.raises(Closed):
        box.put(3)

"""Batches in the order of their steps, made by other processes while the network learns.

Torch's own loader would do it, too, but it leaves a handler of SIGCHLD behind: whatever child ends later runs it, on a
stack for signals that some libraries have freed by then.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import cv2
import torch

from engines.train.errors import TrainingError
from engines.train.plan import Plan
from engines.train.task import Task

Batch = TypeVar("Batch")

_AHEAD = 4  # batches of each process that wait for their step
_task: Task[Any] | None = None  # of a process that makes batches


def batches(task: Task[Batch], plan: Plan, first: int) -> Generator[Batch, None, None]:
    """Make the batches of the steps from *first* on. Raises TrainingError where a process ends that makes them."""
    steps = range(first, plan.steps)
    if not plan.workers:
        yield from (task.batch(step, plan.batch) for step in steps)
        return
    # A forked process has the task already; else it is sent there.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    pool = ProcessPoolExecutor(plan.workers, context, _begin, (task,))
    waiting: deque[Future[Batch]] = deque()
    try:
        for step in steps:
            waiting.append(pool.submit(_make, step, plan.batch))
            if len(waiting) > _AHEAD * plan.workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise TrainingError(
            "a process that makes batches ended of a sudden (out of memory?): go on with --resume and fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(task: Task[Any]) -> None:
    global _task  # noqa: PLW0603 - a process of a pool has no other place for it
    _task = task
    torch.set_num_threads(1)
    cv2.setNumThreads(0)  # its threads do not live on in a forked process, and would be waited for
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the training, which ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _make(step: int, size: int) -> Any:
    assert _task is not None, "begun with it"  # noqa: S101 - for the type checker
    return _task.batch(step, size)

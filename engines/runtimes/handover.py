"""From one runtime to the next while batches keep coming: the new one must first give what the old one gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

from engines.boxes import iou
from engines.errors import EngineError
from engines.runtimes.base import LANES, Overlapping, Runtime
from engines.types import Array, TensorSpec

Outputs: TypeAlias = Mapping[str, Array]
Agree = Callable[[Outputs, Outputs], str | None]  # old, new -> why not, or None
Tell = Callable[[str], None]

_SURE = 0.3  # confidence from which an object counts
_NEAR = 0.1  # scores that differ by less are the same
_OVERLAP = 0.8  # boxes that overlap by more are the same
_APART = 0.1  # relative, of a whole output: two precisions of one network differ by less


class Building(Protocol):
    """An engine to be; `engines.build.rebuild.Rebuild` is one."""

    def done(self) -> bool: ...
    def result(self) -> Path: ...  # raises EngineError
    def close(self) -> None: ...


class Coming(Protocol):
    """A runtime to be."""

    def poll(self) -> Runtime | None: ...  # returns at once; raises EngineError when it will never come
    def close(self) -> None: ...  # whoever was given the runtime closes that


class Opening:
    """A runtime to be, of an engine that is still being built; it is opened by a thread of the *executor*."""

    def __init__(self, building: Building, opener: Callable[[Path], Runtime], executor: Executor) -> None:
        self._building, self._opener, self._executor = building, opener, executor
        self._future: Future[Runtime] | None = None

    def poll(self) -> Runtime | None:
        if self._future is None and self._building.done():
            self._future = self._executor.submit(self._opened)
        if self._future is None or not self._future.done():
            return None
        runtime, self._future = self._future.result(), Future()  # one that never ends: what comes has come
        return runtime

    def close(self) -> None:
        """Wait for nothing: a runtime that is being opened just now closes as soon as it is open."""
        self._building.close()
        if self._future is not None:
            self._future.add_done_callback(_close_unwanted)

    def _opened(self) -> Runtime:
        runtime = self._opener(self._building.result())
        try:
            runtime.infer(_blank(runtime))  # the first batch allocates, and may compile
        except BaseException:
            runtime.close()
            raise
        return runtime


class Handover:
    """A runtime that serves with *current*, and with the one that is *coming* once both agree on some batches.

    While it tries, each batch runs on both, and the current one's outputs are what the caller gets. If the new one
    never comes, does not fit or does not agree, the current one stays; `tell` hears it. It overlaps as much as both do.
    """

    def __init__(self, current: Runtime, coming: Coming, agree: Agree, tell: Tell, batches: int = 3) -> None:
        self.inputs, self.outputs, self.max_batch = current.inputs, current.outputs, current.max_batch
        self.lanes = current.lanes if isinstance(current, Overlapping) else LANES
        self._serving = _in_lanes(current, self.lanes)
        self._coming, self._agree, self._tell = coming, agree, tell
        self._left = batches
        self._other: Runtime | None = None  # the new one while it is tried, then the old one until it can be closed
        self._step: Callable[[Runtime, Outputs, Outputs], None] = self._await

    @property
    def description(self) -> str:
        waiting = self._step in (self._await, self._try)
        return f"{self._serving.description}{', a new engine is coming' if waiting else ''}"

    def infer(self, feeds: Mapping[str, Array]) -> Outputs:
        """Run 1 to `max_batch` rows; the outputs are valid until the next call. Raises ModelError."""
        return self.start(feeds)()

    def start(self, feeds: Mapping[str, Array]) -> Callable[[], Outputs]:
        """Begin with 1 to `max_batch` rows; the function that it returns waits for them. Both raise ModelError."""
        serving = self._serving
        wait = serving.start(feeds)

        def finish() -> Outputs:
            outputs = wait()
            # Steps are taken here only: one thread may start batches while another finishes them.
            self._step(serving, feeds, outputs)
            return outputs

        return finish

    def close(self) -> None:
        self._step = self._rest
        self._coming.close()
        self._serving.close()
        self._close_other()

    def _await(self, _served: Runtime, _feeds: Outputs, _outputs: Outputs) -> None:
        try:
            self._other = self._coming.poll()
        except EngineError as error:
            return self._keep(str(error))
        if self._other is None:
            return None
        if why := _misfit(self._serving, self._other):
            return self._keep(why)
        self._step = self._try
        return None

    def _try(self, _served: Runtime, feeds: Outputs, outputs: Outputs) -> None:
        assert self._other is not None, "set by the step before"  # noqa: S101 - for the type checker
        try:
            why = self._agree(outputs, self._other.infer(feeds))
        except EngineError as error:
            why = str(error)
        if why:
            return self._keep(why)
        self._left -= 1
        if self._left <= 0:
            self._take_over(self._other)
        return None

    def _take_over(self, new: Runtime) -> None:
        self._other, self._serving = self._serving, _in_lanes(new, self.lanes)
        self._left = self.lanes
        self._step = self._retire
        self._tell(f"the new engine gives the same, and serves from now on: {new.description}")

    def _retire(self, served: Runtime, _feeds: Outputs, _outputs: Outputs) -> None:
        """Close the old one when its last outputs are the caller's no more."""
        if served is not self._serving:
            return
        self._left -= 1
        if self._left < 0:
            self._step = self._rest
            self._close_other()

    def _rest(self, _served: Runtime, _feeds: Outputs, _outputs: Outputs) -> None:
        """Nothing is left to do."""

    def _keep(self, why: str) -> None:
        self._step = self._rest
        self._close_other()
        self._coming.close()
        self._tell(f"the engine from before goes on serving ({self._serving.description}), for {why}")

    def _close_other(self) -> None:
        other, self._other = self._other, None
        if other is not None:
            other.close()


class _Stepwise:
    """A runtime that does not overlap, or not enough, for a caller who does: each batch waits until it is asked for."""

    def __init__(self, runtime: Runtime, lanes: int) -> None:
        self._runtime, self.lanes = runtime, lanes
        self.inputs, self.outputs, self.max_batch = runtime.inputs, runtime.outputs, runtime.max_batch

    @property
    def description(self) -> str:
        return self._runtime.description

    def infer(self, feeds: Mapping[str, Array]) -> Outputs:
        return self._runtime.infer(feeds)

    def start(self, feeds: Mapping[str, Array]) -> Callable[[], Outputs]:
        # Copied, for the runtime uses its memory again sooner than the caller expects.
        return lambda: {name: output.copy() for name, output in self._runtime.infer(feeds).items()}

    def close(self) -> None:
        self._runtime.close()


def _in_lanes(runtime: Runtime, lanes: int) -> Overlapping:
    if isinstance(runtime, Overlapping) and runtime.lanes >= lanes:
        return runtime
    return _Stepwise(runtime, lanes)


def same_candidates(old: Outputs, new: Outputs) -> str | None:
    """Say which object of `boxes` (N, K, 4), `scores` (N, K), `classes` (N, K) only one of both has; None if none.

    Objects are candidates of some confidence; its like is one of the same class, much the same box, and a near score.
    Where there are none, the best scores must be near each other. What a segmenter gives besides is not looked at: its
    masks are made by the same layers as its boxes.
    """
    for row, (best, other) in enumerate(zip(_best(old), _best(new), strict=True)):
        if not abs(best - other) <= _NEAR:  # so put, it is true of what is not a number
            return f"the best score of image {row} is {other:.2f} from the new engine, but was {best:.2f}"
        for name, one, two in (("new", old, new), ("old", new, old)):
            if lost := _without_like(one, two, row):
                return f"the {name} engine has not found {lost} in image {row}"
    return None


def same_values(old: Outputs, new: Outputs) -> str | None:
    """Say which output differs by more than two precisions of one network do; None if none."""
    for name, before in old.items():
        error = float(np.linalg.norm(new[name] - before)) / max(float(np.linalg.norm(before)), 1e-6)
        if not error <= _APART:  # so put, it is true of what is not a number
            return f"{name} of the new engine differs by {error:.0%}"
    return None


def _best(outputs: Outputs) -> Array:
    """Find the highest score of every row; 0 where there are no candidates at all."""
    scores = outputs["scores"]
    best: Array = scores.max(1) if scores.shape[1] else np.zeros(len(scores), scores.dtype)
    return best


def _without_like(one: Outputs, two: Outputs, row: int) -> str | None:
    sure = np.flatnonzero(one["scores"][row] >= _SURE)
    boxes, scores, classes = (one[name][row][sure] for name in ("boxes", "scores", "classes"))
    like = iou(boxes, two["boxes"][row]) >= _OVERLAP
    like &= classes[:, None] == two["classes"][row]
    like &= np.abs(scores[:, None] - two["scores"][row]) <= _NEAR
    for i in np.flatnonzero(~like.any(1)):
        return f"class {classes[i]} at ({', '.join(f'{n:.0f}' for n in boxes[i])}) with score {scores[i]:.2f}"
    return None


def _misfit(old: Runtime, new: Runtime) -> str | None:
    """Say why what is fed to the old one cannot be fed to the new one, or is not what comes out."""
    if new.max_batch < old.max_batch:
        return f"the new engine takes batches of {new.max_batch} only, where {old.max_batch} are needed"
    for what, mine, theirs in (("input", old.inputs, new.inputs), ("output", old.outputs, new.outputs)):
        if not _alike(mine, theirs):
            return f"the new engine has other {what}s"
    return None


def _alike(mine: tuple[TensorSpec, ...], theirs: tuple[TensorSpec, ...]) -> bool:
    one, two = ({spec.name: spec for spec in specs} for specs in (mine, theirs))
    return one.keys() == two.keys() and all(
        spec.dtype == two[name].dtype
        and len(spec.shape) == len(two[name].shape)
        and all(None in pair or pair[0] == pair[1] for pair in zip(spec.shape, two[name].shape, strict=True))
        for name, spec in one.items()
    )


def _blank(runtime: Runtime) -> dict[str, Array]:
    return {spec.name: np.zeros((1, *(n or 1 for n in spec.shape[1:])), spec.dtype) for spec in runtime.inputs}


def _close_unwanted(future: Future[Runtime]) -> None:
    if not future.cancelled() and future.exception() is None:
        future.result().close()

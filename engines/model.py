"""A model is a triple: preprocess, runtime, postprocess."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from engines.decoders.numbers import check_outputs
from engines.errors import ModelError
from engines.runtimes.base import Overlapping, Runtime
from engines.types import Array, Geometry

In = TypeVar("In")
Out = TypeVar("Out")
In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)


class Preprocess(Protocol[In_contra]):
    """Turn items into network inputs, and remember how each one was placed."""

    def __call__(self, items: Sequence[In_contra], /) -> tuple[Mapping[str, Array], list[Geometry]]: ...


class Postprocess(Protocol[Out_co]):
    """Turn network outputs into one value per item, in source coordinates."""

    def __call__(self, outputs: Mapping[str, Array], geometry: Sequence[Geometry], /) -> Sequence[Out_co]: ...


@dataclass(frozen=True, slots=True)
class Model(Generic[In, Out]):
    """A network with what surrounds it: items in, values out."""

    name: str
    labels: tuple[str, ...]
    preprocess: Preprocess[In]
    runtime: Runtime
    postprocess: Postprocess[Out]
    # How many items each `begin` has left to its function; only who begins adds to it, only who finishes takes away.
    _left: deque[int] = field(default_factory=deque, init=False, repr=False, compare=False)

    def __call__(self, items: Sequence[In]) -> list[Out]:
        """Run on any number of items, in chunks the runtime can take. Raises ModelError."""
        results: list[Out] = []
        for start in range(0, len(items), self.runtime.max_batch):
            feeds, geometry = self.preprocess(items[start : start + self.runtime.max_batch])
            results += self._decoded(self.runtime.infer(feeds), geometry)
        return results

    def begin(self, items: Sequence[In]) -> Callable[[], list[Out]]:
        """Start on items; the function that is returned waits for their values.

        Where the runtime can overlap, it works meanwhile, for as many items as it takes at once; else all is left to
        the function, and so is what is begun before that has run: of two callers at a time a runtime would mix up what
        it was given. One thread may begin while another finishes, in the same order.
        """
        runtime = self.runtime
        if not items:
            return list[Out]
        if not isinstance(runtime, Overlapping) or len(items) > runtime.max_batch or self._left:
            self._left.append(len(items))
            return lambda: self._caught_up(items)
        feeds, geometry = self.preprocess(items)
        finish = runtime.start(feeds)
        return lambda: self._decoded(finish(), geometry)

    def close(self) -> None:
        self.runtime.close()

    def _caught_up(self, items: Sequence[In]) -> list[Out]:
        """Run on what was left to whoever finishes."""
        try:
            return self(items)
        finally:
            self._left.popleft()

    def _decoded(self, outputs: Mapping[str, Array], geometry: Sequence[Geometry]) -> list[Out]:
        """Make values of outputs. Raises ModelError, with whose they are, for what is no number or of a wrong shape."""
        try:
            check_outputs(outputs)
            return list(self.postprocess(outputs, geometry))
        except ModelError as error:
            raise ModelError(f"{self.name} on {self.runtime.description}: {error}") from error

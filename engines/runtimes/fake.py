"""A runtime driven by a plain function: the network of every test that is not about networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engines.errors import ModelError
from engines.runtimes.checks import check_feeds
from engines.types import Array, TensorSpec


class FakeRuntime:
    """Answer `infer` with *handler*, and remember the size of every batch.

    With *inputs* given, feeds are checked against them as every runtime does it.
    """

    description = "fake"

    def __init__(
        self,
        handler: Callable[[Mapping[str, Array]], Mapping[str, Array]],
        inputs: tuple[TensorSpec, ...] = (),
        outputs: tuple[TensorSpec, ...] = (),
        max_batch: int = 8,
    ) -> None:
        self.handler, self.inputs, self.outputs, self.max_batch = handler, inputs, outputs, max_batch
        self.batch_sizes: list[int] = []
        self.closed = False

    def infer(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        if self.closed:
            raise ModelError("the fake network is closed: open it again")
        if self.inputs:
            check_feeds("the fake network", self.inputs, feeds, self.max_batch)
        self.batch_sizes.append(len(next(iter(feeds.values()))))
        return self.handler(feeds)

    def close(self) -> None:
        self.closed = True

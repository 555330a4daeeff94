"""A runtime driven by a plain function: the network of every test that is not about networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engines.types import Array, TensorSpec


class FakeRuntime:
    """Answer `infer` with *handler*, and remember the size of every batch."""

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

    def infer(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        self.batch_sizes.append(len(next(iter(feeds.values()))))
        return self.handler(feeds)

    def close(self) -> None:
        """Nothing to release."""

"""The node that runs code of the user's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo

from streamer.config.node import Fault, Node, ordinal
from streamer.config.userclass import Contract, contract, load_class
from streamer.config.values import Count

FOLDER = "folder"  # in the context of a validation: where the pipeline file lies


def _imported(value: object, info: ValidationInfo) -> type:
    """Import what ``class:`` names, and see that it is a node's class. Raises ValueError."""
    if not isinstance(value, str | type):
        raise ValueError("must be text, such as package.module:Class")
    folder = (info.context or {}).get(FOLDER, Path())
    made = load_class(value, folder) if isinstance(value, str) else value
    contract(made)
    return made


class Python(Node):
    """Run a class of the user's own; `streamer.stages.python` says what it is to be like."""

    kind: Literal["python"]
    made: Annotated[type, BeforeValidator(_imported), Field(alias="class")]  # package.module:Class, or file.py:Class
    reads: tuple[str, ...] = ()  # nodes, in the order in which the class expects their values
    options: Mapping[str, Any] = {}  # what it is made with
    numbered = True
    every: Count = 1  # look at each Nth frame of a camera, from its first on

    @property
    def contract(self) -> Contract:
        return contract(self.made)

    @property
    def value(self) -> type:  # type: ignore[override]  # each class has its own
        return self.contract.writes

    def sources(self) -> Mapping[str, type]:
        return dict(zip(self.reads, self.contract.reads, strict=False))

    def faults(self, nodes: Mapping[str, Node]) -> Iterator[Fault]:  # noqa: ARG002 - it looks at itself
        wanted = self.contract.reads
        if len(self.reads) != len(wanted):
            kinds = ", ".join(kind.__name__ for kind in wanted)
            expects = f"{len(wanted)} ({kinds})" if wanted else "none"
            yield ("reads",), f"names {len(self.reads)}, but {self.made.__name__} expects {expects}: one a value"

    def arguments(self) -> dict[str, Any]:
        """Say what the class is made with, in the types that it asks for. Raises ValidationError."""
        given = self.contract.options.model_validate(self.options)
        fields = type(given).model_fields
        named = {fields[name].alias or name: getattr(given, name) for name in given.model_fields_set if name in fields}
        return {**named, **(given.model_extra or {})}

    def summary(self) -> str:
        """Say for people what the node does: ``python Fall on tracks, every 2nd frame``."""
        on = f" on {', '.join(self.reads)}" if self.reads else ""
        return f"python {self.made.__name__}{on}" + ("" if self.every == 1 else f", every {ordinal(self.every)} frame")

"""Order declared nodes and check that every port is written before it is read."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from typing import Any, Protocol, TypeVar

from streamer.errors import GraphError
from streamer.types import Port

__all__ = ["GraphError", "order"]


class Node(Protocol):
    """What the graph needs to know of a stage, opened or only declared."""

    @property
    def reads(self) -> tuple[Port[Any], ...]: ...
    @property
    def writes(self) -> Port[Any]: ...


N = TypeVar("N", bound=Node)


def order(nodes: Mapping[str, N]) -> list[N]:
    """Return nodes so that each comes after those it reads. Raise GraphError when that cannot be."""
    for name, node in nodes.items():
        for port in node.reads:
            _check(name, port, nodes)
    try:
        names = TopologicalSorter({n: [p.node for p in s.reads] for n, s in nodes.items()}).static_order()
        return [nodes[n] for n in names]
    except CycleError as error:
        cycle = " -> ".join(reversed(error.args[1]))
        raise GraphError(f"nodes wait for each other in a cycle: {cycle}; let one read something else") from error


def _check(name: str, port: Port[Any], nodes: Mapping[str, Node]) -> None:
    if port.node not in nodes:
        near = get_close_matches(port.node, nodes, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise GraphError(f"reads {port.node!r}, which no node writes{hint}", name)
    written = nodes[port.node].writes.kind
    if not issubclass(written, port.kind):
        raise GraphError(f"reads {port.kind.__name__} from {port.node!r}, which writes {written.__name__}", name)

"""Kinds of nodes and sinks that other packages add."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamer import plugins
from streamer.config.model import Publish
from streamer.config.node import Node
from streamer.config.userclass import contract
from streamer.plugins import Group

GROUPS: dict[str | int, Group] = {"nodes": "streamer.nodes", "publish": "streamer.sinks"}  # by part of the file


def plugged(group: Group, kind: str) -> Any:
    """Find what a package offers as a kind: a `Node`, a `Publish`, or a class as ``kind: python`` takes it.

    None where no package offers it. Raises ConfigError, which says which package is at fault.
    """
    found = plugins.load(group, kind)
    fault = None if found is None else _FAULTS[group](found)
    if fault is not None:
        raise plugins.unfit(group, kind, fault)
    return found


def _fault_of_node(found: Any) -> str | None:
    if isinstance(found, type) and issubclass(found, Node):
        return _fault_of_open(found)
    if not isinstance(found, type):
        return f"it is {type(found).__name__} and no class"
    try:
        contract(found)
    except ValueError as error:
        return str(error)
    return None


def _fault_of_sink(found: Any) -> str | None:
    if isinstance(found, type) and issubclass(found, Publish):
        return _fault_of_open(found)
    return "it is no subclass of streamer.config.Publish"


def _fault_of_open(found: type) -> str | None:
    return None if callable(getattr(found, "open", None)) else f"{found.__name__} has no method 'open'"


_FAULTS: dict[Group, Callable[[Any], str | None]] = {"streamer.nodes": _fault_of_node, "streamer.sinks": _fault_of_sink}

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from engines.types import Detections, Flow
from streamer import graph
from streamer.types import Port


@dataclass
class Node:
    writes: Port[Any]
    reads: tuple[Port[Any], ...] = ()


def node(name: str, kind: type, *reads: Port[Any]) -> Node:
    return Node(Port(name, kind), reads)


def test_order_puts_writers_before_readers() -> None:
    nodes = {
        "c": node("c", Detections, Port("b", Detections), Port("a", Flow)),
        "b": node("b", Detections, Port("a", Flow)),
        "a": node("a", Flow),
    }
    assert [n.writes.node for n in graph.order(nodes)] == ["a", "b", "c"]


def test_reading_what_nobody_writes_names_the_nearest() -> None:
    nodes = {"yolo": node("yolo", Detections), "t": node("t", Detections, Port("yolp", Detections))}
    with pytest.raises(graph.GraphError, match=r"t: reads 'yolp', which no node writes; did you mean 'yolo'\?"):
        graph.order(nodes)


def test_reading_the_wrong_kind_is_refused() -> None:
    nodes = {"yolo": node("yolo", Detections), "t": node("t", Detections, Port("yolo", Flow))}
    with pytest.raises(graph.GraphError, match="reads Flow from 'yolo', which writes Detections"):
        graph.order(nodes)


def test_a_cycle_is_named() -> None:
    nodes = {
        "a": node("a", Detections, Port("b", Detections)),
        "b": node("b", Detections, Port("c", Detections)),
        "c": node("c", Detections, Port("a", Detections)),
    }
    with pytest.raises(graph.GraphError, match=r"cycle: \w -> \w -> \w -> \w"):
        graph.order(nodes)

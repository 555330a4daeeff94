"""What the wire and the drawing must know of each node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engines.manifest import Manifest
from engines.regions import Region
from engines.track.lines import Line
from streamer import config
from streamer.build.models import find_labels, find_manifests
from streamer.errors import InputError
from streamer.wire import NodeFacts, encodable


def find_facts(settings: config.Pipeline, manifests: Mapping[str, Manifest] | None = None) -> dict[str, NodeFacts]:
    """Say what is known of every node before it is opened.

    Raises InputError when a model is not known, or a sink is to write what has no form on the wire.
    """
    _check_published(settings)
    manifests = find_manifests(settings) if manifests is None else manifests
    labels = find_labels(settings, manifests)
    return {name: _facts(node, labels.get(name, ())) for name, node in settings.nodes.items()}


def _check_published(settings: config.Pipeline) -> None:
    for index, sink in enumerate(settings.publish):
        for at, name in enumerate(() if isinstance(sink, config.Video) else sink.nodes or ()):
            kind = settings.nodes[name].value
            if not encodable(kind):
                raise InputError(
                    f"{settings.at('publish', index, 'nodes', at)}{name} writes {kind.__name__}, which has no form on "
                    "the wire; leave it out, or let it write a Note"
                )


def _facts(node: config.Node, labels: tuple[str, ...]) -> NodeFacts:
    match node:
        case config.FindObjects():
            masks = node.masks if isinstance(node, config.Segment) else "none"
            return NodeFacts(labels, masks, regions_of(node.regions))
        case config.Truth():
            return NodeFacts(labels, node.masks)
        case config.Lines():
            return NodeFacts(labels, lines=lines_of(node))
        case config.Zones():
            return NodeFacts(labels, zones=regions_of(node.zones))
        case config.Recognise():
            return NodeFacts(labels, top=node.top)
        case config.Flow():
            return NodeFacts(field=node.field)
    return NodeFacts(labels)


def regions_of(named: Mapping[str, Sequence[tuple[float, float]]]) -> tuple[Region, ...]:
    return tuple(Region(name, tuple(points)) for name, points in named.items())


def lines_of(node: config.Lines) -> tuple[Line, ...]:
    return tuple(Line(name, *points) for name, points in node.lines.items())

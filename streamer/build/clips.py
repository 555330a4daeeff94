"""What clips must be, as the models say that look at them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from engines.errors import ManifestError
from engines.manifest import Manifest
from engines.recognition import ClipSpec, clip_spec
from streamer import config
from streamer.errors import InputError
from streamer.stages.clips import ClipOptions


@dataclass(frozen=True, slots=True)
class _Reader:
    """A node that reads clips, and what its model wants."""

    node: str
    spec: ClipSpec


def plan_clips(settings: config.Pipeline, manifests: Mapping[str, Manifest]) -> dict[str, ClipOptions]:
    """Say for every clips node what it makes. Raises InputError: one line for each thing that does not fit."""
    nodes = {name: node for name, node in settings.nodes.items() if isinstance(node, config.Clips)}
    readers = {name: _readers(name, settings, manifests) for name in nodes}
    faults = [
        settings.at("nodes", name) + fault for name, node in nodes.items() for fault in _faults(node, readers[name])
    ]
    if faults:
        raise InputError("\n".join(faults))
    return {name: _options(node, readers[name]) for name, node in nodes.items()}


def _readers(clips: str, settings: config.Pipeline, manifests: Mapping[str, Manifest]) -> list[_Reader]:
    readers = []
    for name, node in settings.nodes.items():
        if isinstance(node, config.Recognise) and node.clips == clips:
            try:
                readers.append(_Reader(name, clip_spec(manifests[name])))
            except ManifestError as error:
                raise InputError(settings.at("nodes", name, "model") + str(error)) from error
    return readers


def _faults(node: config.Clips, readers: list[_Reader]) -> Iterator[str]:
    if not readers and None in (node.length, node.fps, node.size):
        yield "no recognise node reads these clips and says what they are; add one, or give length, fps and size"
    for reader in readers:
        yield from _misfits(node, reader, readers[0])


def _misfits(node: config.Clips, reader: _Reader, first: _Reader) -> Iterator[str]:
    spec, who = reader.spec, reader.node
    if node.size not in (None, spec.size):
        yield f"size {_shown(node.size)} is not the {_shown(spec.size)} that {who} looks at; leave it out"
    if node.length is not None and node.length < spec.length:
        yield f"length {node.length} is less than the {spec.length} samples that {who} looks at; leave it out"
    if node.size is None and spec.size != first.spec.size:
        yield _apart(who, first.node, f"{_shown(spec.size)} and {_shown(first.spec.size)} pixels")
    if node.fps is None and spec.fps != first.spec.fps:
        yield _apart(who, first.node, f"{spec.fps:g} and {first.spec.fps:g} samples a second")
    if "flow" in spec.inputs and node.flow is None:
        yield f"{who} looks at motion, but these clips have none; name a flow node with 'flow'"


def _apart(one: str, other: str, what: str) -> str:
    return f"{one} and {other} want clips of {what}; give each clips of its own"


def _shown(size: tuple[int, int] | None) -> str:
    return "x".join(str(side) for side in size or ())


def _options(node: config.Clips, readers: list[_Reader]) -> ClipOptions:
    """Fill in what the node leaves open. The longest clip serves all: models take the middle of one that is longer."""
    specs = [reader.spec for reader in readers]
    length = node.length or max(spec.length for spec in specs)
    return ClipOptions(
        length=length,
        stride=node.stride or max(1, length // 2),
        fps=node.fps or specs[0].fps,
        size=node.size or specs[0].size,
        margin=node.margin,
        smooth=node.smooth or 0.0,
        gap=node.gap or max(2, length // 4),
        tracks=node.tracks,
        fit=node.fit,
    )

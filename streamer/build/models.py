"""The models that nodes name: found and checked before the first one is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engines.classical import METHODS
from engines.errors import ManifestError
from engines.manifest import Manifest, Task, find, names
from engines.world import CLASSES
from engines.yamlsource import suggest
from streamer import config
from streamer.errors import InputError


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A model that a node names, and what it may be for."""

    model: str
    tasks: tuple[Task, ...]


def find_manifests(settings: config.Pipeline) -> dict[str, Manifest]:
    """Find the manifest of every node that runs a network, and check what the node asks of it. Raises InputError."""
    found = {}
    for name, node in settings.nodes.items():
        if isinstance(node, config.Flow) and node.model in METHODS and node.weights:
            raise InputError(f"{settings.at('nodes', name, 'weights')}{node.model} has no weights; leave it out")
        if (wanted := _wanted(node)) is None:
            continue
        found[name] = _find_manifest(node.kind, wanted, settings.at("nodes", name, "model"))
        if isinstance(node, config.FindObjects):
            _check_classes(node, found[name], settings.at("nodes", name, "classes"))
        if isinstance(node, config.Recognise) and node.weights and found[name].decoder.kind == "fusion":
            at = settings.at("nodes", name, "weights")
            raise InputError(f"{at}{found[name].name} is several networks; give each its own in a manifest")
    return found


def _wanted(node: config.Node) -> _Wanted | None:
    match node:
        case config.FindObjects():
            return _Wanted(node.model, node.tasks)
        case config.Flow():
            return None if node.model in METHODS else _Wanted(node.model, ("flow",))
        case config.Recognise():
            return _Wanted(node.model, ("recognise",))
    return None


def _find_manifest(kind: str, wanted: _Wanted, at: str) -> Manifest:
    try:
        manifest = find(wanted.model)
    except ManifestError as error:
        raise InputError("\n".join(at + line for line in str(error).splitlines())) from error
    if manifest.task not in wanted.tasks:
        no_masks = manifest.task == "detect" and "segment" in wanted.tasks
        lacks = "gives no masks" if no_masks else f"is a model for {manifest.task}"
        fitting = ", ".join(name for name in names() if find(name).task in wanted.tasks)
        raise InputError(f"{at}{manifest.name} {lacks}; name one that a {kind} node can use: {fitting}")
    return manifest


def _check_classes(node: config.FindObjects, manifest: Manifest, at: str) -> None:
    for label in node.classes or ():
        if label not in manifest.labels:
            hint = suggest(label, manifest.labels)
            raise InputError(f"{at}{manifest.name} knows no class {label!r}{hint}; see `streamer models show`")


def find_labels(settings: config.Pipeline, manifests: Mapping[str, Manifest]) -> dict[str, tuple[str, ...]]:
    """Name the classes of every node: of its model, or of the first node that it reads and that has some."""
    labels: dict[str, tuple[str, ...]] = {}
    for name, node in settings.nodes.items():  # in graph order
        if name in manifests:
            labels[name] = manifests[name].labels
        elif isinstance(node, config.Truth):
            labels[name] = CLASSES
        elif isinstance(node, config.Python) and node.contract.labels:
            labels[name] = node.contract.labels
        else:
            labels[name] = next((labels[read] for read in node.sources() if labels.get(read)), ())
    return labels

"""Reading a pipeline file: overridden, checked part by part, every fault one line that says where."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from engines.yamlsource import Document, Loc, YamlFault, explain, load
from streamer import graph
from streamer.config.model import SINKS, Camera, Limits, Monitoring, Pipeline, Publish, Runtime
from streamer.config.node import Node
from streamer.config.nodes import NODES
from streamer.config.overlay import override, substitute
from streamer.config.plugged import GROUPS, plugged
from streamer.config.pythonnode import FOLDER, Python
from streamer.config.values import Duration, Strict
from streamer.errors import ConfigError
from streamer.plugins import offered
from streamer.types import Port

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
M = TypeVar("M", bound=BaseModel)
RESERVED = frozenset({"queue", "convert", "publish", "total"})  # steps that `latency_ms` names beside the nodes


class _Shape(Strict):
    """The outermost keys; cameras, nodes and sinks are checked one by one, each against its own kind."""

    cameras: Mapping[str, Any] = {}
    nodes: Mapping[str, Any] = {}
    publish: tuple[Any, ...] = ()
    runtime: Any = Field(default_factory=dict)
    limits: Any = Field(default_factory=dict)
    monitor: Any = Field(default_factory=dict)
    latency: Any = None


class _Aim(Strict):
    """What is given for the pipeline as a whole."""

    latency: Duration | None = None


@dataclass(frozen=True, slots=True)
class _Declared:
    """A node as the graph sees it before anything is opened."""

    name: str
    reads: tuple[Port[Any], ...]
    writes: Port[Any]


def read(path: Path, overrides: Sequence[str] = (), environ: Mapping[str, str] = os.environ) -> Pipeline:
    """Read a pipeline file and lay *overrides* ("cameras.gate.url=…") over it.

    Raises ConfigError or GraphError: one line a fault, with file, line and the nearest right name.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {reason}") from error
    return parse(text, str(path), overrides, environ)


def parse(text: str, name: str, overrides: Sequence[str] = (), environ: Mapping[str, str] = os.environ) -> Pipeline:
    """Do what `read` does with a text; *name* is how messages call it."""
    try:
        document = load(text, name)
    except YamlFault as error:
        raise ConfigError(str(error)) from error
    try:
        document = replace(document, data=substitute(document.data or {}, document, environ))
        return _Reader(override(document, overrides)).pipeline()
    except RecursionError:
        raise ConfigError(f"{name}: a value contains itself, or lies too deep; write it out flat") from None


def parse_camera(name: str, raw: object) -> Camera:
    """Check one camera by itself, exactly as if it stood under `cameras`. Raises ConfigError: one line a fault."""
    return _Reader(Document({"cameras": {name: raw}}, "settings")).one_camera(name, raw)


class _Reader:
    """Check a document part by part, gathering every fault before any is raised."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._faults: list[str] = []

    def pipeline(self) -> Pipeline:
        shape = self._model(_Shape, self._document.data, ())
        if shape is None:
            raise ConfigError("\n".join(self._faults))
        cameras = {n: c for n, raw in shape.cameras.items() if (c := self._camera(n, raw))}
        nodes = {n: node for n, raw in shape.nodes.items() if (node := self._node(n, raw))}
        sinks = [s for i, raw in enumerate(shape.publish) if (s := self._sink(i, raw, shape.nodes))]
        self._among_each_other(nodes)
        runtime = self._model(Runtime, shape.runtime, ("runtime",))
        limits = self._model(Limits, shape.limits, ("limits",))
        monitor = self._model(Monitoring, shape.monitor, ("monitor",))
        aim = self._model(_Aim, {"latency": shape.latency}, ())
        self._knobs_or_target(shape)
        self._not_too_many(shape.cameras, limits)
        if self._faults or runtime is None or limits is None or monitor is None or aim is None:
            raise ConfigError("\n".join(self._faults))
        ordered = _ordered(nodes, self._document)
        return Pipeline(cameras, ordered, tuple(sinks), runtime, limits, monitor, aim.latency, self._document)

    def one_camera(self, name: str, raw: object) -> Camera:
        camera = self._camera(name, raw)
        if camera is None or self._faults:
            raise ConfigError("\n".join(self._faults))
        return camera

    def _knobs_or_target(self, shape: _Shape) -> None:
        """Refuse knobs beside a latency target: it turns them itself."""
        given = shape.limits if isinstance(shape.limits, dict) else {}
        for knob in (key for key in ("batch", "live_frames", "batches") if key in given and shape.latency is not None):
            self._fault(("limits", knob), "is for the latency target to decide; leave out one of the two")

    def _not_too_many(self, cameras: Mapping[str, Any], limits: Limits | None) -> None:
        if limits is not None and len(cameras) > limits.cameras:
            self._fault(("cameras",), f"{len(cameras)} are more than limits.cameras allows, {limits.cameras}; raise it")

    def _model(self, model: type[M], raw: object, loc: Loc) -> M | None:
        try:
            return model.model_validate(raw, context={FOLDER: Path(self._document.name).parent})
        except ValidationError as error:
            self._faults += explain(error, self._document, model, loc)
            return None

    def _fault(self, loc: Loc, sentence: str) -> None:
        self._faults.append(self._document.at(loc) + sentence)

    def _camera(self, name: str, raw: object) -> Camera | None:
        from streamer.sources import parse_url

        loc = ("cameras", name)
        camera = self._model(Camera, raw, loc) if self._named(name, loc) else None
        if camera is not None and camera.url:
            try:
                parse_url(camera.url)
            except ConfigError as error:
                self._fault((*loc, "url"), str(error))
        return camera

    def _node(self, name: str, raw: object) -> Node | None:
        loc = ("nodes", name)
        if name in RESERVED:
            self._fault(loc, f"is a name that latency_ms uses itself; choose one that is not among {_list(RESERVED)}")
            return None
        kind: type | None = self._kind(raw, NODES, loc) if self._named(name, loc) else None
        if kind is None:
            return None
        if not issubclass(kind, Node):  # a package's class as kind python takes it, under a name of its own
            kind, raw = Python, {**dict(raw), "kind": "python", "class": kind}  # type: ignore[call-overload]  # checked by _kind
        node: Node | None = self._model(kind, raw, loc)
        if isinstance(node, Python):
            self._model(node.contract.options, node.options, (*loc, "options"))
        return node

    def _among_each_other(self, nodes: Mapping[str, Node]) -> None:
        for name, node in nodes.items():
            for loc, sentence in node.faults(nodes):
                self._fault(("nodes", name, *loc), sentence)

    def _sink(self, index: int, raw: object, nodes: Mapping[str, object]) -> Publish | None:
        loc = ("publish", index)
        kind = self._kind(raw, SINKS, loc)
        sink = None if kind is None else self._model(kind, raw, loc)
        for i, node in enumerate((sink and sink.nodes) or ()):
            if node not in nodes:
                self._fault((*loc, "nodes", i), f"{node!r} is no node{_near(node, nodes)}")
        return sink

    def _kind(self, raw: object, table: Mapping[str, type[M]], loc: Loc) -> type[M] | None:
        if not isinstance(raw, dict) or "kind" not in raw:
            self._fault(loc, f"needs a kind, one of {_list(table)}")
            return None
        kind = str(raw["kind"])
        return table.get(kind) or self._plugged(kind, table, loc)

    def _plugged(self, kind: str, table: Mapping[str, type[M]], loc: Loc) -> Any:
        """Ask other packages for a kind that does not come with us."""
        try:
            found = plugged(GROUPS[loc[0]], kind)
        except ConfigError as error:
            self._fault((*loc, "kind"), str(error))
            return None
        if found is None:
            known = {**table, **dict.fromkeys(offered(GROUPS[loc[0]]))}
            self._fault(
                (*loc, "kind"), f"{kind!r} is no kind of {loc[0]}{_near(kind, known)}; there are {_list(known)}"
            )
        return found

    def _named(self, name: str, loc: Loc) -> bool:
        good = _NAME.fullmatch(name) is not None
        if not good:
            self._fault(loc, "is not a name; use letters, digits, '_' and '-', with a letter or digit first")
        return good


def _ordered(nodes: Mapping[str, Node], document: Document) -> Mapping[str, Node]:
    declared = {
        name: _Declared(name, tuple(Port(n, t) for n, t in node.sources().items()), Port(name, node.value))
        for name, node in nodes.items()
    }
    try:
        return {d.name: nodes[d.name] for d in graph.order(declared)}
    except graph.GraphError as error:
        loc = ("nodes",) if error.node is None else ("nodes", error.node)
        raise graph.GraphError(document.at(loc) + error.sentence) from error


def _near(name: str, known: Mapping[str, object]) -> str:
    near = get_close_matches(name, known, 1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _list(names: Mapping[str, object] | frozenset[str]) -> str:
    return ", ".join(sorted(names))

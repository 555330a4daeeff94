"""A pipeline as its user writes it: read, overridden, checked, frozen; every fault is one line that says where."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from engines.runtimes.base import Precision
from engines.types import Detections
from engines.yamlsource import Document, Loc, YamlFault, dotted, explain, load
from streamer import graph
from streamer.errors import ConfigError
from streamer.types import Port

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)")
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_TEMPLATE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
# A tag such as !!int or a date that is none makes PyYAML raise whatever Python raised.
_NOT_YAML = (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError, RecursionError)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
M = TypeVar("M", bound=BaseModel)
RESERVED = frozenset({"queue", "convert", "publish", "total"})  # steps that `latency_ms` names beside the nodes


def parse_duration(value: object) -> float:
    """Turn "150ms", "30s", "5m" or "1h" into seconds; a bare number has no unit and is refused."""
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError('not a duration; write it with its unit, such as "150ms", "30s", "5m" or "1h"')
    return float(match[1]) * _SECONDS[match[2]]


Duration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0, le=86400 * 365)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """Frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Reconnect(Strict):
    """How long to wait before a live camera is tried again: doubling from *delay* to *max_delay*, with jitter."""

    delay: Duration = 0.5
    max_delay: Duration = 30.0

    @model_validator(mode="after")
    def _grows(self) -> Reconnect:
        if self.delay > self.max_delay:
            raise ValueError("delay is longer than max_delay; swap them")
        return self


class Camera(Strict):
    """One source of frames."""

    url: str
    transport: Literal["tcp", "udp"] = "tcp"  # of RTSP
    open_timeout: Duration = 10.0
    read_timeout: Duration = 10.0  # without a frame for so long, a live camera counts as broken
    realtime: bool = False  # play a recording at its own speed, as if it were a camera that can wait
    reconnect: Reconnect = Reconnect()


class Node(Strict):
    """What every kind of node has. *kind* picks the class from NODES."""

    kind: str
    optional: bool = False  # go on without this node while its model cannot be opened, or fails
    value: ClassVar[type]  # what the node writes

    def sources(self) -> Mapping[str, type]:
        """The nodes that this one reads, and what it expects of each."""
        return {}


class Detect(Node):
    """Find objects in every frame."""

    kind: Literal["detect"]
    model: str  # a name that `streamer models list` shows, or the path of a manifest
    weights: Path | None = None  # the user's own file instead of the manifest's
    confidence: Fraction | None = None  # None: the manifest's
    iou: Fraction | None = None  # of non-maximum suppression; None: the manifest's
    classes: tuple[str, ...] | None = None  # labels to keep; None: all
    max_detections: Annotated[int, Field(gt=0)] = 300
    value: ClassVar[type] = Detections


class Publish(Strict):
    """What every kind of sink has. *kind* picks the class from SINKS."""

    kind: str
    nodes: tuple[str, ...] | None = None  # whose results; None: all


class Redis(Publish):
    """Streams, channels and latest values in Redis."""

    kind: Literal["redis"]
    url: str = "redis://localhost:6379/0"
    prefix: str = "streamer:"
    maxlen: Annotated[int, Field(gt=0)] = 10_000  # entries kept a camera, about
    latest_ttl: Duration = 60.0
    buffer: Annotated[int, Field(gt=0)] = 10_000  # results held while Redis is away; then the oldest go (live)


class JsonLines(Publish):
    """One wire message a line."""

    kind: Literal["jsonl"]
    path: Path


class Video(Publish):
    """An H.264 video a camera with boxes, labels and FPS drawn; `{camera}` in *path* is the camera's name."""

    kind: Literal["video"]
    path: Path


class Runtime(Strict):
    """Where the models run."""

    prefer: tuple[str, ...] = ()  # backends, best first; empty: what suits this machine
    precision: Precision = "auto"
    threads: Annotated[int, Field(gt=0)] | None = None
    torch_compile: bool = False  # of PyTorch alone


class Limits(Strict):
    """Bounds: together with the frame size they say how much memory a pipeline takes."""

    batch: Annotated[int, Field(gt=0)] = 8  # frames that go through the graph together
    live_frames: Annotated[int, Field(gt=0)] = 2  # newest frames kept a live camera
    file_frames: Annotated[int, Field(gt=0)] = 16  # decoded frames a file may be ahead
    batches: Annotated[int, Field(gt=0)] = 1  # batches waiting in front of each stage


NODES: dict[str, type[Node]] = {"detect": Detect}
SINKS: dict[str, type[Publish]] = {"redis": Redis, "jsonl": JsonLines, "video": Video}


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A whole pipeline; nodes stand in graph order."""

    cameras: Mapping[str, Camera]
    nodes: Mapping[str, Node]
    publish: tuple[Publish, ...] = ()
    runtime: Runtime = field(default_factory=Runtime)
    limits: Limits = field(default_factory=Limits)


class _Shape(Strict):
    """The outermost keys; cameras, nodes and sinks are checked one by one, each against its own kind."""

    cameras: dict[str, Any] = {}
    nodes: dict[str, Any] = {}
    publish: list[Any] = []
    runtime: Any = {}
    limits: Any = {}


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
        document = replace(document, data=_substitute(document.data or {}, document, environ))
        return _Reader(_override(document, overrides)).pipeline()
    except RecursionError:
        raise ConfigError(f"{name}: a value contains itself, or lies too deep; write it out flat") from None


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
        runtime = self._model(Runtime, shape.runtime, ("runtime",))
        limits = self._model(Limits, shape.limits, ("limits",))
        if self._faults or runtime is None or limits is None:
            raise ConfigError("\n".join(self._faults))
        return Pipeline(cameras, _ordered(nodes, self._document), tuple(sinks), runtime, limits)

    def _model(self, model: type[M], raw: object, loc: Loc) -> M | None:
        try:
            return model.model_validate(raw)
        except ValidationError as error:
            self._faults += explain(error, self._document, model, loc)
            return None

    def _fault(self, loc: Loc, sentence: str) -> None:
        self._faults.append(self._document.at(loc) + sentence)

    def _camera(self, name: str, raw: object) -> Camera | None:
        from streamer.sources import parse_url

        loc = ("cameras", name)
        camera = self._model(Camera, raw, loc) if self._named(name, loc) else None
        if camera is not None:
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
        kind = self._kind(raw, NODES, loc) if self._named(name, loc) else None
        return None if kind is None else self._model(kind, raw, loc)

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
        if kind not in table:
            choice = f"{_near(kind, table)}; there are {_list(table)}"
            self._fault((*loc, "kind"), f"{kind!r} is no kind of {loc[0]}{choice}")
        return table.get(kind)

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
        raise graph.GraphError(document.at(("nodes",)) + str(error)) from error


def _near(name: str, known: Mapping[str, object]) -> str:
    near = get_close_matches(name, known, 1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _list(names: Mapping[str, object] | frozenset[str]) -> str:
    return ", ".join(sorted(names))


# --- ${VAR:-default} ---


def _substitute(data: Any, document: Document, environ: Mapping[str, str], loc: Loc = ()) -> Any:
    """Fill in environment variables. A value that is nothing but a template takes the type it would have in YAML."""
    if isinstance(data, dict):
        return {k: _substitute(v, document, environ, (*loc, k)) for k, v in data.items()}
    if isinstance(data, list):
        return [_substitute(v, document, environ, (*loc, i)) for i, v in enumerate(data)]
    if not isinstance(data, str) or not _TEMPLATE.search(data):
        return data

    def fill(match: re.Match[str]) -> str:
        value = environ.get(match[1]) or match[2]
        if value is None:
            raise ConfigError(
                document.at(loc) + f"the environment variable {match[1]} is not set; "
                f"set it, or give a default: ${{{match[1]}:-…}}"
            )
        return value

    filled = _TEMPLATE.sub(fill, data)
    try:
        return yaml.safe_load(filled) if _TEMPLATE.fullmatch(data) else filled
    except _NOT_YAML as error:
        raise ConfigError(document.at(loc) + "what the template gives is not YAML; quote it") from error


# --- --set KEY=VALUE ---


@dataclass(frozen=True, slots=True, eq=False)
class _Overridden(Document):
    """A document with values from the command line, which have no line in the file."""

    paths: frozenset[Loc] = frozenset()

    def at(self, loc: Loc) -> str:
        if any(loc[: len(path)] == path for path in self.paths):
            return f"--set {dotted(loc)}: "
        return Document.at(self, loc)  # super() does not work in a class with slots before Python 3.14


def _override(document: Document, overrides: Sequence[str]) -> Document:
    data, paths = document.data, []
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {override}: write it as KEY=VALUE, such as nodes.yolo.confidence=0.4")
        path = tuple(int(part) if re.fullmatch("[0-9]{1,4}", part) else part for part in key.split("."))
        paths.append(path[: _depth(data, path) + 1])
        data = _placed(data, path, _value(key, value), key)
    return _Overridden(data, document.name, document.root, frozenset(paths))


def _depth(data: Any, path: Loc) -> int:
    """Tell how many keys of *path* are there already, the last one left out: what is below came with the override."""
    for depth, key in enumerate(path[:-1]):
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return depth
    return len(path) - 1


def _value(key: str, text: str) -> object:
    """Read a value as YAML would; only brackets make a list or a mapping, so "cams:" is text."""
    try:
        value = yaml.safe_load(text)
    except _NOT_YAML as error:
        raise ConfigError(f"--set {key}: the value is not YAML; quote it, or close its brackets") from error
    return text if isinstance(value, dict | list) and text.lstrip()[:1] not in ("{", "[") else value


def _placed(data: Any, path: Loc, value: object, key: str) -> Any:
    """Return *data* with *value* at *path*, making the mappings on the way."""
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(data, list):
        if not isinstance(head, int) or head >= len(data):
            raise ConfigError(f"--set {key}: {head!r} is no item of a list of {len(data)}; items count from 0")
        return [_placed(item, rest, value, key) if i == head else item for i, item in enumerate(data)]
    if data is not None and not isinstance(data, dict):
        raise ConfigError(f"--set {key}: {head!r} lies inside a plain value")
    return {**(data or {}), str(head): _placed((data or {}).get(str(head)), rest, value, key)}

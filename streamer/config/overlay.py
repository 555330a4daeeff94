"""What is laid over a pipeline file before it is checked: environment variables, and --set KEY=VALUE."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from engines.yamlsource import Document, Loc, dotted
from streamer.errors import ConfigError

_TEMPLATE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
# A tag such as !!int or a date that is none makes PyYAML raise whatever Python raised.
_NOT_YAML = (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError, RecursionError)


def substitute(data: Any, document: Document, environ: Mapping[str, str], loc: Loc = ()) -> Any:
    """Fill in ${VAR:-default}. A value that is nothing but a template takes the type it would have in YAML."""
    if isinstance(data, dict):
        return {k: substitute(v, document, environ, (*loc, k)) for k, v in data.items()}
    if isinstance(data, list):
        return [substitute(v, document, environ, (*loc, i)) for i, v in enumerate(data)]
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


@dataclass(frozen=True, slots=True, eq=False)
class _Overridden(Document):
    """A document with values from the command line, which have no line in the file."""

    paths: frozenset[Loc] = frozenset()

    def at(self, loc: Loc) -> str:
        if any(loc[: len(path)] == path for path in self.paths):
            return f"--set {dotted(loc)}: "
        return Document.at(self, loc)  # super() does not work in a class with slots before Python 3.14


def override(document: Document, overrides: Sequence[str]) -> Document:
    """Lay *overrides* ("cameras.gate.url=…") over a document. Raises ConfigError."""
    data, paths = document.data, []
    for given in overrides:
        key, equals, value = given.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {given}: write it as KEY=VALUE, such as nodes.yolo.confidence=0.4")
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

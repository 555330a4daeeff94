"""Served graphs on disk: NAME-KEY.onnx, each with a JSON file that has its checksum and says what it was made of.

A graph without it is a leftover; one that was damaged later is found out, and made anew.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import onnx
from pydantic import TypeAdapter, ValidationError

from engines.build.base import Recipe
from engines.build.files import changed, locked, on_disk, touch, unless_locked, unlinked, write_whole
from engines.download import Promise
from engines.zoo import cache_dir


def graphs_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Tell where served graphs are kept."""
    return cache_dir(environ).parent / "graphs"


@dataclass(frozen=True, slots=True)
class Origin:
    """What a graph was made of, and how."""

    model: str
    weights: str  # where they were
    recipe: Recipe
    digest: str  # `Material.digest` of the recipe


@dataclass(frozen=True, slots=True)
class _Sidecar:
    origin: Origin
    size: int
    sha256: str
    schema: int = 1


_SIDECARS = TypeAdapter(_Sidecar)


@dataclass(frozen=True, slots=True)
class GraphEntry:
    """A graph in the cache."""

    path: Path
    origin: Origin
    size: int
    used: datetime  # when it was last found, or made


def whole(path: Path) -> bool:
    """Tell whether a graph is there, as it was written; reads all of it. Raises BuildError."""
    with on_disk(path):
        told = _read(path)
        if told is None or not path.is_file() or Promise(told.sha256, told.size).broken_by(path):
            return False
    touch(_sidecar_of(path))
    return True


def save(model: onnx.ModelProto, path: Path, origin: Origin) -> None:
    """Write a graph and then what is known of it; for whoever holds its lock. Raises BuildError."""
    data = model.SerializeToString()
    sidecar = _Sidecar(origin, len(data), hashlib.sha256(data).hexdigest())
    with on_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
        write_whole(_sidecar_of(path), _SIDECARS.dump_json(sidecar, indent=2) + b"\n")


def entries(folder: Path) -> list[GraphEntry]:
    """List the graphs of which it is known what they were made of."""
    known = ((path, _read(path)) for path in sorted(folder.glob("*.onnx")))
    return [GraphEntry(path, told.origin, told.size, changed(_sidecar_of(path))) for path, told in known if told]


def leftovers(folder: Path) -> list[Path]:
    """List what was left half made, and graphs and what is known of them without each other."""
    graphs = [path for path in sorted(folder.glob("*.onnx")) if path.is_file() and _read(path) is None]
    alone = [path for path in sorted(folder.glob("*.json")) if not path.with_suffix(".onnx").is_file()]
    parts = [path for path in sorted(folder.glob("*.part")) if not locked(_graph_of(path))]
    return [path for path in graphs + alone if not locked(path.with_suffix(".onnx"))] + parts


def remove(paths: Iterable[Path]) -> int:
    """Remove graphs with what is known of them, and leftovers; returns how many bytes it freed.

    What a process makes just now is left alone. Raises BuildError when the disk refuses.
    """
    freed = 0
    for path in paths:
        with on_disk(path), unless_locked(_graph_of(path)) as free:
            for file in (path, _sidecar_of(path)) if free else ():
                freed += unlinked(file)
    return freed


def _sidecar_of(path: Path) -> Path:
    return path.with_suffix(".json")


def _graph_of(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".part")).with_suffix(".onnx")


def _read(path: Path) -> _Sidecar | None:
    try:
        found = _SIDECARS.validate_json(_sidecar_of(path).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):  # what cannot be read is not there
        return None
    return found if found.schema == 1 else None

"""Engines on disk, each with a sidecar that says what it is: NAME-KEY.engine, NAME-KEY.json.

An engine is whole or absent, whatever ends its build. The sidecar comes last, and it has the engine's checksum: an
engine without one is a leftover, and one that was damaged later is found out. Engines that are in use can be removed:
whoever has opened one keeps it until it is closed, as POSIX has it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from engines.build.base import Built, Material
from engines.build.files import alone, changed, locked, on_disk, touch, unless_locked, unlinked, write_whole
from engines.build.sidecar import TITLES, Label, Sidecar, dump, read, sidecar_of
from engines.download import Promise
from engines.zoo import cache_dir

Fault = Callable[[Path], str | None]  # `Builder.fault`

_BESIDE = (".json", ".kernels")  # what is known of an engine, and what TensorRT-RTX has compiled for it
_OURS = re.compile(r".+-[0-9a-f]+")  # NAME-KEY


def engines_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Tell where engines are kept."""
    return cache_dir(environ).parent / "engines"


@dataclass(frozen=True, slots=True)
class Lookup:
    """An engine, or the reason why there is none."""

    path: Path | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """An engine in the cache."""

    path: Path
    sidecar: Sidecar
    used: datetime  # when it was last found, or made


class EngineCache:
    """A folder of engines, which any number of processes may share."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or engines_dir()

    def path(self, label: Label) -> Path:
        return self.folder / f"{label.model}-{label.key}.engine"

    def find(self, label: Label, fault: Fault) -> Lookup:
        """Find the engine of a label, if it is whole. *fault* is what its builder says of a file at a first look.

        Raises BuildError when the folder cannot be read.
        """
        path = self.path(label)
        with on_disk(path):
            if not path.is_file():
                return Lookup(None, self._why_absent(label))
            if why := _unfit(path, label, fault):
                return Lookup(None, why)
        touch(sidecar_of(path))
        return Lookup(path)

    def put(self, label: Label, material: Material, built: Built, seconds: float) -> Path:
        """Write an engine and then its sidecar. Raises BuildError when the disk refuses them."""
        path, digest = self.path(label), hashlib.sha256(built.data).hexdigest()
        sidecar = Sidecar(
            label=label,
            weights=str(material.weights.resolve()),
            created=datetime.now(UTC),
            seconds=round(seconds, 3),
            size=len(built.data),
            sha256=digest,
            facts=built.facts,
        )
        with on_disk(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, built.data)
            write_whole(sidecar_of(path), dump(sidecar))
        return path

    @contextmanager
    def building(self, label: Label) -> Iterator[None]:
        """Let one process at a time build this engine; the others wait, and then should look whether it is there."""
        with alone(self.path(label)):
            yield

    def busy(self, label: Label) -> bool:
        """Tell whether a process is building this engine just now."""
        with unless_locked(self.path(label)) as free:
            return not free

    def entries(self) -> list[Entry]:
        """List the engines that have a sidecar, the latest first."""
        known = ((path, read(path)) for path in self._files("*.engine"))
        found = [Entry(path, told, changed(sidecar_of(path))) for path, told in known if told is not None]
        return sorted(found, key=lambda entry: entry.sidecar.created, reverse=True)

    def leftovers(self) -> list[Path]:
        """List what builds that were killed have left behind, and engines and what lies beside them without each other.

        Files with names that no engine has are somebody else's, and left alone.
        """
        halves = [p for p in self._files("*.engine") if read(p) is None]
        halves += [p for kind in _BESIDE for p in self._files(f"*{kind}") if not p.with_suffix(".engine").is_file()]
        found = [path for path in halves if _OURS.fullmatch(path.stem)] + self._files("*.part")
        return [path for path in found if not locked(self._engine_of(path))]

    def remove(self, paths: Iterable[Path]) -> int:
        """Remove engines with all that lies beside them, and leftovers; returns how many bytes it freed.

        What a process builds just now is left alone. Raises BuildError when the disk refuses.
        """
        freed = 0
        for path in paths:
            with on_disk(path), unless_locked(self._engine_of(path)) as free:
                for file in (path, *(path.with_suffix(kind) for kind in _BESIDE)) if free else ():
                    freed += unlinked(file)
        return freed

    def timings(self) -> dict[Path, str]:
        """List what TensorRT has measured for its next builds, each file with the version that it is for."""
        return {path: path.name.split("-")[1] for path in self._files("tensorrt-*-*.timings")}

    def _why_absent(self, label: Label) -> str:
        for entry in self.entries():
            if entry.sidecar.label.same_order(label) and (why := entry.sidecar.label.misfit(label)):
                return f"there is one, but {why}"
        return f"there is none for {TITLES.get(label.runtime, label.runtime)} yet"

    def _engine_of(self, path: Path) -> Path:
        return self.folder / f"{path.name.removesuffix('.part').rpartition('.')[0]}.engine"

    def _files(self, pattern: str) -> list[Path]:
        return sorted(path for path in self.folder.glob(pattern) if path.is_file())


def _unfit(path: Path, label: Label, fault: Fault) -> str | None:
    """Say why the file that is there cannot be the engine of this label."""
    sidecar = read(path)
    if sidecar is None or sidecar.label != label:
        return "a foreign file is in its place"
    damage = Promise(sidecar.sha256, sidecar.size).broken_by(path) or fault(path)
    return f"the one here is damaged: it {damage}" if damage else None

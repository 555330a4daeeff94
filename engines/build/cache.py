"""Engines on disk, each with a sidecar that says what it is: NAME-KEY.engine, NAME-KEY.json.

An engine is whole or absent, whatever ends its build. The sidecar comes last, and it has the engine's checksum: an
engine without one is a leftover, and one that was damaged later is found out. Engines that are in use can be removed:
whoever has opened one keeps it until it is closed, as POSIX has it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from engines.build.base import Built, Material
from engines.build.sidecar import TITLES, Label, Sidecar, dump, read, sidecar_of
from engines.download import Promise, exclusively
from engines.errors import BuildError, WeightsError
from engines.zoo import cache_dir

Fault = Callable[[Path], str | None]  # `Builder.fault`


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
        with _on_disk(path):
            if not path.is_file():
                return Lookup(None, self._why_absent(label))
            if why := _unfit(path, label, fault):
                return Lookup(None, why)
        with suppress(OSError):  # a cache that is shared read-only cannot remember when it was used
            os.utime(sidecar_of(path))
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
        with _on_disk(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            _write_whole(path, built.data)
            _write_whole(sidecar_of(path), dump(sidecar))
        return path

    @contextmanager
    def building(self, label: Label) -> Iterator[None]:
        """Let one process at a time build this engine; the others wait, and then should look whether it is there."""
        with ExitStack() as held:
            try:
                held.enter_context(exclusively(self.path(label)))
            except WeightsError as error:  # what fetches weights calls it so; here it is an engine that has no place
                raise BuildError(f"{error}: {_ELSEWHERE}") from error
            yield

    def busy(self, label: Label) -> bool:
        """Tell whether a process is building this engine just now."""
        with _unless_locked(self.path(label)) as free:
            return not free

    def entries(self) -> list[Entry]:
        """List the engines that have a sidecar, the latest first."""
        known = ((path, read(path)) for path in self._files("*.engine"))
        found = [Entry(path, told, _changed(sidecar_of(path))) for path, told in known if told is not None]
        return sorted(found, key=lambda entry: entry.sidecar.created, reverse=True)

    def leftovers(self) -> list[Path]:
        """List what builds that were killed have left behind, and engines and sidecars without each other."""
        halves = [p for p in self._files("*.engine") if read(p) is None]
        halves += [p for p in self._files("*.json") if not p.with_suffix(".engine").is_file()]
        found = halves + self._files("*.part")
        return [path for path in found if not _locked(self._engine_of(path))]

    def remove(self, paths: Iterable[Path]) -> int:
        """Remove engines with their sidecars, and leftovers; returns how many bytes it freed.

        What a process builds just now is left alone. Raises BuildError when the disk refuses.
        """
        freed = 0
        for path in paths:
            with _on_disk(path), _unless_locked(self._engine_of(path)) as free:
                for file in (path, sidecar_of(path)) if free else ():
                    freed += _unlinked(file)
        return freed

    def _why_absent(self, label: Label) -> str:
        for entry in self.entries():
            if entry.sidecar.label.same_order(label) and (why := entry.sidecar.label.misfit(label)):
                return f"there is one, but {why}"
        return f"there is none for {TITLES.get(label.runtime, label.runtime)} yet"

    def _engine_of(self, path: Path) -> Path:
        return self.folder / f"{path.name.removesuffix('.part').rpartition('.')[0]}.engine"

    def _files(self, pattern: str) -> list[Path]:
        return sorted(self.folder.glob(pattern))


_ELSEWHERE = "make it writable, or set XDG_CACHE_HOME to a folder that is"


def _unfit(path: Path, label: Label, fault: Fault) -> str | None:
    """Say why the file that is there cannot be the engine of this label."""
    sidecar = read(path)
    if sidecar is None or sidecar.label != label:
        return "a foreign file is in its place"
    damage = Promise(sidecar.sha256, sidecar.size).broken_by(path) or fault(path)
    return f"the one here is damaged: it {damage}" if damage else None


def _write_whole(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")  # whoever holds the lock is alone: any that lies there is a dead one's
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        with suppress(OSError):  # what is told is why it could not be written
            part.unlink(missing_ok=True)
        raise


@contextmanager
def _on_disk(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise BuildError(f"{path} cannot be used ({error.strerror}): {_ELSEWHERE}") from error
        free = shutil.disk_usage(path.parent if path.parent.is_dir() else "/").free
        raise BuildError(
            f"no space for {path} ({free / 1e6:.1f} MB free): make some with `streamer models clean`, or point "
            "XDG_CACHE_HOME to another disk"
        ) from error


@contextmanager
def _unless_locked(engine: Path) -> Iterator[bool]:
    """Hold an engine's lock if nobody else does, and tell whether that is so."""
    lock = engine.with_name(engine.name + ".lock")
    if not lock.exists():  # nobody has ever built it
        yield True
        return
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _locked(engine: Path) -> bool:
    with _unless_locked(engine) as free:
        return not free


def _unlinked(file: Path) -> int:
    """Remove a file, and tell its size; 0 where it is gone already."""
    try:
        size = file.stat().st_size
        file.unlink()
    except FileNotFoundError:
        return 0
    return size


def _changed(file: Path) -> datetime:
    try:
        return datetime.fromtimestamp(file.stat().st_mtime, UTC)
    except FileNotFoundError:  # removed just now, by another process
        return datetime.now(UTC)

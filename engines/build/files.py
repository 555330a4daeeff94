"""Files of a cache that any number of processes share: whole or absent, and never two writers at once."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from engines.download import exclusively
from engines.errors import BuildError, WeightsError

_ELSEWHERE = "make it writable, or set XDG_CACHE_HOME to a folder that is"


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """Let one process at a time make *target*; the others wait, and then should look whether it is there.

    Raises BuildError where the folder takes no files.
    """
    with ExitStack() as held:
        try:
            held.enter_context(exclusively(target))
        except WeightsError as error:  # what fetches weights calls it so; here it is a file that has no place
            raise BuildError(f"{error}: {_ELSEWHERE}") from error
        yield


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; for whoever holds its lock. Raises OSError."""
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
def on_disk(path: Path) -> Iterator[None]:
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
def unless_locked(target: Path) -> Iterator[bool]:
    """Hold a file's lock if nobody else does, and tell whether that is so."""
    lock = target.with_name(target.name + ".lock")
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


def locked(target: Path) -> bool:
    with unless_locked(target) as free:
        return not free


def unlinked(file: Path) -> int:
    """Remove a file, and tell its size; 0 where it is gone already."""
    try:
        size = file.stat().st_size
        file.unlink()
    except FileNotFoundError:
        return 0
    return size


def changed(file: Path) -> datetime:
    try:
        return datetime.fromtimestamp(file.stat().st_mtime, UTC)
    except FileNotFoundError:  # removed just now, by another process
        return datetime.now(UTC)


def touch(file: Path) -> None:
    """Note that a file was used."""
    with suppress(OSError):  # a cache that is shared read-only cannot remember it
        os.utime(file)

"""Output files: one writer at a time, nothing overwritten unasked, and disk faults in one sentence."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from io import FileIO
from pathlib import Path
from typing import Literal

from streamer.errors import SinkError, SinkUnusable

Existing = Literal["refuse", "append", "replace"]  # what to do with a file that has something in it


def claim(path: Path, existing: Existing = "refuse") -> FileIO:
    """Open *path* for writing, its folders made, and keep every other process out until it is closed.

    What the lock keeps out are writers that ask for it too; it ends with the process, however that ends.
    Pipes and terminals take no lock. Raises SinkUnusable.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+")
    except (FileExistsError, NotADirectoryError):
        raise SinkUnusable(f"{path} cannot be written, for what should be its folder is a file") from None
    except OSError as error:
        raise SinkUnusable(f"{path} cannot be opened for writing: {error.strerror}") from None
    try:
        if is_regular(file):
            _lock(file, path)
            _prepare(file, path, existing)
    except BaseException:
        file.close()
        raise
    return file


def write_all(file: FileIO, data: bytes | memoryview) -> None:
    """Write every byte: one call may take only some, when a disk fills up or a pipe is slow. Raise OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) or 0 :]


def disk_fault(path: Path, error: OSError) -> SinkError:
    """Say what the disk said, and how much room is left where that is the trouble."""
    hint = ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = f" ({shutil.disk_usage(path.parent).free / 1e6:.1f} MB free): make space and go on from there"
    return SinkError(f"{path} cannot be written any further: {error.strerror or error}{hint}")


def is_regular(file: FileIO) -> bool:
    return stat.S_ISREG(os.fstat(file.fileno()).st_mode)


def _lock(file: FileIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        who = _holder(os.fstat(file.fileno()).st_ino)
        raise SinkUnusable(f"{path} is being written by {who}: name another output, or wait for its end") from None
    except OSError as error:
        raise SinkUnusable(f"{path} cannot be locked: {error.strerror}") from None


def _prepare(file: FileIO, path: Path, existing: Existing) -> None:
    if existing == "append":
        file.seek(0, os.SEEK_END)
    elif existing == "replace":
        file.truncate(0)
    elif os.fstat(file.fileno()).st_size:
        raise SinkUnusable(f"{path} exists already: go on with it (--resume), name another output, or remove it")


def _holder(inode: int) -> str:
    """Ask the kernel who holds the lock: ``1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF``."""
    try:
        rows = [line.split() for line in Path("/proc/locks").read_text(encoding="ascii").splitlines()]
    except OSError:  # not Linux, or no /proc: the sentence does without the number
        rows = []
    pids = [int(row[4]) for row in rows if row[1] == "FLOCK" and row[5].endswith(f":{inode}")]
    if os.getpid() in pids:
        return "this process already"
    return f"another process (pid {pids[0]})" if pids and pids[0] > 0 else "another process"

"""Files that only save time: what a library has compiled or measured, for its next start."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)


def keep(path: Path, data: bytes | memoryview, cost: str) -> None:
    """Write a file whole or not at all; where it cannot be written, log what that will cost."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        log.info("%s cannot be written (%s): %s", path, error.strerror, cost)
        with suppress(OSError):
            part.unlink()


def kept(path: Path) -> bytes:
    """Read what `keep` wrote; nothing where there is nothing to be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""  # as on the first start

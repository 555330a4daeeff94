"""What is wrong with a file, while the system still tells it plainly."""

from __future__ import annotations

from pathlib import Path

from streamer.errors import SourceUnusable


def check_file(path: Path) -> None:
    """Read a byte of it. Raises SourceUnusable: it does not exist, may not be read, or is empty."""
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise SourceUnusable(f"{path} does not exist; check its path") from None
    except OSError as error:
        raise SourceUnusable(f"{path} cannot be read: {error.strerror}; check its permissions") from error
    if empty:
        raise SourceUnusable(f"{path} is empty; copy it again")

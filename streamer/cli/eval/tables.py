"""Tables: those that list what to measure, and those that say what was measured."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table

from streamer.errors import InputError


def rows(path: Path, columns: Sequence[str]) -> Iterator[list[str]]:
    """Read a CSV file with these columns, which its first line may name. Raises InputError."""
    for number, row in enumerate(csv.reader(_lines(path)), 1):
        words = [word.strip() for word in row]
        if not any(words) or (number == 1 and [word.lower() for word in words] == list(columns)):
            continue
        if len(words) != len(columns) or not all(words):
            raise InputError(f"{path}:{number}: is not {','.join(columns)}, so it cannot be read: correct it")
        yield words


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text: it must be UTF-8") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): give another file or a folder") from error


def table(*columns: str) -> Table:
    """Make a table whose first column is names and whose others are figures."""
    made = Table(box=None, pad_edge=False)
    made.add_column(columns[0], overflow="fold")
    for column in columns[1:]:
        made.add_column(column, justify="right")
    return made


def cell(value: float, digits: int = 3) -> str:
    """Write a figure; a dash for what is no number."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"

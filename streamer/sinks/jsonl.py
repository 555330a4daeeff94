"""Results as JSON Lines: one wire message a line, and a file that is whole after every fault."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from streamer.errors import SinkError, SinkUnusable
from streamer.sinks.files import Existing, claim, disk_fault, is_regular, write_all
from streamer.types import Packet

_OURS = b'{"schema"'  # how every line of ours begins
_BLOCK = 1 << 24


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """How far an output file got."""

    lines: int = 0
    last: Mapping[str, Any] | None = None  # the message on the last line

    @property
    def next_seq(self) -> int:
        """The frame that comes after the last line's."""
        return 0 if self.last is None else int(self.last["seq"]) + 1


class JsonlSink:
    """Append the packets of one camera, or of all, to one file.

    `publish` writes all its lines or none, so to repeat it after a fault doubles nothing; once it has returned they
    survive the process. After kill -9 the last line may be torn, which "append" mends.
    """

    def __init__(
        self,
        path: Path,
        encode: Callable[[Packet], bytes],
        *,
        camera: str | None = None,
        existing: Existing = "refuse",
    ) -> None:
        """Raise SinkUnusable when somebody else writes *path*, when it is not ours, or exists and should not."""
        self.name = f"jsonl:{path.name}"
        self._path, self._encode, self._camera = path, encode, camera
        self._file = claim(path, existing)
        self._regular = is_regular(self._file)
        if self._regular:
            self._mend()

    def publish(self, packets: Sequence[Packet]) -> None:
        mine = [p for p in packets if self._camera in (None, p.frame.camera)]
        if not mine:
            return
        lines = b"".join(self._encode(packet) + b"\n" for packet in mine)
        end = self._file.tell() if self._regular else 0
        try:
            write_all(self._file, lines)
        except OSError as error:
            if self._regular:
                self._cut_back(end)
            raise disk_fault(self._path, error) from None

    def close(self) -> None:
        """Bring all to the disk itself. May be called again."""
        if self._file.closed:
            return
        with self._file:
            try:
                if self._regular:
                    os.fsync(self._file.fileno())
            except OSError as error:
                raise disk_fault(self._path, error) from None

    def _mend(self) -> None:
        try:
            _mend(self._file, self._path)
        except BaseException:
            self._file.close()
            raise

    def _cut_back(self, end: int) -> None:
        try:
            self._file.truncate(end)
            self._file.seek(end)
        except OSError as error:
            raise SinkError(
                f"{self._path} cannot be written, and its last line may be torn: {error.strerror}"
            ) from None


def resume_point(path: Path) -> ResumePoint:
    """Tell how far *path* got, cutting off a torn last line.

    Raises SinkUnusable when another process is writing it, or when it is not a results file.
    """
    if not path.exists():
        return ResumePoint()
    with closing(claim(path, "append")) as file:
        return _mend(file, path)


def _mend(file: FileIO, path: Path) -> ResumePoint:
    """Cut off a torn last line, leave the position at the end, and say what is there."""
    size = os.fstat(file.fileno()).st_size
    if not size:
        return ResumePoint()
    with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as text:
        end = text.rfind(b"\n") + 1
        first = text[: len(_OURS)]
        lines = sum(text[i : min(i + _BLOCK, end)].count(b"\n") for i in range(0, end, _BLOCK))
        last = text[text.rfind(b"\n", 0, end - 1) + 1 : end] if end else b""
    # Checked before anything is cut: it may be a file of somebody else that was named by mistake.
    if not _OURS.startswith(first):
        raise _foreign(path, 1)
    point = ResumePoint(lines, _message(last, path, lines)) if end else ResumePoint()
    file.truncate(end)
    file.seek(end)
    return point


def _message(line: bytes, path: Path, number: int) -> Mapping[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        raise _foreign(path, number) from None
    if not (isinstance(message, dict) and isinstance(message.get("seq"), int) and "camera" in message):
        raise _foreign(path, number)
    return message


def _foreign(path: Path, line: int) -> SinkUnusable:
    return SinkUnusable(f"{path}:{line}: is not a line of results: name another output, or move this file away")

"""Fetch one file over HTTP so that it is whole or absent: resumed, checked, renamed, never fetched twice at once.

The standard library is enough: one GET with a Range header, redirects and proxies included. An HTTP client would be
one more dependency of the base install for what happens once a machine.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit, urlunsplit

from engines.errors import WeightsError

Progress = Callable[[int, int | None], None]  # bytes here, of how many

_CHUNK = 1 << 16
_TIMEOUT = 30.0  # seconds without a byte
_BREAKS = 5  # connections that may break off in one call, as long as each has brought something


class Unreachable(WeightsError):  # noqa: N818 - named for what it is, like its siblings in engines.errors
    """A URL does not give the file, for now or for good: somewhere else may."""


class _BrokeOff(Exception):  # noqa: N818 - never leaves this module
    """The connection ended before the file did."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What the bytes of a file must be, as far as it is known."""

    sha256: str | None = None  # or its first digits, where no more are published
    size: int | None = None
    also: tuple[str, ...] = ()  # sha256 of other files that are as good

    def broken_by(self, path: Path) -> str | None:
        """Say how the file at *path* differs from what was promised; None when it does not."""
        size = path.stat().st_size
        if self.size is not None and size != self.size and not self.also:
            return f"has {size} bytes instead of {self.size}"
        if self.sha256 is None:
            return None
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest.startswith((self.sha256, *self.also)):
            return None
        return f"has sha256 {digest[:12]}… instead of {self.sha256[:12]}…"


def fetch(url: str, target: Path, promise: Promise, progress: Progress) -> None:
    """Put the file at *url* to *target*, going on where an earlier call broke off.

    Raises Unreachable when the URL does not give it, WeightsError when it gives other bytes or the disk refuses them.
    """
    part = target.with_name(target.name + ".part")
    for _ in range(2):  # bytes that turn out wrong, perhaps only those of an old part, are fetched anew once
        _complete(url, part, promise.size, progress)
        with writing(target):
            fault = promise.broken_by(part)
            if fault is None:
                part.replace(target)
                return
            part.unlink()
    raise WeightsError(
        f"what {public(url)} gives {fault}: check the manifest, or whether a proxy or mirror changes files"
    )


@contextmanager
def exclusively(target: Path) -> Iterator[None]:
    """Let one process at a time fetch *target*; the others wait, and then should look whether it is there."""
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = target.with_name(target.name + ".lock").open("wb")
    with lock:  # the file stays: to remove it would let two in, one with the old and one with a new file
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn what the disk refuses into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise WeightsError(f"{target} cannot be written: {error.strerror}") from None
        free = shutil.disk_usage(target.parent).free
        raise WeightsError(
            f"no space for {target} ({free / 1e6:.1f} MB free): make some, or point XDG_CACHE_HOME to another disk"
        ) from None


def public(url: str) -> str:
    """Hide user name and password: the only form of a URL that people may see."""
    return _credentials(url)[0].replace("://", "://***@", 1) if "@" in urlsplit(url).netloc else url


def _complete(url: str, part: Path, size: int | None, progress: Progress) -> None:
    """Bring *part* to its full length, over as many connections as it takes."""
    for _ in range(_BREAKS):
        before = _length(part)
        if size is not None and before == size:
            return
        try:
            _transfer(url, part, size, progress)
        except _BrokeOff as error:
            if _length(part) <= before:
                raise Unreachable(f"{public(url)} breaks off ({error})") from None
        else:
            return
    raise Unreachable(f"{public(url)} broke off {_BREAKS} times, {_length(part)} bytes are kept: try again to go on")


def _transfer(url: str, part: Path, size: int | None, progress: Progress) -> None:
    """Append what is missing from *part*, through one connection."""
    response = _request(url, _length(part))
    resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
    start = _length(part) if resumed else 0
    total = size if response.length is None else start + response.length
    with response, writing(part), part.open("ab" if resumed else "wb") as file:
        end = _copy(response, file, total, progress)
        file.flush()
        os.fsync(file.fileno())
    if total is not None and end < total:
        raise _BrokeOff(f"{end} of {total} bytes")


def _copy(response: http.client.HTTPResponse, file: BinaryIO, total: int | None, progress: Progress) -> int:
    """Copy until the connection ends or there is more than there should be, and tell the length of the file then."""
    done = file.tell()
    progress(done, total)
    while (total is None or done <= total) and (chunk := _read(response)):
        file.write(chunk)
        done += len(chunk)
        progress(done, total)
    return done


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _BrokeOff(str(error) or type(error).__name__) from None


def _request(url: str, offset: int) -> http.client.HTTPResponse:
    """Ask for the bytes from *offset* on; whoever cannot give a part gives all, with status 200."""
    bare, authorization = _credentials(url)
    # Both S310: manifest and zoo let only http and https through.
    request = urllib.request.Request(bare, headers={"User-Agent": "streamer"})  # noqa: S310
    if authorization:
        request.add_unredirected_header("Authorization", authorization)
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT)  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and offset:
            return _request(url, 0)
        raise Unreachable(f"{public(url)} answers {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise Unreachable(f"{public(url)} cannot be reached ({_reason(error.reason)})") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(f"{public(url)} cannot be reached ({_reason(error)})") from None
    if response.status == http.HTTPStatus.PARTIAL_CONTENT and not _starts_at(response, offset):
        response.close()
        raise Unreachable(f"{public(url)} gives another part of the file than the one asked for")
    return response


def _starts_at(response: http.client.HTTPResponse, offset: int) -> bool:
    return (response.headers.get("Content-Range") or "").startswith(f"bytes {offset}-")


def _reason(error: object) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _credentials(url: str) -> tuple[str, str | None]:
    """Take user name and password out of a URL, as the header that carries them."""
    parts = urlsplit(url)
    who, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    token = base64.b64encode(unquote(who).encode()).decode()
    return urlunsplit(parts._replace(netloc=host)), f"Basic {token}"


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

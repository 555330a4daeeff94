"""A pipeline file that is edited while it runs: watched, read again, and applied as a difference or refused whole."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from watchfiles._rust_notify import RustNotify  # as its documentation has it, in spite of the name

from engines.build.base import Tell, silent
from streamer import config
from streamer.errors import StreamerError
from streamer.service.change import Change

log = logging.getLogger(__name__)

_QUIET = 200  # ms without another change, after which a file counts as written
_LONGEST = 2000  # ms after which it is looked at even if it still changes
_ANYWAY = 60_000  # ms after which it is looked at although nothing was heard: not every file system tells
_AGAIN = 2.0  # seconds between attempts at watching a folder that is gone
_PATIENCE = 1.0  # seconds that the watcher gets to end
_LINKS = 8  # at most on the way to a file

Apply = Callable[[config.Pipeline], Change]
Place = tuple[Path, int, int]  # a folder, and which one it is: another may take its path


@dataclass(slots=True)
class Reloader:
    """Reads a pipeline file again and applies it. A file that is wrong changes nothing; each fault is one log line."""

    path: Path
    overrides: Sequence[str]  # laid over the file again, as at the start
    apply: Apply  # raises InputError, and then has changed nothing
    tell: Tell = silent  # hears what has changed
    around: Callable[[], AbstractContextManager[object]] = nullcontext  # entered while a reload is under way
    _seen: bytes | str = field(default="never looked", init=False)  # what the file said last, or why it could not
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def reload(self) -> None:
        """Read and apply the file, whether or not it has changed."""
        with self._lock:
            change = self._take(self._content())
        if change is not None:
            self.tell(f"{self.path}: {change}")

    def look(self) -> None:
        """Do what `reload` does if the file says something else than when it was last looked at."""
        with self._lock:
            content = self._content()
            change = None if content == self._seen else self._take(content)
        if change:
            self.tell(f"{self.path}: {change}")

    def _content(self) -> bytes | str:
        try:
            return self.path.read_bytes()
        except OSError as error:
            return str(error)

    def _take(self, content: bytes | str) -> Change | None:
        self._seen = content
        with self.around():
            try:
                return self.apply(config.read(self.path, self.overrides))
            except StreamerError as error:
                for line in str(error).splitlines():
                    log.warning("%s", line if line.startswith(str(self.path)) else f"{self.path}: {line}")
                return None


@contextmanager
def watching(reloader: Reloader) -> Iterator[None]:
    """Look at the file whenever it may have changed, as long as the context lasts, and once at the beginning."""
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(reloader, over), name="reload", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_PATIENCE)


@contextmanager
def obeying(reloader: Reloader, asked: threading.Event) -> Iterator[None]:
    """Reload whenever somebody sets *asked*, as long as the context lasts; also if that was before it began."""
    over = threading.Event()

    def obey() -> None:
        while asked.wait() and not over.is_set():
            asked.clear()
            reloader.reload()

    thread = threading.Thread(target=obey, name="reload on request", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        asked.set()
        thread.join(_PATIENCE)


def _watch(reloader: Reloader, over: threading.Event) -> None:
    failing = False
    while not over.is_set():
        try:
            _watch_folders(reloader, _places(reloader.path), over)
            failing = False
        except (OSError, RuntimeError) as error:  # a folder that is gone; or too many are watched on this machine
            if not failing:
                log.warning("%s cannot be watched at the moment: %s; SIGHUP reads it again", reloader.path, error)
            failing = True
            over.wait(_AGAIN)


def _watch_folders(reloader: Reloader, places: frozenset[Place], over: threading.Event) -> None:
    """Watch the folders, not the file: editors put another file in its place. Return when they are others."""
    folders = {str(folder) for folder, *_ in places}
    concerned = {*folders, str(reloader.path.absolute())}
    # Not `watchfiles.watch`: that does not tell when it has begun, and what changes just before would be overlooked.
    with RustNotify(
        sorted(folders),
        debug=False,
        force_polling=False,
        poll_delay_ms=0,
        recursive=False,
        ignore_permission_denied=False,
    ) as notifier:
        reloader.look()
        while not over.is_set() and _places(reloader.path) == places:
            found = notifier.watch(_LONGEST, _QUIET, _ANYWAY, over)
            # Behind links, anything may be what has changed.
            if isinstance(found, str) or len(folders) > 1 or any(path in concerned for _, path in found):
                reloader.look()


def _places(path: Path) -> frozenset[Place]:
    """Find every folder where *path* may change: that of the file itself, and of each link on the way to it."""
    folders = {path.resolve().parent}
    for _ in range(_LINKS):
        folders.add(path.absolute().parent)
        if not path.is_symlink():
            break
        path = path.parent / path.readlink()
    return frozenset((folder, folder.stat().st_dev, folder.stat().st_ino) for folder in folders)

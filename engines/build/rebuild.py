"""Build an engine beside a process that serves: in a child of its own, which steps back for it.

`python -m engines.build.rebuild` is that child; its job comes as JSON on standard input.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from engines.build.base import Material, Order
from engines.build.cache import EngineCache
from engines.build.graph import material
from engines.build.obtain import lookup, obtain
from engines.build.sidecar import TITLES
from engines.errors import BuildError, EngineError
from engines.manifest import Manifest

_NICE = 10
_PATIENCE = 5.0  # seconds that a child has to end, once told


@dataclass(frozen=True, slots=True)
class Job:
    """What the child is told: all that it needs to find the same engine missing."""

    manifest: Manifest
    weights: Path
    runtime: str
    order: Order
    cache: Path


_JOBS = TypeAdapter(Job)


class Rebuild:
    """An engine that a child process builds. Close it, or the child builds on for nobody."""

    def __init__(self, bench: Material, runtime: str, order: Order, cache: EngineCache) -> None:
        self._bench, self._runtime, self._order, self._cache = bench, runtime, order, cache
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child; a pipe would fill up unread
        self._child = self._started()

    @property
    def pid(self) -> int:
        return self._child.pid

    def done(self) -> bool:
        """Tell whether the child has ended; costs next to nothing."""
        return self._child.poll() is not None

    def result(self) -> Path:
        """Find the engine when the child is done; reads all of it. Raises BuildError when there is none."""
        name = f"{self._bench.manifest.name} for {TITLES[self._runtime]}"
        if code := self._child.wait():
            raise BuildError(f"the rebuild of {name} failed: {self._last_words() or f'it ended with code {code}'}")
        found = lookup(self._bench, self._runtime, self._order, self._cache)
        if found.path is None:
            raise BuildError(f"the rebuild of {name} gave another engine, {found.why}: try `streamer models build`")
        return found.path

    def close(self) -> None:
        """End the child if it still builds. What it leaves half done, the next build removes."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(_PATIENCE)
            except subprocess.TimeoutExpired:  # deep in a library that does not listen
                self._child.kill()
                self._child.wait()
        self._said.close()

    def _started(self) -> subprocess.Popen[bytes]:
        job = Job(self._bench.manifest, self._bench.weights.resolve(), self._runtime, self._order, self._cache.folder)
        with tempfile.TemporaryFile() as told:
            told.write(_JOBS.dump_json(job))
            told.seek(0)
            return subprocess.Popen(
                [sys.executable, "-m", "engines.build.rebuild"],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},  # it imports what we would
                stdin=told,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
            )

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def main() -> int:
    """Be the child: read a job, build, and say on standard error what went wrong."""
    os.nice(_NICE)
    job = _JOBS.validate_json(sys.stdin.buffer.read())
    try:
        obtain(material(job.manifest, job.weights), job.runtime, job.order, EngineCache(job.cache))
    except EngineError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the parent reads it
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

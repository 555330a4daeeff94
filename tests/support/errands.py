"""Functions for another process to call, which can find them here."""

from __future__ import annotations

import os
import signal

from engines.build.base import Tell
from engines.errors import BuildError


def add(a: int, b: int, tell: Tell) -> tuple[int, int]:
    """Return the sum, and whose work it was."""
    tell(f"adding {a}")
    tell(f"and {b}")
    return a + b, os.getpid()


def refuse(tell: Tell) -> None:
    raise BuildError("no such thing can be built")


def stumble(tell: Tell) -> None:
    raise ZeroDivisionError("by\nnought")


def leave(tell: Tell) -> None:
    os._exit(3)


def die(tell: Tell) -> None:
    os.kill(os.getpid(), signal.SIGKILL)

"""Whether the terminal that a command was started in is still there: what a SIGHUP means depends on it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable


def terminal_watch() -> Callable[[], bool]:
    """Return what tells whether a SIGHUP leaves us our terminal; where there never was one, or with nohup, it does."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    if ignored or not _has_terminal():
        return lambda: True
    return _has_terminal


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True

"""What Python itself and libraries in C say: taken into the log, where it is limited, or kept silent.

FFmpeg stays silent, as PyAV leaves it, also with --debug: its decoder's threads would wait for Python's lock to log
while the thread that closes the decoder holds it and waits for them. What matters comes as exceptions.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
from contextlib import suppress

log = logging.getLogger(__name__)


def under_journald() -> bool:
    """Tell whether stderr goes straight to journald. See JOURNAL_STREAM in systemd.exec(5)."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):  # stderr is closed, or no file
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def hear_python() -> None:
    """Take warnings, and errors that nobody catches, into the log. Hooks that somebody else has set stay.

    A process that hangs is ended by its watchdog with SIGABRT: then it says what each of its threads was doing.
    """
    logging.captureWarnings(capture=True)
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _thread_ended
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unraisable
    if not faulthandler.is_enabled():
        with suppress(AttributeError, OSError, RuntimeError, ValueError):  # stderr is closed, or no file
            faulthandler.enable()


def _thread_ended(args: threading.ExceptHookArgs) -> None:
    name = "of no name" if args.thread is None else args.thread.name
    log.critical("thread %s was ended by an error that nobody caught", name, exc_info=args.exc_value)


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    log.error("an error came up where none can be raised: %s", args.err_msg or args.object, exc_info=args.exc_value)


def hear_glib() -> None:
    """Take into the log what GStreamer's and GLib's libraries complain of; call it after `Gst.init`.

    GST_DEBUG writes to stderr as ever: who sets it wants to read all of it.
    """
    from gi.repository import GLib

    flags = GLib.LogLevelFlags
    grave = flags.LEVEL_CRITICAL | flags.LEVEL_WARNING | flags.LEVEL_MESSAGE

    def said(domain: str, _level: int, message: str, *_: object) -> None:
        logging.getLogger(f"glib.{domain}").warning("%s", message)

    for domain in _GLIB_DOMAINS:
        GLib.log_set_handler(domain, grave, said, None)


_GLIB_DOMAINS = ("GStreamer", "GStreamer-Base", "GStreamer-GL", "GStreamer-RTP", "GStreamer-Video", "GLib-GIO")

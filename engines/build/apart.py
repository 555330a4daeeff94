"""A function in a process of its own: its memory is its own, and it may crash alone."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from engines.build.base import Tell, silent
from engines.errors import EngineError, ModelError

T = TypeVar("T")


def apart(function: Callable[..., T], *arguments: object, tell: Tell = silent) -> T:
    """Return what *function* returns for these arguments and a `Tell`, called in a new process.

    The function is one of a module, and all that it takes and gives can be pickled. Raises the EngineError that it
    raises, and ModelError when it raises any other or its process ends under it.
    """
    spawn = multiprocessing.get_context("spawn")  # a forked child would begin with our threads' locks, and our memory
    here, there = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_work, args=(there, function, arguments), daemon=True)
    process.start()
    there.close()
    try:
        kind, value = _last_word(here, tell)
    except EOFError:
        process.join()
        raise ModelError(f"its process {_ending(process.exitcode)}: take another runtime, or less at a time") from None
    finally:
        process.terminate()
        process.join()
        here.close()
    if kind == "failed":
        raise value
    result: T = value
    return result


def _last_word(pipe: Connection, tell: Tell) -> tuple[str, Any]:
    """Pass on what the child tells, until it is done."""
    while True:
        kind, value = pipe.recv()
        if kind != "told":
            return kind, value
        tell(value)


def _work(pipe: Connection, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us

    def tell(sentence: str) -> None:
        pipe.send(("told", sentence))

    try:
        pipe.send(("done", function(*arguments, tell)))
    except EngineError as error:
        pipe.send(("failed", error))
    except Exception as error:  # noqa: BLE001 - the outermost border of this process
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
        pipe.send(("failed", ModelError(f"internal error: {reason}; report it, or take another runtime")))


def _ending(code: int | None) -> str:
    if code is None or code >= 0:
        return f"ended by itself with exit code {code}"
    hint = " (out of memory?)" if -code == signal.SIGKILL else ""
    return f"was ended by {signal.Signals(-code).name}{hint}"

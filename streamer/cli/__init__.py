"""The command line. Each command is a module of its own, imported only when it is called."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from types import FrameType
from typing import Any

from streamer import logs

log = logging.getLogger("streamer")

DONE, FAILED, WRONG_INPUT, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

COMMANDS = {
    "run": "run a pipeline, live, until its sources end or Ctrl-C",
    "process": "run a pipeline over recorded video, every frame, into files",
    "demo": "see it work: a real video, an embedded Redis, results in the terminal",
    "check": "validate a pipeline and open every source, model and sink",
    "watch": "show results and FPS from Redis, live",
    "cameras": "list, add, remove, pause and resume the cameras of a pipeline that runs",
    "eval": "measure a model against the truth: average precision, mean IoU, endpoint error, top-k",
    "selftest": "say whether this installation gives right results, from decoder to Redis, in every runtime",
    "models": "list, show, fetch, add, build, compare and measure models",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code, by which a supervisor knows whether to start it again.

    0 done, or drained after SIGTERM; 1 failed while running, so another try may help; 2 wrong input, so none will;
    130 interrupted; 143 ended by SIGTERM before there was anything to drain.
    """
    debug = False
    with _endings() as signals:
        try:
            args = _parser(sys.argv[1:] if argv is None else argv).parse_args(argv)
            debug = args.debug
            logs.configure(logging.DEBUG if debug else logs.usual(args.log_format), args.log_format)
            code: int = args.job(args)
        except KeyboardInterrupt as interrupt:
            return _ended_by([*signals, *interrupt.args])
        except Exception as error:  # noqa: BLE001 - the outermost border: what gets here is for a person to read
            if debug:
                _show(error)
            return _ended_by(signals) if signals else _explain(error)
    return code


@contextmanager
def _endings() -> Iterator[list[int]]:
    """Interrupt the main thread on Ctrl-C and SIGTERM, so that all is tidied up; yield a list of those that came.

    A library that is called back or just being imported may make a fault of its own of an interrupt.
    """
    came: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():  # only that one is told of signals
        yield came
        return
    handlers: dict[signal.Signals, Any] = {signal.SIGINT: interrupt, signal.SIGTERM: interrupt}
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        from streamer.cli.terminals import terminal_watch

        outlived = terminal_watch()
        # Nothing to read again before `run` listens; but a terminal that is gone ends what it began.
        handlers[signal.SIGHUP] = lambda _, frame: None if outlived() else interrupt(signal.SIGTERM, frame)
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ended_by(signals: Sequence[int]) -> int:
    return TERMINATED if signals and signals[0] == signal.SIGTERM else INTERRUPTED


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """Build the parser; only the command that is called is imported, so that help is quick."""
    from streamer import __version__

    parser = argparse.ArgumentParser(
        prog="streamer",
        description="Real-time video analytics: cameras in, typed results in Redis out.",
        epilog="Exit codes: 0 done, 1 failed while running, 2 wrong input, 130 interrupted, 143 ended by SIGTERM.",
    )
    parser.add_argument("--version", action="version", version=f"streamer {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    called = next((word for word in argv if not word.startswith("-")), None)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == called:
            command.set_defaults(words=tuple(argv))
            import_module(f"streamer.cli.{name}").add_arguments(command)
        for leaf in _leaves(command):
            _add_logging(leaf)
    return parser


def _add_logging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--debug", action="store_true", help="log everything, and show tracebacks")
    parser.add_argument(
        "--log-format",
        choices=logs.FORMS,
        default="text",
        help="of what is said on stderr while it runs: for people, or a JSON object a line (default: %(default)s)",
    )


def _leaves(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parsers that end a command line: the command itself, or its subcommands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return list(action.choices.values())
    return [parser]


def _explain(error: Exception) -> int:
    """Say what went wrong in one sentence, and pick the exit code."""
    from engines.errors import EngineError
    from streamer.errors import InputError, SinkUnusable, SourceUnusable, StreamerError

    for line in str(error).splitlines() if isinstance(error, (EngineError, StreamerError)) else ():
        complain(line, error)
    if isinstance(error, (InputError, SourceUnusable, SinkUnusable)):
        return WRONG_INPUT
    if isinstance(error, (EngineError, StreamerError)):
        return FAILED
    if notes := getattr(error, "__notes__", None):  # it came up in somebody's own node, and says which
        place = traceback.extract_tb(error.__traceback__)[-1]
        complain(f"{notes[0]}: {logs.plain(error)} ({place.filename}:{place.lineno}); --debug shows all of it", error)
    else:
        complain(f"internal error: {logs.named(error)}; run again with --debug and report what it shows", error)
    return FAILED


def complain(sentence: str, error: Exception | None = None) -> None:
    """Tell whoever reads stderr that something is wrong; a log also keeps which *error* it was, and its causes."""
    if not logs.read_by_people():
        return log.critical("%s", sentence, exc_info=error)
    with suppress(OSError):  # nobody reads it: the exit code still says it
        print(f"streamer: {logs.hide(sentence)}", file=sys.stderr)  # noqa: T201 - this is the command line
    return None


def _show(error: Exception) -> None:
    if logs.read_by_people():
        print(logs.hide("".join(traceback.format_exception(error))), file=sys.stderr)  # noqa: T201 - the command line
    else:
        log.debug("where it was raised", exc_info=error)

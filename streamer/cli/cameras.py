"""`streamer cameras`: look at the cameras of a pipeline that runs, and change them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json
from rich.markup import escape
from rich.table import Table

from engines.yamlsource import Document
from streamer import client
from streamer.cli import DONE, FAILED, WRONG_INPUT, complain
from streamer.cli.console import note, stdout
from streamer.cli.where import add_redis
from streamer.config.overlay import override
from streamer.errors import InputError

_VERBS: dict[client.Command, str] = {
    "list": "show the cameras of every pipeline that listens, and how they are doing",
    "add": "add a camera, or put it in place of the one of its name",
    "remove": "take a camera out",
    "pause": "close the connection to a camera until it is resumed",
    "resume": "connect again to a camera that was paused",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    for verb, text in _VERBS.items():
        command = commands.add_parser(verb, help=text, description=text[0].upper() + text[1:] + ".")
        if verb != "list":
            command.add_argument("camera", metavar="NAME")
        if verb == "add":
            _add_settings(command)
        _add_where(command)
        command.set_defaults(job=cameras)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="as under `cameras` in a pipeline file; paths are the pipeline's")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other setting of a camera, such as fps=5 or transport=udp (repeatable)",
    )


def _add_where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pipeline", metavar="NAME", help="the only one that is meant; of several, `add` needs it")
    add_redis(parser)
    parser.add_argument("--json", action="store_true", help="print each answer as a line of JSON")


def cameras(args: argparse.Namespace) -> int:
    """Ask, and show every answer; what only some refuse is done all the same."""
    settings = _settings(args.url, args.set) if args.verb == "add" else None
    try:
        if args.verb == "add" and args.pipeline is None:
            _check_alone(args)
        answers = _ask(args, args.verb, settings)
    except client.Unanswered as error:
        complain(str(error))
        return FAILED
    except client.ClientError as error:  # Redis is not there, or refuses
        raise InputError(str(error)) from error
    done = [answer for answer in answers if answer.ok]
    for answer in answers:
        _show(answer, args)
    for answer in () if done else answers:
        complain(f"{answer.pipeline}: {answer.error}")
    return DONE if done else WRONG_INPUT


def _ask(args: argparse.Namespace, verb: client.Command, settings: dict[str, Any] | None) -> list[client.Answer]:
    camera = getattr(args, "camera", None) if verb != "list" else None
    return client.control(args.redis, verb, camera, settings, pipeline=args.pipeline, prefix=args.prefix)


def _check_alone(args: argparse.Namespace) -> None:
    """A camera belongs to one pipeline: of several, none is guessed. Raises InputError."""
    names = sorted(answer.pipeline for answer in _ask(args, "list", None))
    if len(names) > 1:
        raise InputError(f"several pipelines listen there: {', '.join(names)}; say with --pipeline which one is meant")


def _settings(url: str, overrides: Sequence[str]) -> dict[str, Any]:
    data = dict(override(Document({"url": url}, "settings"), overrides).data)
    try:
        to_json(data)
    except ValueError as error:
        raise InputError(f"--set: a value is nothing that a camera can be told ({error}); quote it") from error
    return data


def _show(answer: client.Answer, args: argparse.Namespace) -> None:
    if args.json:
        stdout.print(answer.model_dump_json(by_alias=True), markup=False, soft_wrap=True)
    elif answer.ok and args.verb == "list":
        stdout.print(_table(answer))
    elif answer.ok:
        note(f"{answer.pipeline}: {args.verb} {args.camera}: done; it has {', '.join(answer.cameras) or 'no cameras'}")


def _table(answer: client.Answer) -> Table:
    table = Table("camera", "state", "FPS in", "out", "from", title=escape(answer.pipeline), box=None, pad_edge=False)
    for name, camera in answer.cameras.items():
        state = camera.state if camera.error is None else f"{camera.state}: {camera.error}"
        fps = f"{camera.fps_in:.1f}", f"{camera.fps_out:.1f}"
        table.add_row(escape(name), escape(state), *fps, escape(camera.url))
    return table

"""``python -m engines.train MODEL``: teach a network, and leave a model that streams."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from types import FrameType

import cv2
from torch import nn

from engines.errors import EngineError
from engines.manifest import Manifest, find
from engines.networks.checkpoint import fill, fill_body, read_state_for
from engines.train import record
from engines.train.errors import TrainingError
from engines.train.export import export
from engines.train.log import FIGURES, read
from engines.train.loop import CHECKPOINT, fit
from engines.train.options import command, parser
from engines.train.plan import Plan
from engines.train.record import RECORD, Record
from engines.train.task import Subject
from engines.train.tasks import open_task, plan_for

_WRONG, _STOPPED = 2, 3  # exit codes


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, or export what is trained; 0 when it is done, 2 when it cannot be, 3 when it was stopped."""
    told = parser().parse_args(arguments)
    cv2.setNumThreads(1)  # the network wants the cores
    try:
        manifest = find(told.model)
        if told.export:
            export(manifest, told.out, _tell)
            return 0
        return _train(manifest, told)
    except EngineError as error:
        sys.stderr.write(f"{error}\n")
        return _WRONG


def _train(manifest: Manifest, told: argparse.Namespace) -> int:
    plan = _plan(manifest, told)
    if (told.out / CHECKPOINT).exists() and not told.resume:
        raise TrainingError(f"{told.out} holds a training already: go on with --resume, or name another folder")
    task = open_task(Subject(manifest, told.data, plan.steps, plan.seed, plan.size))
    _begin(task.model, told)
    with _stopping() as stop:
        figures = fit(task, plan, told.out, _tell, stop)
    if figures is None:
        _tell(f"stopped: go on with --resume, for {told.out / CHECKPOINT} holds all that was learnt")
        return _STOPPED
    record.write([_record(manifest, told, plan, figures)], told.out / RECORD)
    export(manifest, told.out, _tell)
    return 0


def _begin(network: nn.Module, told: argparse.Namespace) -> None:
    """Take over the weights that are asked for."""
    if told.start is not None:
        fill(network, read_state_for(network, told.start, told.key), told.start)
    if told.body is not None:
        taken, all_of_it = fill_body(network, read_state_for(network, told.body, told.key), told.body)
        _tell(f"{told.body} has {taken} of the network's {all_of_it} tensors: the others begin at random")


def _record(manifest: Manifest, told: argparse.Namespace, plan: Plan, figures: Mapping[str, float]) -> Record:
    """Tell how the folder's weights were made; what they began with has a record too, if we made it."""
    seconds = float(read(told.out / FIGURES)[-1]["seconds"])
    began = told.start or told.body
    earlier = began.parent / RECORD if began is not None else None
    before = record.read(earlier, Record) if earlier is not None and earlier.is_file() else []
    commands = [line for each in before for line in each.commands]
    return Record(
        model=manifest.name,
        commands=(*commands, command(told, plan)),
        seed=plan.seed,
        seconds=seconds + sum(each.seconds for each in before),
        machine=record.this_machine(),
        figures={name: round(value, 4) for name, value in figures.items()},
    )


@contextmanager
def _stopping() -> Iterator[Callable[[int], bool]]:
    """Give what tells after a step whether Ctrl-C or SIGTERM came: a step that is begun is finished."""
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        signal.signal(number, before[signal.Signals(number)])  # whoever asks twice does not want to wait

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda _step: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _plan(manifest: Manifest, told: argparse.Namespace) -> Plan:
    """Take what suits the architecture, and what is asked for instead."""
    wanted = {each.name: getattr(told, each.name) for each in fields(Plan) if hasattr(told, each.name)}
    wanted["size"] = None if told.size is None else tuple(told.size)
    return replace(plan_for(manifest), **{name: value for name, value in wanted.items() if value is not None})


def _tell(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

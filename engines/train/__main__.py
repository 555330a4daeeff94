"""``python -m engines.train MODEL``: teach a network, and leave a model that streams."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from types import FrameType

import cv2
import torch
from torch import nn

from engines.errors import EngineError
from engines.manifest import Manifest, find
from engines.networks.checkpoint import fill, fill_body, read_state_for
from engines.train import record
from engines.train.check import TRAINING, Entry
from engines.train.errors import TrainingError
from engines.train.export import export
from engines.train.log import FIGURES, read
from engines.train.loop import CHECKPOINT, fit
from engines.train.options import begun_with, command, parser
from engines.train.plan import Plan
from engines.train.record import BEGUN, RECORD, Begun, Record
from engines.train.task import Subject
from engines.train.tasks import open_task, plan_for

_WRONG, _STOPPED, _INTERRUPTED = 2, 3, 130  # exit codes


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
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: what was saved last is there, go on with --resume\n")
        return _INTERRUPTED


def _train(manifest: Manifest, told: argparse.Namespace) -> int:
    plan = _plan(manifest, told)
    _check_device(plan.device)
    there = (told.out / CHECKPOINT).exists()
    if there and not told.resume:
        raise TrainingError(f"{told.out} holds a training already: go on with --resume, or name another folder")
    task = open_task(Subject(manifest, told.data, plan.steps, plan.seed, plan.size))
    begun = _goes_on(told.out) if there else _begin(task.model, told)
    with _stopping() as stop:
        figures = fit(task, plan, told.out, _tell, stop)
        asked = stop(plan.steps)
    if figures is None:
        _tell(f"stopped: go on with --resume, for {told.out / CHECKPOINT} holds all that was learnt")
        return _STOPPED
    record.write([_record(manifest, told, plan, begun, figures)], told.out / RECORD)
    if asked:
        _tell(f"stopped: all is learnt, and --export makes a model of what is in {told.out}")
        return _STOPPED
    export(manifest, told.out, _tell)
    return 0


def _begin(network: nn.Module, told: argparse.Namespace) -> Begun:
    """Take over the weights that are asked for, and note which they are, for whoever goes on with the training."""
    if told.start is not None:
        fill(network, read_state_for(network, told.start, told.key), told.start)
    if told.body is not None:
        taken, all_of_it = fill_body(network, read_state_for(network, told.body, told.key), told.body)
        _tell(f"{told.body} has {taken} of the network's {all_of_it} tensors: the others begin at random")
    earlier = _records_of(told.start or told.body)
    begun = Begun(
        words=tuple(begun_with(told)),
        commands=tuple(line for each in earlier for line in each.commands),
        seconds=sum(each.seconds for each in earlier),
    )
    try:
        told.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{told.out} cannot be made a folder ({error.strerror}): name another --out") from error
    record.write([begun], told.out / BEGUN)
    return begun


def _records_of(weights: Path | None) -> Sequence[Record]:
    """Find how weights were made, if it was we who made them."""
    if weights is None:
        return []
    if (path := weights.parent / RECORD).is_file():
        return record.read(path, Record)
    if (path := weights.parent / TRAINING).is_file():
        return [each for each in record.read(path, Entry) if weights.name in each.sha256]
    return []


def _goes_on(out: Path) -> Begun:
    """Read what a training began with."""
    path = out / BEGUN
    return record.read(path, Begun)[0] if path.is_file() else Begun()


def _record(
    manifest: Manifest, told: argparse.Namespace, plan: Plan, begun: Begun, figures: Mapping[str, float]
) -> Record:
    """Tell how the folder's weights were made."""
    return Record(
        model=manifest.name,
        commands=(*begun.commands, command(told, plan, begun.words)),
        seed=plan.seed,
        seconds=float(read(told.out / FIGURES)[-1]["seconds"]) + begun.seconds,
        machine=record.this_machine(),
        figures={name: round(value, 4) for name, value in figures.items()},
    )


@contextmanager
def _stopping() -> Iterator[Callable[[int], bool]]:
    """Give what tells after a step whether Ctrl-C or SIGTERM came: a step that is begun is finished."""
    came: list[int] = []
    words = b"stopping after this step; ask again to stop at once\n"

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        os.write(2, words)  # a handler may interrupt a print, which another one would break
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


def _check_device(name: str) -> None:
    """Try a device before anything is made. Raises TrainingError."""
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:  # the second where torch was built without it
        reason = str(error).partition("\n")[0].strip(" .")
        raise TrainingError(f"--device {name} cannot be used here ({reason}): say cpu, or one that is there") from error


def _tell(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

"""``python -m engines.train.check``: whether the models that we ship are what their records say."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx
from pydantic import Field

from engines.build.graph import read_onnx
from engines.build.stored import completed
from engines.errors import EngineError
from engines.manifest import Manifest, config_dir, read
from engines.train import record
from engines.train.errors import TrainingError
from engines.train.export import BODY, sha256
from engines.train.loop import WEIGHTS
from engines.train.options import parser
from engines.train.record import RECORD, Record

TRAINING = "TRAINING.yaml"
_COMMENT = """\
# How each model that comes with us was trained, and what it can do: figures are of worlds that it never saw.
# `python -m engines.train.check` compares this with the files; with --measure, with the models themselves.
"""
_NEAR = 0.01  # by which a figure may differ when it is measured anew
_LARGEST = 25_000_000  # bytes of all weights


class Entry(Record):
    """A training whose weights we ship."""

    sha256: Mapping[str, str] = Field(default_factory=dict)  # of its files
    at_least: Mapping[str, float] = Field(default_factory=dict)  # what figures must reach
    at_most: Mapping[str, float] = Field(default_factory=dict)  # or stay below
    remark: str = ""  # what the commands do not tell


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare; 0 when all is as it is told, 1 when something is not."""
    told = _options().parse_args(arguments)
    try:
        if told.adopt is not None:
            adopt(told.adopt, config_dir())
        found = [*faults(config_dir())]
        found += [each for name in told.measure or () for each in _measured(name, config_dir())]
    except EngineError as error:
        found = [str(error)]
    sys.stdout.writelines(f"{fault}\n" for fault in found or ["every model that is shipped is what its record says"])
    return 1 if found else 0


def faults(config: Path) -> Iterator[str]:
    """Say what is wrong with the records, manifests and weights in a folder of configuration. Raises TrainingError."""
    entries = record.read(config / "weights" / TRAINING, Entry)
    for entry in entries:
        yield from _faults(entry, config)
    known = {entry.model for entry in entries}
    for path in sorted((config / "weights").glob("*.onnx")):
        if path.stem not in known:
            yield f"{path} is of no training in {TRAINING}: tell how it was made, or remove it"
    total = sum(path.stat().st_size for path in (config / "weights").iterdir())
    if total > _LARGEST:
        yield f"{config / 'weights'} has {total / 1e6:.1f} MB, more than {_LARGEST / 1e6:.0f}: make models smaller"


def _faults(entry: Entry, config: Path) -> Iterator[str]:
    if not (config / "models" / f"{entry.model}.yaml").is_file():
        yield f"{entry.model} has no manifest in {config / 'models'}: write one, or take it out of {TRAINING}"
    for name, digest in entry.sha256.items():
        path = config / "weights" / name
        if not path.is_file():
            yield f"{path} is missing: train {entry.model} by its commands, and adopt it"
        elif sha256(path) != digest:
            yield f"{path} is not what was trained by the commands in {TRAINING}: adopt the folder of its training"
    told = parser().parse_args(_words(entry.commands[-1]))
    if (told.model, told.seed if told.seed is not None else 0) != (entry.model, entry.seed):
        yield f"{entry.model}: its last command trains {told.model} with seed {told.seed}: correct {TRAINING}"
    if not entry.at_least and not entry.at_most:
        yield f"{entry.model} has no goals: say with at_least or at_most in {TRAINING} what its figures shall reach"
    yield from _short(entry, entry.figures)


def _short(entry: Entry, figures: Mapping[str, float]) -> Iterator[str]:
    nan = float("nan")
    for name, least in entry.at_least.items():
        if not figures.get(name, nan) >= least:
            yield f"{entry.model}: {name} is {figures.get(name, nan):.4f}, and shall be {least} at least: train longer"
    for name, most in entry.at_most.items():
        if not figures.get(name, nan) <= most:
            yield f"{entry.model}: {name} is {figures.get(name, nan):.4f}, and shall be {most} at most: train longer"


def _words(command: str) -> list[str]:
    """Cut the beginning off a command. Raises TrainingError for one of something else."""
    words = shlex.split(command)
    if words[1:3] != ["-m", "engines.train"]:
        raise TrainingError(f"{command!r} trains nothing: begin it with python -m engines.train")
    return words[3:]


# --- measured anew ---


def _measured(name: str, config: Path) -> Iterator[str]:
    """Say which figures of a model's shipped checkpoint are not those of its record."""
    from engines.networks.checkpoint import open_network
    from engines.train.task import Subject
    from engines.train.tasks import open_task

    entry = next((each for each in record.read(config / "weights" / TRAINING, Entry) if each.model == name), None)
    if entry is None:
        raise TrainingError(f"{name} is not in {TRAINING}: name one of its models")
    manifest: Manifest = read(config / "models" / f"{name}.yaml")
    data = parser().parse_args(_words(entry.commands[-1])).data
    task = open_task(Subject(manifest, data, steps=1, seed=entry.seed))
    found = task.evaluate(open_network(manifest, config / "weights" / f"{name}.onnx"))
    for figure, value in entry.figures.items():
        if not abs(found.get(figure, float("nan")) - value) <= _NEAR:
            yield f"{name}: {figure} is told to be {value:.4f}, but is {found.get(figure, float('nan')):.4f}"
    yield from _short(entry, found)


# --- a new one ---


def adopt(out: Path, config: Path) -> None:
    """Take the weights in a training's folder for ours, with its record. Raises EngineError.

    Goals stay as they are. The weights become one file: a graph, with all that a checkpoint has besides.
    """
    from engines.networks.checkpoint import open_network

    (made,) = record.read(out / RECORD, Record)
    path = config / "weights" / TRAINING
    entries = record.read(path, Entry) if path.is_file() else []
    file = config / "weights" / f"{made.model}.onnx"
    file.write_bytes(_as_one(out).SerializeToString(deterministic=True))
    open_network(read(config / "models" / f"{made.model}.yaml"), file)  # which raises where it does not fit
    before = next((each for each in entries if each.model == made.model), None)
    goals = {} if before is None else {"at_least": before.at_least, "at_most": before.at_most}
    entry = Entry.model_validate(made.model_dump() | {"sha256": {file.name: sha256(file)}} | goals)
    kept = [each for each in entries if each.model != made.model]
    shipped: list[Entry] = sorted([*kept, entry], key=_model)
    record.write(shipped, path, _COMMENT)


def _as_one(out: Path) -> onnx.ModelProto:
    """Put what a training's graph lacks of its checkpoint into the same file."""
    from engines.networks import INNER
    from engines.networks.checkpoint import read_state_dict

    halves = read_state_dict(out / WEIGHTS)
    counts = ".num_batches_tracked"  # which nothing needs
    state = {name: tensor.numpy() for name, tensor in halves.items() if not name.endswith(counts)}
    return completed(read_onnx(out / BODY), state, INNER)


def _model(entry: Entry) -> str:
    return entry.model


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser("python -m engines.train.check", description=main.__doc__)
    options.add_argument("--measure", metavar="MODEL", action="append", help="measure its figures anew as well")
    options.add_argument("--adopt", type=Path, metavar="DIR", help="take what a training left in a folder for ours")
    return options


if __name__ == "__main__":
    sys.exit(main())

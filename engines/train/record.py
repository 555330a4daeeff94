"""How a model came to be: the commands that made it, how long they took, and what it can do."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import torch
import yaml
from pydantic import Field, NonNegativeFloat, ValidationError

from engines.build.files import write_whole
from engines.outputs import Part
from engines.runtimes.cores import cores
from engines.train.errors import TrainingError
from engines.yamlsource import YamlFault, explain, load

RECORD, BEGUN = "record.yaml", "begun.yaml"
_WIDE = 1_000  # of a line of YAML: commands stay on theirs

P = TypeVar("P", bound=Part)


class Begun(Part):
    """What a training began with: other weights, and how those came to be, as far as that is known."""

    words: tuple[str, ...] = ()  # of its command
    commands: tuple[str, ...] = ()
    seconds: NonNegativeFloat = 0.0


class Record(Part):
    """One training, from its first step to its last."""

    model: str
    commands: Annotated[tuple[str, ...], Field(min_length=1)]  # one after the other
    seed: int
    seconds: NonNegativeFloat  # of all of them, on this machine:
    machine: str
    figures: Mapping[str, float]  # on data that it was never trained on


def this_machine() -> str:
    """Name the processor, how many of its cores there are for us, and torch."""
    return f"{cores()} cores of {_processor()}, torch {torch.__version__}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # there is none but on Linux
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def write(records: Sequence[Part], path: Path, comment: str = "") -> None:
    """Write a list of records as YAML."""
    told = [each.model_dump(mode="json", exclude_defaults=True) for each in records]
    text = yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=_WIDE)
    write_whole(path, (comment + text).encode())


def read(path: Path, kind: type[P]) -> list[P]:
    """Read a list of records. Raises TrainingError, with the lines of what is wrong."""
    try:
        document = load(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror}") from error
    except YamlFault as error:
        raise TrainingError(str(error)) from error
    if not isinstance(document.data, list):
        raise TrainingError(f"{path} holds no list of records: begin each with a dash")
    found: list[P] = []
    for row, data in enumerate(document.data):
        try:
            found.append(kind.model_validate(data))
        except ValidationError as error:
            raise TrainingError("\n".join(explain(error, document, kind, (row,)))) from error
    return found

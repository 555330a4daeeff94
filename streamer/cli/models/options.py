"""What the verbs that measure have in common: lists on the command line, and results for scripts."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from engines.errors import EngineError, WeightsError
from engines.manifest import Manifest
from engines.runtimes import BACKENDS
from engines.runtimes.base import Precision
from engines.zoo import locate
from streamer.cli.console import fetching
from streamer.errors import InputError

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def add_measured(parser: argparse.ArgumentParser) -> None:
    """Add what says what to measure, and where the results go."""
    parser.add_argument("--weights", metavar="FILE", help="a file of your own in place of the model's weights")
    parser.add_argument("--threads", type=positive, metavar="N", help="of the CPU runtimes (default: all cores)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it as JSON too")


def listed(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Make the reader of a list of known words: ``openvino,onnxruntime``."""

    def read(text: str) -> list[str]:
        words = text.split(",")
        for word in words:
            if word not in known:
                raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(known)}")
        return list(dict.fromkeys(words))

    return read


runtimes = listed(tuple(BACKENDS))
precisions = listed(PRECISIONS)


def batches(text: str) -> list[int]:
    """Read a list of batch sizes, ``1,2,4,8``."""
    return sorted({positive(word) for word in text.split(",")})


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above zero")
    return int(text)


def find_weights(manifest: Manifest, path: Path | str | None) -> Path:
    """Find or fetch the weights. Raises InputError, and WeightsError when they cannot be fetched."""
    try:
        return locate(manifest, path=path, progress=fetching)
    except WeightsError as error:
        if path is None and manifest.decoder.kind != "fusion":
            raise
        raise InputError(str(error)) from error
    finally:
        fetching.close()


@contextmanager
def opening() -> Iterator[None]:
    """Make wrong input of what is wrong with a model, or with what it is to run on, before anything is done with it.

    But neither of weights that cannot be fetched nor of what the disk refuses: there another try may help.
    """
    try:
        yield
    except EngineError as error:
        if isinstance(error, WeightsError) or isinstance(error.__cause__, OSError):
            raise
        raise InputError(str(error)) from error


def check_writable(path: Path | None) -> None:
    """Refuse a file that cannot be written before minutes are spent on what goes into it. Raises InputError."""
    if path is None:
        return
    try:
        path.open("ab").close()
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): give a file in another folder") from error


def write_json(path: Path | None, result: dict[str, Any]) -> None:
    """Write what a script may read; what is not a number (NaN) becomes null, for JSON has no word for it."""
    if path is not None:
        path.write_text(json.dumps(_finite(result), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

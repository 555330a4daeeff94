"""What every backend asks of a file and of its feeds, before a foreign library says it in its own words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from engines.errors import EngineError, ModelError
from engines.types import Array, TensorSpec

REOPEN = "see that it is a whole ONNX file, export it again, or take another runtime"
RERUN = "see that images of this size suit it, or take another runtime"


def check_file(path: Path) -> None:
    """Raise ModelError unless *path* is a file with something in it."""
    if not path.exists():
        raise ModelError(f"{path} does not exist: give the path of an ONNX file")
    if not path.is_file():
        raise ModelError(f"{path} is not a file: give the path of an ONNX file")
    if path.stat().st_size == 0:
        raise ModelError(f"{path} is empty: download or export it again")


def check_batch(path: Path, spec: TensorSpec) -> None:
    """Raise ModelError unless the first axis of an input or output is one, or dynamic."""
    if not spec.shape or spec.shape[0] not in (None, 1):
        raise ModelError(
            f"{path}: the first axis of {spec.name!r} {shown(spec.shape)} is not a batch of one or of any size: export "
            "it with one of these"
        )


def ragged(path: Path, output: str, shape: Sequence[int | None]) -> ModelError:
    """Make the error of an output whose rows differ in size."""
    return ModelError(
        f"{path}: the size of output {output!r} {shown(shape)} depends on what is in the image, and rows of several "
        "sizes make no batch: export it with outputs of a fixed size"
    )


def check_feeds(where: object, inputs: Sequence[TensorSpec], feeds: Mapping[str, Array], max_batch: int) -> int:
    """Count the rows of a batch. Raises ModelError unless names, types, shapes and the number of rows are right."""
    if feeds.keys() != {spec.name for spec in inputs}:
        wanted, given = (", ".join(map(repr, names)) for names in ([spec.name for spec in inputs], feeds))
        raise ModelError(f"{where}: was fed {given or 'nothing'}, but its inputs are {wanted}: feed exactly these")
    rows = len(feeds[inputs[0].name])
    for spec in inputs:
        feed = feeds[spec.name]
        fits = feed.ndim == len(spec.shape) and all(w in (None, n) for w, n in zip(spec.shape, feed.shape, strict=True))
        if not fits or feed.dtype != spec.dtype or len(feed) != rows or not 1 <= rows <= max_batch:
            raise ModelError(
                f"{where}: input {spec.name!r} takes 1 to {max_batch} rows of {spec.dtype} {shown(spec.shape[1:])}, "
                f"but was fed {feed.dtype} {shown(feed.shape)}: correct 'preprocess' in its manifest"
            )
    return rows


def shown(shape: Sequence[int | None]) -> str:
    """Write a shape as people do: ``(?, 3, 416, 416)``."""
    return f"({', '.join('?' if n is None else str(n) for n in shape)})"


@contextmanager
def translated(what: str, then: str, reason: Callable[[Exception], str]) -> Iterator[None]:
    """Make a backend's exceptions ours: they have no base of their own but Exception. *reason* reads what they say."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        raise ModelError(f"{what} ({reason(error)}): {then}") from error

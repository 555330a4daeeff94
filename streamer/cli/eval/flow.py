"""`streamer eval` of optical flow: endpoint error and outliers, beside what anybody could find with OpenCV."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.markup import escape
from rich.table import Table

from engines.classical import Method
from engines.flowcolour import paint
from engines.load import Upkeep, open_flow
from engines.manifest import Manifest
from engines.metrics.baselines import BASELINES
from engines.metrics.flow import FlowError, flow_error
from engines.motion import FlowModel, Pair, upsample
from engines.runtimes.base import RuntimeOptions
from engines.types import Float, Flow
from streamer.cli import DONE
from streamer.cli.console import note, stdout
from streamer.cli.eval.pairs import Case, Loaded, find_cases, load, told_size
from streamer.cli.eval.tables import cell, table
from streamer.cli.models.options import check_writable, find_weights, opening, write_json
from streamer.errors import InputError
from streamer.exporters.terminal import ProcessProgress

_BATCH = 8
_AHEAD = 2  # batches that are under way: while the model works on one, the next is read
_TITLES = {
    "zero": "nothing moves",
    "dis": "OpenCV DIS, at full size",
    "farneback": "OpenCV Farneback, at full size",
}
Errors = Mapping[str, FlowError]  # of one pair, by who found the flow


def evaluate(model: Manifest | Method, args: argparse.Namespace) -> int:
    check_writable(args.json)
    cases = find_cases(args.flow, args.limit)
    _make_folder(args.paint)
    with closing(open_estimator(model, args.weights, args)) as estimator:
        note(f"{estimator.name}: {estimator.runtime.description}, frames placed into {told_size(estimator.spec.size)}")
        errors = _measure(estimator, cases, args)
        facts = {"model": estimator.name, "runtime": estimator.runtime.description, "size": estimator.spec.size}
    means = {name: FlowError.mean(each[name] for each in errors) for name in errors[0]}
    stdout.print(_table(means, estimator.name))
    write_json(args.json, facts | {"flow": str(args.flow), "pairs": len(cases)} | _told(cases, errors, means))
    if args.paint:
        note(f"painted into {args.paint}")
    return DONE


@opening()
def open_estimator(model: Manifest | Method, weights: str | None, args: argparse.Namespace) -> FlowModel:
    """Open a network for flow, or a classical method. Raises InputError, WeightsError."""
    if isinstance(model, str):
        if weights:
            raise InputError(f"{model} has no weights: leave --weights out")
        return open_flow(model, None, (), RuntimeOptions(max_batch=args.batch or _BATCH))
    batch = args.batch or min(_BATCH, model.batch or _BATCH)
    options = RuntimeOptions(args.precision, "throughput", batch, args.threads)
    return open_flow(model, find_weights(model, weights), [args.runtime] if args.runtime else [], options, Upkeep(note))


def _make_folder(path: Path | None) -> None:
    if path is None:
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be made ({error.strerror}): give --paint another folder") from error


def _measure(model: FlowModel, cases: Sequence[Case], args: argparse.Namespace) -> list[Errors]:
    """Measure the model and the baselines on each pair, with a progress bar. Raises InputError, ModelError."""
    names = list(BASELINES) if args.baselines == "yes" else ["zero"]
    errors: list[Errors] = []
    with ProcessProgress(1) as progress:
        progress.start(args.flow.resolve().name, frames=len(cases))
        for number, (case, loaded, flow) in enumerate(_estimated(model, cases), 1):
            height, width = loaded.truth.known.shape
            found = upsample(flow.uv, (height, width))
            fields = {"model": found} | {name: BASELINES[name](loaded.before, loaded.after) for name in names}
            errors.append({name: flow_error(loaded.truth.uv, uv, loaded.truth.known) for name, uv in fields.items()})
            if args.paint:
                _paint(args.paint / f"{number:05d}_{case.before.stem}.png", loaded, found)
            progress.advance()
    return errors


@dataclass(frozen=True, slots=True, eq=False)
class _UnderWay:
    """A batch that the model works on."""

    cases: Sequence[Case]
    loaded: Sequence[Loaded]
    finish: Callable[[], list[Flow]]

    def finished(self) -> Iterator[tuple[Case, Loaded, Flow]]:
        return zip(self.cases, self.loaded, self.finish(), strict=True)


def _estimated(model: FlowModel, cases: Sequence[Case]) -> Iterator[tuple[Case, Loaded, Flow]]:
    """Find the flow of pairs in batches; the next is read while the model works."""
    batch = model.runtime.max_batch
    under_way: deque[_UnderWay] = deque()
    try:
        for start in range(0, len(cases), batch):
            some = cases[start : start + batch]
            loaded = [load(case) for case in some]
            pairs = [Pair(model.place(each.before), model.place(each.after)) for each in loaded]
            under_way.append(_UnderWay(some, loaded, model.begin(pairs)))
            if len(under_way) == _AHEAD:
                yield from under_way.popleft().finished()
        while under_way:
            yield from under_way.popleft().finished()
    finally:
        for each in under_way:  # what was started is waited for before the model is closed
            each.finish()


def _paint(path: Path, loaded: Loaded, found: Float) -> None:
    """Write the frame, its true flow and what was found, one above the other; both in the colours of the truth."""
    truth = np.where(loaded.truth.known[..., None], loaded.truth.uv, np.float32(np.nan))
    largest = float(np.hypot(loaded.truth.uv[..., 0], loaded.truth.uv[..., 1]).max(initial=0))
    picture = np.vstack([loaded.before, paint(truth, largest or None), paint(found, largest or None)])
    _, data = cv2.imencode(".png", picture[..., ::-1])
    path.write_bytes(data.tobytes())


def _table(means: Errors, model: str) -> Table:
    made = table("", "endpoint error, px", "outliers, %")
    for name, error in means.items():
        title = _TITLES.get(name, escape(model))
        made.add_row(title, cell(error.endpoint), cell(100 * error.outliers, 2))
    return made


def _told(cases: Sequence[Case], errors: Sequence[Errors], means: Errors) -> dict[str, Any]:
    """Say all of it as JSON can."""
    each = [{"before": str(case.before)} | _as_json(error) for case, error in zip(cases, errors, strict=True)]
    return _as_json(means) | {"each": each}


def _as_json(errors: Errors) -> dict[str, Any]:
    baselines = {name: asdict(error) for name, error in errors.items() if name != "model"}
    return {"found": asdict(errors["model"]), "baselines": baselines}

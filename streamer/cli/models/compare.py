"""`streamer models compare`: what every runtime and precision here makes of the same frames, and at what cost."""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby

from rich.table import Table

from engines.build.compare import Agreement, RawDifference, Row, compare, with_reference
from engines.build.trial import Subject, Trial, Variant
from engines.load import GRAPHS
from engines.runtimes import BACKENDS
from engines.types import Image
from streamer.cli import DONE
from streamer.cli.console import note, stdout
from streamer.cli.models.frames import read_frames
from streamer.cli.models.named import add_model, find_model
from streamer.cli.models.options import (
    PRECISIONS,
    add_measured,
    check_writable,
    find_weights,
    opening,
    positive,
    precisions,
    runtimes,
    write_json,
)
from streamer.sources.synthetic import World

_MIB = 2**20
_SPREAD = 10.0  # seconds of the synthetic world


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--video", action="append", metavar="VIDEO", help="a file, folder or URL (default: synthetic)")
    parser.add_argument("--frames", type=positive, default=32, metavar="N", help="so many of it, spread evenly")
    parser.add_argument("--runtime", type=runtimes, metavar="NAME,…", help="these only (default: all)")
    parser.add_argument("--precision", type=precisions, metavar="fp32,…", help="these only (default: all)")
    parser.add_argument("--batch", type=positive, default=1, metavar="N", help="rows at a time (default: %(default)s)")
    add_measured(parser)
    parser.set_defaults(job=compare_model)


def compare_model(args: argparse.Namespace) -> int:
    manifest = find_model(args.model)
    check_writable(args.json)
    images = _images(args)
    subject = Subject(manifest, find_weights(manifest, args.weights), args.batch, threads=args.threads)
    variants = with_reference(subject, _variants(args.runtime, args.precision))
    with opening():  # what goes wrong with a single variant is said beside the others
        reference, rows = compare(subject, variants, images, note)
    done = [row for row in rows if row.trial is not None]
    stdout.print(_costs(done))
    stdout.print()
    stdout.print(_differences(done, reference))
    _say_faults(rows)
    if not any(len(found) for row in done if row.trial for found in row.trial.found):
        note("nothing was found in these frames, so detections say little: give footage of your own with --video")
    write_json(args.json, _result(args, reference, rows))
    return DONE


def _images(args: argparse.Namespace) -> Sequence[Image]:
    if args.video:
        return read_frames(args.video, args.frames)
    world = World(seed=1, size=(1280, 720))
    return [world.render(_SPREAD * i / args.frames) for i in range(args.frames)]


def _variants(names: Sequence[str] | None, wanted: Sequence[str] | None) -> list[Variant]:
    """Pair runtimes with precisions; those that nobody named and that a runtime does not know are left out."""
    return [
        Variant(name, precision)
        for name in names or BACKENDS
        for precision in PRECISIONS
        if (precision in wanted if wanted else precision != "auto" and precision in GRAPHS[name])
    ]


def _costs(rows: Iterable[Row]) -> Table:
    trials = [(row, row.trial) for row in rows if row.trial]
    on_device = any(trial.device_memory is not None for _, trial in trials)
    table = _table("cost", "ms/batch", "frames/s", "memory", *(["on device"] if on_device else []))
    for row, trial in trials:
        cells = [f"{_ms(trial):.2f}", f"{_rate(trial):.1f}", _mib(trial.memory), _mib(trial.device_memory)]
        table.add_row(str(row.variant), *cells[: len(table.columns) - 1])
    return table


def _differences(rows: Iterable[Row], reference: Variant) -> Table:
    seen = [(row.variant, row.raw, row.agreement) for row in rows if row.raw and row.agreement]
    masks = any(agreement.worst_mask_iou is not None for *_, agreement in seen)
    columns = ("max", "mean", "relative", "objects", "IoU", "score", "mAP", *(["masks"] if masks else []))
    table = _table("difference", *columns)
    table.padding = (0, 1, 0, 0)  # with masks, too, it fits into 80 columns
    for variant, raw, agreement in seen:
        table.add_row(str(variant), *list(_cells(raw, agreement))[: len(columns)])
    table.caption = (
        f"from {reference}: of raw outputs (largest, mean, norm over norm); objects found in both -missed +extra; the "
        "worst IoU and the worst difference in confidence of those in both"
    )
    table.caption += ", and the worst IoU of their masks" if masks else ""
    table.caption_justify = "left"
    return table


def _cells(raw: RawDifference, seen: Agreement) -> Iterator[str]:
    yield from (f"{value:.1e}" for value in (raw.max, raw.mean, raw.relative))
    yield f"{seen.found} -{seen.missed} +{seen.extra}"
    yield from (f"{seen.worst_iou:.3f}", f"{seen.worst_confidence:.3f}")
    yield "-" if seen.mean_ap is None or math.isnan(seen.mean_ap) else f"{seen.mean_ap:.3f}"
    yield "-" if seen.worst_mask_iou is None else f"{seen.worst_mask_iou:.3f}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _say_faults(rows: Iterable[Row]) -> None:
    """Say why there is nothing of a variant; once where several have the same fault."""
    failed = sorted((row.fault, row.variant) for row in rows if row.fault)
    for fault, same in groupby(failed, key=lambda pair: pair[0]):
        stdout.print(f"{', '.join(str(variant) for _, variant in same)}: {fault}", markup=False, soft_wrap=True)


def _ms(trial: Trial) -> float:
    return statistics.median(trial.speed.ms)


def _rate(trial: Trial) -> float:
    return statistics.median(trial.speed.frames_per_s)


def _mib(size: int | None) -> str:
    return "-" if size is None else f"{size / _MIB:.0f} MiB"


def _result(args: argparse.Namespace, reference: Variant, rows: Iterable[Row]) -> dict[str, object]:
    return {
        "model": args.model,
        "frames": args.frames,
        "batch": args.batch,
        "reference": asdict(reference),
        "rows": [_row(row) for row in rows],
    }


def _row(row: Row) -> dict[str, object]:
    trial = row.trial
    cost = trial and {
        "description": trial.description,
        "ms_per_batch": _ms(trial),
        "frames_per_s": _rate(trial),
        "memory_bytes": trial.memory,
        "device_memory_bytes": trial.device_memory,
    }
    return {
        **asdict(row.variant),
        "cost": cost,
        "raw": row.raw and asdict(row.raw),
        "detections": row.agreement and asdict(row.agreement),
        "fault": row.fault,
    }

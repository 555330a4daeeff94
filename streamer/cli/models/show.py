"""`streamer models show`: all that is known about a model."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from engines.manifest import ClipInput, Manifest
from engines.outputs import FusionDecoder
from engines.zoo import find_local
from streamer.cli import DONE
from streamer.cli.console import stdout
from streamer.cli.models.named import add_model, find_model, find_parts, how_to_get


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.set_defaults(job=show)


def show(args: argparse.Namespace) -> int:
    manifest = find_model(args.model)
    parts = find_parts(manifest)
    rows = {"task": manifest.task, **(_network(manifest) if parts == [manifest] else _streams(manifest, parts))}
    if manifest.labels:
        rows["classes"] = ", ".join(f"{i} {label}" for i, label in enumerate(manifest.labels))
    table = Table(show_header=False, box=None, pad_edge=False, title=manifest.name, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in rows.items():
        table.add_row(key, escape(value))
    stdout.print(table)
    return DONE


def _network(manifest: Manifest) -> Mapping[str, str]:
    weights = manifest.weights.file
    finds = manifest.task in ("detect", "segment")
    return {
        "architecture": " ".join(filter(None, (manifest.architecture, manifest.variant))),
        "input": _input(manifest),
        "decoder": _listed(manifest.decoder.model_dump()),
        **({"defaults": _listed(manifest.defaults.model_dump())} if finds else {}),
        "weights": weights.file,
        "url": weights.url or "none",
        "sha256": weights.sha256 or "none",
        "licence": weights.licence or "not said",
        "on this machine": _place(manifest),
    }


def _streams(manifest: Manifest, parts: Sequence[Manifest]) -> Mapping[str, str]:
    """Tell of a model that is but others together what makes it one; `show` tells more of each."""
    assert isinstance(manifest.decoder, FusionDecoder)  # noqa: S101 - else it is one network
    shares = [f"{part.name} ({stream.weight:g})" for stream, part in zip(manifest.decoder.streams, parts, strict=True)]
    rows = {"decoder": f"fusion, the weighted mean of {' and '.join(shares)}"}
    for part in parts:
        rows |= {part.name: _input(part), f"{part.name} on this machine": _place(part)}
    return rows


def _input(manifest: Manifest) -> str:
    """Tell how images become the network's input."""
    told, clip = manifest.preprocess, manifest.clip
    height, width = told.size
    pixels = f"{told.channels.upper()}, mean {told.mean}, std {told.std}"
    if clip is None:
        images = "2 images of " if manifest.task == "flow" else ""
        return f"{images}{width} x {height}, {told.resize} ({told.align}), {pixels}"
    values = pixels if clip.input == "rgb" else f"cut to {clip.limit:g} pixels and divided by that"
    return f"{_samples(clip)} of {width} x {height}, {clip.fps:g} a second, as a {clip.form}, {values}"


def _samples(clip: ClipInput) -> str:
    name = "frame" if clip.input == "rgb" else "flow field"
    return f"{clip.length} {name}{'s' if clip.length > 1 else ''}"


def _place(part: Manifest) -> str:
    return str(find_local(part) or f"no; {how_to_get(part)}")


def _listed(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items())

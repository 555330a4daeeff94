"""`streamer models add`: a manifest for an ONNX file of one's own, made after looking into it and tried once."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from engines.build.probe import Probed, probe
from engines.build.propose import DECODERS, Proposal, propose
from engines.errors import EngineError
from engines.geometry import Size
from engines.manifest import config_dir, read
from engines.yamlsource import suggest
from streamer.cli import DONE
from streamer.cli.console import note
from streamer.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "onnx", type=Path, metavar="MODEL.onnx", help="the network, exported for one image or any number"
    )
    parser.add_argument("--decoder", metavar="KIND", help=f"{', '.join(DECODERS)}; asked for when not clear")
    parser.add_argument("--labels", metavar="LABELS", help="a file with one label a line, or a list such as coco80")
    parser.add_argument("--name", help="of the model; by default the file's")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the manifest goes; by default beside the file")
    parser.add_argument("--size", metavar="HxW", help="height and width, for networks that take any")
    parser.add_argument("--force", action="store_true", help="overwrite a manifest that is there")
    parser.set_defaults(job=add)


def add(args: argparse.Namespace) -> int:
    weights: Path = args.onnx.expanduser()
    size = None if args.size is None else _parse_size(args.size)
    labels = None if args.labels is None else _read_labels(args.labels)
    with _wrong_input():
        proposal = propose(weights, args.decoder, labels, size)
    name = _checked_name(args.name or _name_of(weights))
    target = (args.out or weights.parent).expanduser() / f"{name}.yaml"
    if target.exists() and not args.force:
        raise InputError(f"{target} is there already: give another --name or --out, or overwrite it with --force")
    text = _manifest(name, weights, proposal, target.parent, args.labels)
    _report(proposal, _write(target, text, weights))
    print(target)  # noqa: T201 - the result: a script may read it
    return DONE


# --- what the user says ---


def _parse_size(text: str) -> Size:
    found = re.fullmatch(r"([1-9]\d{0,4})(?:[xX]([1-9]\d{0,4}))?", text)
    if found is None:
        raise InputError(f"--size {text!r} is no size: write height x width, such as 480x640, or 640 for a square")
    return int(found[1]), int(found[2] or found[1])


def _read_labels(name: str) -> list[str]:
    """Read one label a line, from a file or a list that comes with us."""
    known = {path.stem: path for path in (config_dir() / "labels").glob("*.txt")}
    path = known.get(name, Path(name).expanduser())
    try:
        labels = [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    except FileNotFoundError:
        raise InputError(f"--labels {name} is neither a file nor a list{suggest(name, known)}: correct it") from None
    except UnicodeDecodeError:
        raise InputError(f"--labels {name} is not text: it must be UTF-8, one label a line") from None
    except OSError as error:
        raise InputError(f"--labels {name} cannot be read: {error.strerror}") from error
    if not labels:
        raise InputError(f"--labels {name} is empty: write one label a line, in the order of the classes")
    if "" in labels:  # skipping it would shift every class after it
        raise InputError(f"--labels {name}:{labels.index('') + 1}: is empty, but every line is the label of one class")
    return labels


def _name_of(weights: Path) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", weights.stem.lower()).strip("-._") or "model"


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise InputError(f"--name {name!r} is no name for a model: take small letters, digits and . _ -")
    return name


# --- the manifest ---


def _manifest(name: str, weights: Path, proposal: Proposal, folder: Path, labels: str | None) -> str:
    """Write the manifest as its user would: what is not clear by itself has its reason beside it."""
    pixels, why = proposal.preprocess, {key: " ".join(text.split()) for key, text in proposal.reasons.items()}
    return f"""\
# Made by `streamer models add`; every line may be changed.
name: {json.dumps(name)}
task: {proposal.task}
labels: {_labels(proposal.labels, folder, labels)}

preprocess:
  size: {list(pixels.size)}  # height, width; {why["size"]}
  resize: {pixels.resize}  # from here on {why["pixels"]}
  align: {pixels.align}
  pad: {list(pixels.pad) if isinstance(pixels.pad, tuple) else pixels.pad}
  channels: {pixels.channels}
  mean: {list(pixels.mean)}
  std: {list(pixels.std)}

decoder: {_decoder(proposal)}  # {why["decoder"]}

defaults:
  confidence: 0.3
  iou: 0.45

weights:
  onnx:  # {why["weights"]}
    file: {json.dumps(_reach(weights, folder), ensure_ascii=False)}
    sha256: {_digest(weights)}
    size: {weights.stat().st_size}
"""


def _decoder(proposal: Proposal) -> str:
    """Name the decoder, and what differs in it from what is usual."""
    settings = dict(proposal.settings)
    return json.dumps({"kind": proposal.decoder, **settings}) if settings else proposal.decoder


def _labels(labels: Sequence[str], folder: Path, given: str | None) -> str:
    """Name the list or file that the user named; spell out what was found inside the network."""
    if given is None:
        return "  # from the file's metadata" + "".join(
            f"\n  - {json.dumps(label, ensure_ascii=False)}" for label in labels
        )
    if (config_dir() / "labels" / f"{given}.txt").is_file():
        return given
    reach = _reach(Path(given).expanduser(), folder)
    return json.dumps(reach if "/" in reach else f"./{reach}", ensure_ascii=False)


def _reach(file: Path, folder: Path) -> str:
    """Name a file as its manifest does: by its name where it lies beside it, else by its whole path."""
    return file.name if file.resolve().parent == folder.resolve() else str(file.resolve())


def _digest(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _write(target: Path, text: str, weights: Path) -> Probed:
    """Put the manifest in its place when the network has run by it; else leave everything as it was."""
    trial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        trial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror}): give another folder with --out") from error
    try:
        with _wrong_input():
            probed = probe(read(trial), weights)
        trial.replace(target)
    finally:
        trial.unlink(missing_ok=True)
    return probed


@contextmanager
def _wrong_input() -> Iterator[None]:
    """What is wrong with a file that somebody brings is wrong input."""
    try:
        yield
    except EngineError as error:
        raise InputError(str(error)) from error


def _report(proposal: Proposal, probed: Probed) -> None:
    height, width = proposal.preprocess.size
    note(f"{proposal.decoder}, {width} x {height}, {len(proposal.labels)} classes; {proposal.reasons['decoder']}")
    note(probed.found)
    for doubt in probed.doubts:
        note(f"but {doubt}: if what it finds on your frames is wrong, take another --decoder, or correct the manifest")

"""What is expected: figures that were recorded on a machine that is known to be right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from engines import zoo
from engines.manifest import Manifest
from streamer.selftest.films import SEEN, Film, Footage
from streamer.selftest.lineup import Figure, Lineup
from streamer.selftest.rows import Bound
from streamer.selftest.variants import Variant

FILE = Path(__file__).with_name("expected.yaml")
AGAIN = "run python -m streamer.selftest.record on a machine that is right"
_HEAD = "# What `streamer selftest` expects. Written by `python -m streamer.selftest.record`: change nothing here.\n"
_CELLS = (3, 4)  # rows and columns that a print of a film averages its last picture over
_ALIKE = 4  # levels by which two prints of one film may differ: processors round differently
_TOLERANCE = 1.0  # hundredths by which another runtime may be worse
_INT8 = 3.0  # hundredths that int8 may cost


@dataclass(frozen=True, slots=True)
class Recorded:
    """One figure, and the weights that it depends on."""

    value: float  # hundredths
    weights: Mapping[str, str]  # sha256 by model


@dataclass(frozen=True, slots=True)
class Expected:
    """All that was recorded; nothing, where nobody has recorded anything yet."""

    prints: Mapping[str, str] = field(default_factory=dict)  # of films, by name
    definition: str = ""
    figures: Mapping[str, Recorded] = field(default_factory=dict)

    def same_films(self, footage: Sequence[Footage], lineup: Lineup) -> bool:
        """Tell whether these are the films that figures were recorded of, and are looked at alike."""
        there = {each.film.name: each for each in footage}
        return (
            self.definition == definition([each.film for each in footage], lineup)
            and there.keys() == self.prints.keys()
            and all(_alike(self.prints[name], printed(each)) for name, each in there.items())
        )

    def of(self, key: str, weights: Mapping[str, str]) -> float | None:
        """Find what was recorded for a figure; None where nothing was, or of other weights."""
        found = self.figures.get(key)
        return found.value if found is not None and found.weights == weights else None


def read(path: Path = FILE) -> Expected:
    """Read what was recorded."""
    if not path.is_file():
        return Expected()
    told = yaml.safe_load(path.read_text(encoding="utf-8"))
    figures = {key: Recorded(each["value"], each["weights"]) for key, each in told["figures"].items()}
    return Expected(told["films"], told["definition"], figures)


def write(expected: Expected, path: Path = FILE) -> None:
    """Record what is expected from now on."""
    told = {
        "definition": expected.definition,
        "films": dict(expected.prints),
        "figures": {
            key: {"value": round(each.value, 2), "weights": dict(each.weights)}
            for key, each in expected.figures.items()
        },
    }
    path.write_text(_HEAD + yaml.safe_dump(told, sort_keys=False, width=1000), encoding="utf-8")


def key(lineup: Lineup, figure: Figure) -> str:
    """Name a figure for good."""
    return f"{lineup.title(figure)} {figure.name}"


def bound(figure: Figure, value: float, variant: Variant) -> Bound:
    """Say how much worse than recorded a figure may be; better is always right."""
    slack = _INT8 if variant.precision == "int8" else _TOLERANCE
    return Bound(most=value + slack, about=value) if figure.lower else Bound(least=value - slack, about=value)


def weights_of(networks: Sequence[Manifest]) -> Mapping[str, str] | None:
    """Digest the weights of networks, by name; None where some are not on this machine."""
    found = {network.name: zoo.find_local(network) for network in networks}
    if any(path is None for path in found.values()):
        return None
    return {name: _sha256(path, path.stat().st_mtime_ns) for name, path in found.items() if path is not None}


@cache
def _sha256(path: Path, _changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def definition(films: Sequence[Film], lineup: Lineup) -> str:
    """Digest what the films are said to be, how nodes look at them, and whom clips are cut around."""
    told: list[Any] = [[repr(film) for film in films], dict(lineup.nodes), SEEN]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def printed(footage: Footage) -> str:
    """Describe how a film looks, in hex: the mean colours of the parts of its last picture."""
    picture = footage.pictures[-1]
    rows, columns = _CELLS
    parts = [part for row in np.array_split(picture, rows) for part in np.array_split(row, columns, axis=1)]
    return np.array([part.mean(axis=(0, 1)) for part in parts]).round().astype(np.uint8).tobytes().hex()


def _alike(one: str, other: str) -> bool:
    first, second = (np.frombuffer(bytes.fromhex(each), np.uint8).astype(int) for each in (one, other))
    return first.shape == second.shape and int(np.abs(first - second).max(initial=0)) <= _ALIKE

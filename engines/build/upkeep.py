"""Which of the cached engines and graphs can still be used here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from engines.build import BUILDERS, open_builder
from engines.build.base import Material
from engines.build.cache import Entry
from engines.build.graph import calibration_of, material
from engines.build.graphs import GraphEntry
from engines.build.sidecar import Label
from engines.errors import EngineError
from engines.manifest import find, names

Verdict = Literal["usable", "stale", "unknown"]


class Kept(Protocol):
    """Something in the cache."""

    @property
    def used(self) -> datetime: ...


T = TypeVar("T", bound=Kept)
Doom = Callable[[T], str | None]  # why something is to be removed, or None


@dataclass(frozen=True, slots=True)
class State:
    """Whether an engine can be used here; *why* it cannot, or why nobody can tell."""

    verdict: Verdict
    why: str = ""


@dataclass(slots=True)
class Inspector:
    """Compare engines with what would be built here and now, reading each file of weights once.

    The models that come with us are compared with their manifests; what a user's own was made of is not known here.
    """

    _models: dict[tuple[str, str], Material | None] = field(default_factory=dict)

    def __call__(self, entry: Entry) -> State:
        had = entry.sidecar.label
        if had.runtime not in BUILDERS:
            return State("unknown", f"this version knows no runtime {had.runtime}")
        try:
            identity = open_builder(had.runtime).identity(had.order)
            graph = self._graph(had, entry.sidecar.weights)
        except EngineError as error:
            return State("unknown", str(error))
        why = had.misfit(replace(had, identity=identity, graph=graph or had.graph))
        return State("stale", why) if why else State("usable")

    def graph(self, entry: GraphEntry) -> State:
        """Tell of a graph whether it would be made alike now."""
        origin = entry.origin
        try:
            made = self._material(origin.model, origin.weights)
        except EngineError as error:
            return State("unknown", str(error))
        if made is None:
            return State("unknown", "what it was made of is not here")
        if made.digest(origin.recipe) != origin.digest:
            return State("stale", "it is of other weights, or of an older manifest")
        if origin.recipe.precision == "int8" and calibration_of(made) != origin.recipe.calibration:
            return State("stale", "the model was calibrated anew since")
        return State("usable")

    def _graph(self, had: Label, weights: str) -> str | None:
        """Digest what the engine's graph would be now; None where what it was made of is not here."""
        made = self._material(had.model, weights)
        return None if made is None else made.digest(had.order.recipe)

    def _material(self, model: str, weights: str) -> Material | None:
        key = model, weights
        if key not in self._models:
            here = model in names() and Path(weights).is_file()
            self._models[key] = material(find(model), Path(weights)) if here else None
        return self._models[key]


def unusable(inspect: Callable[[T], State]) -> Doom[T]:
    """Doom what nothing here can use any more; what cannot be told is left alone."""

    def doom(entry: T) -> str | None:
        state = inspect(entry)
        return state.why if state.verdict == "stale" else None

    return doom


def unused(since: datetime) -> Doom[Kept]:
    """Doom what was neither built nor used since then."""
    return lambda entry: f"it was last used on {entry.used:%Y-%m-%d}" if entry.used < since else None


def every(_entry: Kept) -> str | None:
    """Doom them all."""
    return "all are to go"


def remakable(doom: Doom[Kept]) -> Doom[GraphEntry]:
    """Spare graphs that were calibrated: they cannot be made again without the footage."""
    return lambda entry: None if entry.origin.recipe.precision == "int8" else doom(entry)

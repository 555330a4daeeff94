"""What an edit of a pipeline file means for a pipeline that runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from streamer import config
from streamer.config import Camera

_NO_CONTENT = frozenset({"cameras", "document"})  # what may differ between two files that are applied to each other


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of which cameras; all others go on undisturbed."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()  # connected anew with other settings
    paused: tuple[str, ...] = ()
    resumed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))

    def __str__(self) -> str:
        parts = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return "; ".join(f"{what} {', '.join(names)}" for what, names in parts if names) or "nothing changed"


def beyond_cameras(old: config.Pipeline, new: config.Pipeline) -> list[str]:
    """List the keys that only a restart can apply."""
    names = (field.name for field in fields(config.Pipeline) if field.name not in _NO_CONTENT)
    return [name for name in names if getattr(old, name) != getattr(new, name)]


def difference(old: Mapping[str, Camera], new: Mapping[str, Camera], now: Mapping[str, Camera]) -> Change:
    """Compare two versions of a file, and say what its edit means for the cameras that there are *now*.

    What the edit leaves alone stays as it is, also where it was changed since by other means.
    """
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name) and (what := _step(now.get(name), new.get(name))):
            found.setdefault(what, []).append(name)
    return Change(**{what: tuple(names) for what, names in found.items()})


def _step(now: Camera | None, wanted: Camera | None) -> str | None:
    """Name the field of `Change` that leads from what there is to what is wanted; None where that is the same."""
    if now == wanted:
        return None
    if wanted is None:
        return "removed"
    if now is None:
        return "added"
    if now.model_copy(update={"paused": wanted.paused}) != wanted:
        return "changed"
    return "paused" if wanted.paused else "resumed"

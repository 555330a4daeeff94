"""What other packages add under a name: found by their entry points, and imported only when somebody names it."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any


class PluginFault(ValueError):  # noqa: N818 - callers make an error of theirs from it
    """What a package offers cannot be had. The message is one sentence that names the package."""


def offered(group: str) -> tuple[str, ...]:
    """List the names that packages offer in a group; nothing is imported."""
    return tuple(sorted({entry.name for entry in entry_points(group=group)}))


def offers(group: str, name: str) -> bool:
    """Tell whether a package offers something under this name; nothing is imported."""
    return bool(entry_points(group=group, name=name))


def load(group: str, name: str) -> Any:
    """Import what a package offers under this name; None where none does. Raises PluginFault."""
    found = {_whose(entry): entry for entry in entry_points(group=group, name=name)}
    if not found:
        return None
    if len(found) > 1:
        raise PluginFault(f"{' and '.join(sorted(found))} both offer {name!r} as one of {group}; remove one of them")
    ((package, entry),) = found.items()
    try:
        return entry.load()
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}".rstrip(": ")
        raise PluginFault(
            f"{name!r} comes with {package}, which cannot be imported ({reason}); mend that package, or remove it"
        ) from error


def package_of(group: str, name: str) -> str:
    """Say for people which package offers something under this name: ``their-package 1.2``."""
    return " and ".join(sorted(_whose(entry) for entry in entry_points(group=group, name=name)))


def _whose(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.value

"""Videos whose actions are known: found, and their labels matched, before a model is opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.metrics.classes import match, some
from engines.sampling import spread
from streamer.cli.eval.tables import rows
from streamer.errors import InputError
from streamer.sources.images import natural

_SUFFIXES = frozenset({".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"})


@dataclass(frozen=True, slots=True)
class Video:
    """A video, and what it truly shows."""

    path: Path
    label: str
    class_id: int = -1  # the model's


def find_videos(path: Path | None, labels: Sequence[str], limit: int | None) -> list[Video]:
    """Find the videos, at most *limit* of them, evenly spread, with the classes that the model has for their labels.

    Raises InputError when there are none, when some are missing, and for labels that the model does not know.
    """
    if path is None:
        raise InputError("there is nothing to measure against: give --clips DIR with videos in folders named by label")
    videos = list(_in_list(path) if path.suffix.lower() == ".csv" else _in_folders(path))
    if not videos:
        raise InputError(f"{path} holds no videos: give a folder with videos in folders named by label, or a .csv")
    if missing := [video.path for video in videos if not video.path.exists()]:
        raise InputError(f"{len(missing)} of {len(videos)} videos are missing, the first of them {missing[0]}")
    classes = _classes(path, labels, list(dict.fromkeys(video.label for video in videos)))
    known = [Video(video.path, video.label, classes[video.label]) for video in videos]
    return known if limit is None else spread(known, limit)


def _in_list(path: Path) -> Iterator[Video]:
    for name, label in rows(path, ("path", "label")):
        yield Video(path.parent / name, label)


def _in_folders(path: Path) -> Iterator[Video]:
    if not path.is_dir():
        raise InputError(f"there is no folder {path}: give --clips one with videos in folders named by label")
    for folder in sorted(each for each in path.iterdir() if each.is_dir()):
        for video in sorted(folder.iterdir(), key=natural):
            if video.suffix.lower() in _SUFFIXES and not video.name.startswith("."):
                yield Video(video, folder.name)


def _classes(path: Path, labels: Sequence[str], true: Sequence[str]) -> dict[str, int]:
    """Find the class of each true label, by name. Raises InputError for one that there is no class for."""
    try:
        matching = match(labels, dict(enumerate(true)))
    except ValueError as error:
        raise InputError(
            f"{path}: {error.args[0].replace('categories', 'labels of the videos')}: rename them"
        ) from error
    if matching.unknown:
        raise InputError(
            f"{path}: the model has no label for {some(matching.unknown)}: rename these, or leave them out"
        )
    found: dict[str, int] = {}
    for class_id, number in matching.categories.items():
        found.setdefault(true[number], class_id)  # of labels that differ in spaces alone, the first
    return found

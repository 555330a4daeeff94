"""What `--data` may name, for detectors."""

from __future__ import annotations

from pathlib import Path

from engines.train.data.coco import CocoScenes, Folder
from engines.train.data.scene import Scenes
from engines.train.data.world import WorldScenes
from engines.train.errors import TrainingError
from engines.train.task import Subject


def open_scenes(subject: Subject) -> Scenes:
    """Open ``world`` or ``coco:ANNOTATIONS.json,IMAGES``, to which two more may be added to be measured by.

    Raises TrainingError.
    """
    kind, _, rest = subject.data.partition(":")
    if kind == "world" and not rest:
        return WorldScenes(subject.seed, size=subject.learnt.preprocess.size)
    folder, measured = open_folders(subject.data, "a detector")
    return CocoScenes(folder, subject.learnt.preprocess.size, subject.seed, measured)


def open_folders(data: str, learner: str) -> tuple[Folder, Folder | None]:
    """Open the folder to learn from, and the one to be measured by where there is one. Raises TrainingError."""
    kind, _, rest = data.partition(":")
    paths = [Path(each).expanduser() for each in rest.split(",")]
    if kind != "coco" or len(paths) not in (2, 4):
        raise TrainingError(
            f"{data!r} is nothing that {learner} learns from: say world, coco:ANNOTATIONS.json,IMAGES, or "
            "coco:ANNOTATIONS.json,IMAGES,ANNOTATIONS.json,IMAGES with what to be measured by"
        )
    return Folder.open(paths[0], paths[1]), Folder.open(paths[2], paths[3]) if paths[2:] else None

"""Networks that need no weights: they look up which picture of a film they are shown, and tell what is true of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from engines import load
from engines.build.base import Material
from engines.geometry import letterbox
from engines.manifest import find
from engines.runtimes.base import Runtime, RuntimeOptions
from engines.runtimes.fake import FakeRuntime
from engines.types import Array, Float, Geometry, Image, TensorSpec
from engines.world import World
from streamer.selftest.films import BETWEEN, Film, Footage
from streamer.selftest.lineup import FIGURES, NODES, Lineup

FILMS = (
    Film("north", 2_000_011, 5.0, seconds=1.6, objects=7, size=(320, 180)),
    Film("south", 2_000_012, 9.0, seconds=1.6, objects=7, size=(320, 180)),
)
_LOOK = 40, 22  # width, height at which pictures are compared
_CELL = 4  # input pixels to one of a flow's
_ROOM = 16  # candidates that a detector gives


class Detector:
    """Give the boxes of the picture that is shown."""

    def __init__(self, footage: Sequence[Footage], size: tuple[int, int]) -> None:
        self._footage, self._size = footage, size
        source = (footage[0].film.size[1], footage[0].film.size[0])
        self._place = letterbox(source, size, "center")
        self._finder = Finder(footage)

    def __call__(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        rows = [self._row(picture) for picture in feeds["frames"]]
        return {name: np.stack([row[i] for row in rows]) for i, name in enumerate(("boxes", "scores", "classes"))}

    def _row(self, picture: Image) -> tuple[Array, Array, Array]:
        footage, index = self._finder(content(picture, self._place))
        true = footage.moments[index].objects
        boxes, scores = np.zeros((_ROOM, 4), np.float32), np.zeros(_ROOM, np.float32)
        classes = np.zeros(_ROOM, np.int32)
        boxes[: len(true)], scores[: len(true)] = self._place.to_input(true.xyxy), 0.9
        classes[: len(true)] = true.class_id
        return boxes, scores, classes


class Motion:
    """Give the flow into the second picture of a pair."""

    def __init__(self, footage: Sequence[Footage], size: tuple[int, int]) -> None:
        self._size = size
        self._place = letterbox((footage[0].film.size[1], footage[0].film.size[0]), size, "top-left")
        self._finder = Finder(footage)
        self._worlds = {each.film.name: World(each.film.seed, each.film.size, each.film.objects) for each in footage}

    def __call__(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        return {"flow": np.stack([self._flow(pair[1]) for pair in feeds["frames"]])}

    def _flow(self, picture: Image) -> Float:
        footage, index = self._finder(content(picture, self._place))
        film, world = footage.film, self._worlds[footage.film.name]
        times = (film.time(max(0, index - back)) for back in (BETWEEN, 0))
        uv = world.flow(*times).uv * np.array(self._place.scale_xy, np.float32)
        width, height = (round(n * scale / _CELL) for n, scale in zip(film.size, self._place.scale_xy, strict=True))
        field = np.zeros((self._size[0] // _CELL, self._size[1] // _CELL, 2), np.float32)
        field[:height, :width] = cv2.resize(uv, (width, height), interpolation=cv2.INTER_AREA)
        return field


class Finder:
    """Find the picture of all films that another one is most like, whatever its size."""

    def __init__(self, footage: Sequence[Footage]) -> None:
        self._places = [(each, index) for each in footage for index in range(each.film.frames)]
        self._looks = np.stack([_look(picture) for each in footage for picture in each.pictures])

    def __call__(self, picture: Image) -> tuple[Footage, int]:
        apart = np.abs(self._looks - _look(picture)).mean(axis=(1, 2))
        return self._places[int(apart.argmin())]


def content(picture: Image, place: Geometry) -> Image:
    """Cut what is no padding out of a letterboxed picture."""
    left, top = (int(offset) for offset in place.offset_xy)
    height, width = (round(side * scale) for side, scale in zip(place.source_hw, place.scale_xy[::-1], strict=True))
    return picture[top : top + height, left : left + width]


def _look(picture: Image) -> Float:
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, _LOOK, interpolation=cv2.INTER_AREA), np.float32)


# --- as models ---


def lineup(folder: Path) -> Lineup:
    """Make the self-test's own lineup of models of these, with manifests in *folder*: a detector, tracks and flow."""
    models = {"yolox-pico": {"align": "center", "size": [192, 320]}, "flownets-pico": {"size": [128, 192]}}
    for name, changes in models.items():
        told = find(name).model_dump(mode="json", exclude_defaults=True)
        told["preprocess"] |= changes
        told["weights"] = {"onnx": {"file": f"{name}.onnx"}}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(told))
        (folder / f"{name}.onnx").write_bytes(b"an oracle has no weights")
    nodes = {
        name: {**node, "model": str(folder / f"{node['model']}.yaml")} if node.get("model") in models else node
        for name, node in NODES.items()
    }
    return Lineup(nodes, tuple(each for each in FIGURES if each.node in ("yolox", "tracks", "flow")))


def install(patch: pytest.MonkeyPatch, footage: Sequence[Footage]) -> None:
    """Let every model be an oracle of these films, in every runtime."""

    def open_first(bench: Material, prefer: Sequence[str], options: RuntimeOptions, _upkeep: object) -> Runtime:
        size, pair = bench.manifest.preprocess.size, bench.manifest.task == "flow"
        shape = (None, 2, *size, 3) if pair else (None, *size, 3)
        handler = Motion(footage, size) if pair else Detector(footage, size)
        return FakeRuntime(handler, (TensorSpec("frames", np.dtype(np.uint8), shape),), max_batch=options.max_batch)

    patch.setattr(load, "open_first", open_first)

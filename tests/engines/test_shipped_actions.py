"""The action models that come with us, on clips of worlds that they never saw: what one stream cannot see, two do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from engines import zoo
from engines.load import open_recogniser
from engines.manifest import Manifest, find, find_streams
from engines.recognition import clip_spec
from engines.runtimes.base import Precision, RuntimeOptions
from engines.train.data.worldclips import held_clips
from engines.types import Bool, Clip
from engines.world import ACTIONS, IN_APPEARANCE

_WINDOWS = 40  # of worlds, of about six clips each


@cache
def shown(length: int, fps: float, size: tuple[int, int]) -> tuple[Sequence[Clip], Sequence[int]]:
    clips, actions = zip(*held_clips(length, fps, size, _WINDOWS), strict=True)
    return clips, actions


def right(name: str, runtime: str = "onnxruntime", precision: Precision = "fp32") -> tuple[Bool, Sequence[int]]:
    """Say of each clip whether a model recognises it; and what each shows."""
    manifest = find(name)
    for each in find_streams(manifest):
        if not shipped(each):
            pytest.skip(f"config/weights holds no {each.name}.onnx: train and adopt it")
    told = clip_spec(find("two-stream-pico") if name == "spatial-pico" else manifest)  # the same clips for both
    clips, actions = shown(told.length, told.fps, told.size)
    opened = open_recogniser(manifest, zoo.locate, [runtime], RuntimeOptions(precision=precision, max_batch=8))
    try:
        best = [int(each.probs.argmax()) for each in opened(clips)]
    finally:
        opened.close()
    return np.array(best) == np.array(actions), actions


def shipped(manifest: Manifest) -> bool:
    return zoo.find_local(manifest, environ={"XDG_CACHE_HOME": str(Path("/nowhere"))}) is not None


@pytest.mark.parametrize("name", ["r3d-pico", "two-stream-pico"])
def test_nine_of_ten_clips_are_recognised(name: str) -> None:
    found, _ = right(name)
    assert len(found) > 150
    assert found.mean() >= 0.9


@pytest.mark.parametrize(("runtime", "precision"), [("openvino", "auto"), ("pytorch", "fp32")])
@pytest.mark.parametrize("name", ["r3d-pico", "two-stream-pico"])
def test_the_same_clips_are_recognised_in_every_runtime(name: str, runtime: str, precision: Precision) -> None:
    """Of 200 clips two may be taken for something else: a point."""
    there, _ = right(name, runtime, precision)
    assert abs(there.mean() - right(name)[0].mean()) <= 0.01


def test_two_streams_recognise_motion_better_than_one_picture_can() -> None:
    both, actions = right("two-stream-pico")
    alone, _ = right("spatial-pico")
    moves = np.array([ACTIONS[action] not in IN_APPEARANCE for action in actions])
    assert both[moves].mean() > alone[moves].mean() + 0.2

"""Clips to action scores: what surrounds the networks, one alone or two streams whose scores are fused.

Late fusion: Simonyan and Zisserman 2014, "Two-Stream Convolutional Networks", https://arxiv.org/abs/1406.2199
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from engines.errors import EngineError, ModelError
from engines.geometry import Size
from engines.manifest import ClipInput, Manifest, find_streams
from engines.model import Model
from engines.runtimes.base import Overlapping, Runtime
from engines.runtimes.checks import shown
from engines.types import Array, Clip, Geometry, Scores

Input = Literal["rgb", "flow"]


@dataclass(frozen=True, slots=True)
class ClipSpec:
    """What a recogniser wants to see."""

    length: int  # samples
    fps: float  # of them in a second
    size: Size
    inputs: frozenset[Input]


class Recogniser(Protocol):
    """What scores clips."""

    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def clip(self) -> ClipSpec: ...
    @property
    def description(self) -> str: ...  # what it runs on, for people

    def __call__(self, clips: Sequence[Clip]) -> list[Scores]: ...
    def begin(self, clips: Sequence[Clip]) -> Callable[[], list[Scores]]: ...
    def close(self) -> None: ...


def clip_spec(manifest: Manifest) -> ClipSpec:
    """Tell what a model wants to see, before it is opened: for two streams, what is enough for both.

    Raises ManifestError for a model that looks at no clips, or whose streams do not go together.
    """
    parts = [_alone(part) for part in find_streams(manifest)]
    return ClipSpec(
        max(part.length for part in parts),
        parts[0].fps,
        parts[0].size,
        frozenset[Input]().union(*(part.inputs for part in parts)),
    )


def _alone(manifest: Manifest) -> ClipSpec:
    told = manifest.clip
    assert told is not None, "checked by the manifest"  # noqa: S101 - for the type checker
    return ClipSpec(told.length, told.fps, manifest.preprocess.size, frozenset({told.input}))


class OneStream:
    """A network that scores clips."""

    def __init__(self, manifest: Manifest, runtime: Runtime) -> None:
        told = manifest.clip
        assert told is not None, "checked by the manifest"  # noqa: S101 - for the type checker
        feed = FeedClips(told, manifest.preprocess.size, runtime)
        self.model = Model(manifest.name, manifest.labels, feed, runtime, DecodeActions(len(manifest.labels)))
        self.clip = _alone(manifest)

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def labels(self) -> tuple[str, ...]:
        return self.model.labels

    @property
    def description(self) -> str:
        return self.model.runtime.description

    def __call__(self, clips: Sequence[Clip]) -> list[Scores]:
        """Score any number of clips."""
        return self.model(clips)

    def begin(self, clips: Sequence[Clip]) -> Callable[[], list[Scores]]:
        """Start on clips; the function that is returned waits for their scores. See `Model.begin`."""
        return self.model.begin(clips)

    def close(self) -> None:
        self.model.close()


class Fused:
    """Streams that look at the same clips; a clip's scores are the weighted mean of theirs."""

    def __init__(self, name: str, streams: Sequence[OneStream], weights: Sequence[float], clip: ClipSpec) -> None:
        self.name, self.labels, self.clip = name, streams[0].labels, clip
        self._streams = tuple(streams)
        self._weights = [np.float32(weight / sum(weights)) for weight in weights]

    @property
    def description(self) -> str:
        return " + ".join(stream.description for stream in self._streams)

    def __call__(self, clips: Sequence[Clip]) -> list[Scores]:
        """Score any number of clips."""
        return self._fuse([stream(clips) for stream in self._streams])

    def begin(self, clips: Sequence[Clip]) -> Callable[[], list[Scores]]:
        """Start every stream on clips; the function that is returned waits for all of them."""
        waiting: list[Callable[[], list[Scores]]] = []
        with ExitStack() as begun:  # every start is finished, also when another stream fails
            for stream in self._streams:
                waiting.append(stream.begin(clips))
                begun.callback(waiting[-1])
            begun.pop_all()
        return lambda: self._fuse(_finished(waiting))

    def _fuse(self, scores: Sequence[Sequence[Scores]]) -> list[Scores]:
        return [
            Scores(
                np.sum([w * each.probs for w, each in zip(self._weights, row, strict=True)], axis=0, dtype=np.float32)
            )
            for row in zip(*scores, strict=True)
        ]

    def close(self) -> None:
        for stream in self._streams:
            stream.close()


def _finished(waiting: Sequence[Callable[[], list[Scores]]]) -> list[list[Scores]]:
    """Wait for all; then raise what the first one that failed had to say."""
    scores, faults = [], []
    for finish in waiting:
        try:
            scores.append(finish())
        except EngineError as error:
            faults.append(error)
    if faults:
        raise faults[0]
    return scores


class FeedClips:
    """Put clips into one buffer that is used again and again, for a network that wants `frames` or `flows`.

    Of a clip that is longer than the network wants, the middle is taken. The arrays are valid until the next call; for
    a runtime that overlaps, until as many calls later as it has lanes.
    """

    def __init__(self, clip: ClipInput, size: Size, runtime: Runtime) -> None:
        self._clip = clip
        channels, dtype = (3, np.uint8) if clip.input == "rgb" else (2, np.float32)
        self._shape = (clip.length, *size, channels)
        self._name = _check_input(runtime, self._shape, dtype)
        lanes = runtime.lanes if isinstance(runtime, Overlapping) else 1
        self._buffers: deque[Array] = deque(np.empty((runtime.max_batch, *self._shape), dtype) for _ in range(lanes))

    def __call__(self, clips: Sequence[Clip], /) -> tuple[Mapping[str, Array], list[Geometry]]:
        """Feed 1 to the runtime's `max_batch` clips of the network's size. Raises ModelError for others."""
        self._buffers.rotate(-1)
        buffer = self._buffers[-1]
        if len(clips) > len(buffer):
            raise ValueError(f"{len(clips)} clips are more than the {len(buffer)} that the runtime takes")
        for row, clip in zip(buffer, clips, strict=False):
            row[:] = self._middle(clip)
        size = self._shape[1:3]
        return {self._name: buffer[: len(clips)]}, [Geometry(size, (1.0, 1.0), (0.0, 0.0)) for _ in clips]

    def _middle(self, clip: Clip) -> Array:
        samples = clip.rgb if self._clip.input == "rgb" else clip.flow
        if samples is None:
            raise ModelError("the network looks at motion, but the clip has no flow: name the clips node's 'flow'")
        length = self._shape[0]
        if len(samples) < length or samples.shape[1:] != self._shape[1:]:
            raise ModelError(
                f"the network looks at clips {shown(self._shape)}, but this one is {shown(samples.shape)}: correct "
                "'length' and 'size' of the clips node"
            )
        start = (len(samples) - length) // 2
        return samples[start : start + length]


def _check_input(runtime: Runtime, shape: tuple[int, ...], dtype: type[np.generic]) -> str:
    for found in runtime.inputs if len(runtime.inputs) == 1 else ():
        fits = len(found.shape) == 5 and all(n in (None, w) for n, w in zip(found.shape[1:], shape, strict=True))
        if fits and found.dtype == dtype:
            return found.name
    given = " and ".join(f"{each.name!r} {each.dtype} {shown(each.shape)}" for each in runtime.inputs) or "nothing"
    raise ModelError(
        f"the network takes {given}, but clips are fed as {np.dtype(dtype)} {shown((None, *shape))}: build it anew "
        "from its manifest"
    )


class DecodeActions:
    """Take the class probabilities `probs` (N, C) as they are."""

    def __init__(self, classes: int) -> None:
        self._classes = classes

    def __call__(self, outputs: Mapping[str, Array], geometry: Sequence[Geometry], /) -> list[Scores]:
        """Give a copy for each clip, for the runtime writes into its outputs again. Raises ModelError."""
        probs = outputs.get("probs")
        if probs is None or probs.shape != (len(geometry), self._classes):
            given = ", ".join(f"{name} {array.shape}" for name, array in outputs.items())
            raise ModelError(
                f"a served recogniser gives `probs` {shown((None, self._classes))}, not {given}: build it anew, or "
                "correct 'labels'"
            )
        return [Scores(row.astype(np.float32)) for row in probs]

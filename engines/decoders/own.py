"""What a network gives, read by code of another package: a layout that does not come with us.

A manifest names it (``decoder: corners``, or ``decoder: {kind: corners, stride: 8}``), and an entry point of the group
`streamer.decoders` says which class that is:

    class Corners:
        def __init__(self, classes: int, size: tuple[int, int], stride: int = 8) -> None:  # height, width of the input
        def __call__(self, outputs: Mapping[str, Array]) -> list[Candidates]:              # one an image

It gets the network's outputs as they are, float32, and gives candidates in pixels of its input; what is wanted among
them, suppression, and the way back to the source image are ours. Its NumPy runs on the CPU for every frame, where our
own layouts are part of the graph; there is no int8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from engines import plugins
from engines.decoders import DetectOptions
from engines.decoders.selection import Candidates, pick
from engines.errors import ManifestError, ModelError
from engines.manifest import Manifest
from engines.outputs import DECODERS, OwnDecoder
from engines.types import Array, Detections, Geometry

__all__ = ["Candidates", "DecodeOwn", "Decoding", "open_own"]


class Decoding(Protocol):
    """What a package's class is once it is made."""

    def __call__(self, outputs: Mapping[str, Array], /) -> Sequence[Candidates]: ...


def open_own(manifest: Manifest, told: OwnDecoder, options: DetectOptions) -> DecodeOwn:
    """Make what reads the outputs of a manifest's network. Raises ManifestError."""
    whose = f"decoder {told.name} of {plugins.package_of(DECODERS, told.name)}"
    try:
        made = plugins.load(DECODERS, told.name)
        decode = made(len(manifest.labels), manifest.preprocess.size, **told.options)
    except Exception as error:  # it is another package's code, and may raise anything
        said = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ManifestError(f"{manifest.name}: {whose} cannot be made ({said}); correct its settings") from error
    return DecodeOwn(decode, whose, len(manifest.labels), options)


class DecodeOwn:
    """Select among the candidates that a package's code finds in a network's outputs."""

    def __init__(self, decode: Decoding, whose: str, classes: int, options: DetectOptions) -> None:
        self._decode, self._whose, self._classes, self._options = decode, whose, classes, options

    def __call__(self, outputs: Mapping[str, Array], geometry: Sequence[Geometry], /) -> list[Detections]:
        """Decode each row with its geometry; boxes in pixels of the source images, best first. Raises ModelError."""
        try:
            rows = [self._checked(row) for row in self._decode(outputs)]
        except ModelError:
            raise
        except Exception as error:  # as above
            raise ModelError(f"{self._whose} failed ({type(error).__name__}: {error}); mend that package") from error
        if len(rows) != len(geometry):
            raise ModelError(f"{self._whose} gives candidates of {len(rows)} images, but was given {len(geometry)}")
        return [pick(row, self._classes, self._options, at).found for row, at in zip(rows, geometry, strict=True)]

    def _checked(self, row: Candidates) -> Candidates:
        boxes, scores, classes = np.asarray(row.boxes), np.asarray(row.scores), np.asarray(row.classes)
        if boxes.shape != (len(scores), 4) or scores.ndim != 1 or classes.shape != scores.shape:
            raise ModelError(
                f"{self._whose} gives boxes {boxes.shape}, scores {scores.shape} and classes {classes.shape}, but they "
                "are (K, 4), (K,) and (K,)"
            )
        return Candidates(boxes.astype(np.float32), scores.astype(np.float32), classes.astype(np.int32))

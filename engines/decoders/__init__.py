"""Network outputs to values, one file a family; a file is imported only when a manifest names its decoder."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from engines.errors import ManifestError
from engines.geometry import Size
from engines.model import Postprocess
from engines.types import Detections


@dataclass(frozen=True, slots=True)
class DetectOptions:
    """Which of the found objects are wanted."""

    confidence: float = 0.3  # more than this
    iou: float = 0.45  # of two objects of a class that overlap by more, the better one stays
    classes: tuple[int, ...] | None = None  # None: all
    max_detections: int = 300  # the best of an image


class DetectorFactory(Protocol):
    """Make the decoder of one detector; *settings* are its own words in the manifest. Raises ManifestError."""

    def __call__(
        self, settings: Mapping[str, Any], classes: int, options: DetectOptions, size: Size
    ) -> Postprocess[Detections]: ...


_DETECTORS = {"yolox": "engines.decoders.yolox:open_yolox"}


def open_decoder(
    kind: str, settings: Mapping[str, Any], classes: int, options: DetectOptions, size: Size
) -> Postprocess[Detections]:
    """Open the decoder of a detector with so many *classes* and inputs of *size* (height, width).

    Raises ManifestError for a kind that is not known, or settings that the decoder cannot use.
    """
    if kind not in _DETECTORS:
        close = difflib.get_close_matches(kind, _DETECTORS, n=1)
        hint = f", did you mean {close[0]!r}?" if close else ";"
        raise ManifestError(f"there is no decoder {kind!r}{hint} known are: {', '.join(_DETECTORS)}")
    module, _, function = _DETECTORS[kind].partition(":")
    factory: DetectorFactory = getattr(import_module(module), function)
    return factory(settings, classes, options, size)

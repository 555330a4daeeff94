"""Network outputs to values, one file a family, imported only when named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from engines.errors import ManifestError
from engines.model import Postprocess
from engines.types import Detections
from engines.yamlsource import suggest


@dataclass(frozen=True, slots=True)
class DetectOptions:
    """What to keep of what a detector says."""

    confidence: float = 0.3
    iou: float = 0.45  # above it, the weaker of two boxes of a class goes
    classes: tuple[int, ...] | None = None  # None: all
    max_detections: int = 300


DETECTORS = {"yolox": "engines.decoders.yolox:Yolox"}


def open_detector(
    settings: Mapping[str, Any], classes: int, size: tuple[int, int], options: DetectOptions
) -> Postprocess[Detections]:
    """Open the decoder that *settings*, a manifest's, name as "kind".

    *classes* is the number of labels, *size* the network's input, height and width. Raises ManifestError.
    """
    kind = settings["kind"]
    if kind not in DETECTORS:
        raise ManifestError(f"there is no decoder {kind!r}{suggest(kind, DETECTORS)}; there are {', '.join(DETECTORS)}")
    module, _, factory = DETECTORS[kind].partition(":")
    decoder: Postprocess[Detections] = getattr(import_module(module), factory)(
        classes=classes, size=size, options=options, **{k: v for k, v in settings.items() if k != "kind"}
    )
    return decoder

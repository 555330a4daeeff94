"""Manifest, weights and a runtime make a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engines import decoders
from engines.manifest import Manifest
from engines.model import Model
from engines.preprocess import Preprocess, PreprocessSpec
from engines.runtimes import choose, open_runtime
from engines.runtimes.base import PixelInput, RuntimeOptions
from engines.types import Detections, Image


def open_detector(
    manifest: Manifest, weights: Path, detect: decoders.DetectOptions, prefer: Sequence[str], options: RuntimeOptions
) -> Model[Image, Detections]:
    """Open a detector on the first of the *prefer*red runtimes that is installed; on the best one where none is named.

    Raises RuntimeUnavailable, ModelError when the file is no network that fits the manifest, ManifestError.
    """
    spec = preprocess_spec(manifest)
    told = manifest.decoder.model_dump()
    postprocess = decoders.open_decoder(told["kind"], told, len(manifest.labels), detect, spec.size)
    runtime = open_runtime(choose(prefer), weights, replace(options, pixels=spec.pixels))
    return Model(manifest.name, manifest.labels, Preprocess(spec, runtime), runtime, postprocess)


def preprocess_spec(manifest: Manifest) -> PreprocessSpec:
    """Translate the manifest's words into what `Preprocess` takes."""
    told = manifest.preprocess
    pixels = PixelInput(told.channels, told.mean, told.std)
    return PreprocessSpec(told.size, told.resize, told.align, told.pad, pixels)

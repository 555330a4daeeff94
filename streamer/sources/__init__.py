"""Where frames come from: a URL makes a source, and only the library it needs is imported."""

from __future__ import annotations

import glob
from importlib import import_module
from pathlib import Path
from typing import Any

from streamer import plugins
from streamer.errors import ConfigError
from streamer.events import Observer, ignore
from streamer.sources.address import SCHEMES, Address, SourceOptions, parse_url
from streamer.sources.base import Source

__all__ = ["Source", "SourceOptions", "open_pipeline", "open_source", "parse_url"]

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_DEFAULT = SourceOptions()


def open_source(camera: str, url: str, options: SourceOptions = _DEFAULT, observer: Observer = ignore) -> Source:
    """Make the source that *url* names; it is not opened yet. Raises ConfigError."""
    address = parse_url(url)
    if address.scheme not in SCHEMES:
        source: Source = plugins.load("streamer.sources", address.scheme)(camera, address, options, observer)
        return source
    scheme = SCHEMES[address.scheme]
    factory = scheme.gstreamer if options.backend == "gstreamer" else scheme.factory
    if factory is None:
        raise ConfigError(f"{address.scheme}:// needs no decoder, so GStreamer cannot be its source; leave source out")
    return _make(factory, camera, address, options, observer)


def open_pipeline(
    camera: str, description: str, options: SourceOptions = _DEFAULT, observer: Observer = ignore
) -> Source:
    """Make a source of the user's own GStreamer pipeline, which ends in "appsink name=out"; it is not opened yet.

    Raises ConfigError: GStreamer is missing, or does not understand the pipeline.
    """
    source: Source = _named("streamer.sources.gstreamer:from_pipeline")(camera, description, options, observer)
    return source


def from_path(camera: str, address: Address, options: SourceOptions, observer: Observer) -> Source:
    """Tell images from a video: a folder, a pattern and a picture's name mean images."""
    path = Path(address.target)
    pictures = path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES
    if pictures or (glob.has_magic(address.target) and not path.exists()):
        return _make("streamer.sources.images:from_address", camera, address, options, observer)
    factory = "gstreamer:from_address" if options.backend == "gstreamer" else "av:from_file"
    return _make(f"streamer.sources.{factory}", camera, address, options, observer)


def _make(factory: str, camera: str, address: Address, options: SourceOptions, observer: Observer) -> Source:
    source: Source = _named(factory)(camera, address, options, observer)
    return source


def _named(factory: str) -> Any:
    """Import what "module:name" names."""
    module, _, name = factory.partition(":")
    return getattr(import_module(module), name)

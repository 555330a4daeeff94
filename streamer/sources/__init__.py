"""Where frames come from: a URL makes a source, and only the library it needs is imported."""

from __future__ import annotations

import glob
from importlib import import_module
from pathlib import Path

from streamer.events import Observer, ignore
from streamer.sources.address import SCHEMES, Address, SourceOptions, parse_url
from streamer.sources.base import Source

__all__ = ["Source", "SourceOptions", "open_source", "parse_url"]

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_DEFAULT = SourceOptions()


def open_source(camera: str, url: str, options: SourceOptions = _DEFAULT, observer: Observer = ignore) -> Source:
    """Make the source that *url* names; it is not opened yet. Raises ConfigError."""
    address = parse_url(url)
    return _make(SCHEMES[address.scheme].factory, camera, address, options, observer)


def from_path(camera: str, address: Address, options: SourceOptions, observer: Observer) -> Source:
    """Tell images from a video: a folder, a pattern and a picture's name mean images."""
    path = Path(address.target)
    pictures = path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES
    if pictures or (glob.has_magic(address.target) and not path.exists()):
        return _make("streamer.sources.images:from_address", camera, address, options, observer)
    return _make("streamer.sources.av:from_file", camera, address, options, observer)


def _make(factory: str, camera: str, address: Address, options: SourceOptions, observer: Observer) -> Source:
    module, _, name = factory.partition(":")
    source: Source = getattr(import_module(module), name)(camera, address, options, observer)
    return source

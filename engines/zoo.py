"""Where weights come from: the user's path, $STREAMER_MODELS, the cache, the manifest's URL, in this order.

$STREAMER_MODELS is a folder that holds the files, or the http(s) address of one. What a mirror gives lands in the
cache, so the cache is asked before it: the checksum makes both the same file.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from engines.download import Progress as Progress
from engines.download import Promise, Unreachable, exclusively, fetch, public
from engines.errors import WeightsError
from engines.manifest import Manifest, WeightsFile
from engines.outputs import FusionDecoder

log = logging.getLogger(__name__)


def ignore(done: int, total: int | None) -> None:
    """Show nobody how far a download is."""


def locate(
    manifest: Manifest,
    *,
    path: str | Path | None = None,
    progress: Progress = ignore,
    environ: Mapping[str, str] = os.environ,
) -> Path:
    """Find the weights of a model, fetching them into the cache when they are nowhere else.

    *path* is the user's own file and is taken as it is; everything else must have the manifest's size and checksum.
    *progress* hears how many bytes are here, and of how many. Raises WeightsError.
    """
    if path is not None:
        return _given(Path(path).expanduser())
    if isinstance(manifest.decoder, FusionDecoder):
        streams = " or ".join(stream.model for stream in manifest.decoder.streams)
        raise WeightsError(f"{manifest.name} is but other models together and has no weights: name {streams}")
    weights = manifest.weights.file
    for folder in (manifest.folder, _folder(environ)):
        if folder is not None and (folder / weights.file).is_file():
            return _checked(folder / weights.file, weights)
    return _cached(weights, environ, progress)


def find_local(manifest: Manifest, *, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Find the weights on this machine; None where they are absent or not the promised bytes."""
    weights = manifest.weights.file
    for folder in (manifest.folder, _folder(environ), cache_dir(environ)):
        path = None if folder is None else folder / weights.file
        if path is not None and path.is_file() and _promise(weights).broken_by(path) is None:
            return path
    return None


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Tell where downloaded weights are kept."""
    base = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "streamer" / "models"


def _given(path: Path) -> Path:
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}: correct the path, or leave it out to use the model's own")
    return path


def _folder(environ: Mapping[str, str]) -> Path | None:
    """The folder that $STREAMER_MODELS names, if that is what it names."""
    value = environ.get("STREAMER_MODELS", "")
    if not value or _is_url(value):
        return None
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise WeightsError(f"STREAMER_MODELS is {value}, which is no folder and no http(s) URL: correct or unset it")
    return folder


def _checked(path: Path, weights: WeightsFile) -> Path:
    if fault := _promise(weights).broken_by(path):
        raise WeightsError(f"{path} {fault}: replace it, or remove it to have it fetched")
    return path


def _cached(weights: WeightsFile, environ: Mapping[str, str], progress: Progress) -> Path:
    target = cache_dir(environ) / Path(weights.file).name
    if _good(target, weights):
        return target
    urls = _urls(weights, environ)
    if not urls:
        page = f", which can be had from {weights.page}" if weights.page else ""
        raise WeightsError(_nowhere(target, [f"the manifest names no URL for {weights.file}{page}"]))
    with exclusively(target):
        if not _good(target, weights):  # another process may have fetched it while this one waited
            _fetch_from_any(urls, target, weights, progress)
    return target


def _good(target: Path, weights: WeightsFile) -> bool:
    if not target.is_file():
        return False
    fault = _promise(weights).broken_by(target)
    if fault:
        log.warning("%s %s: fetching it anew", target, fault)
    return fault is None


def _urls(weights: WeightsFile, environ: Mapping[str, str]) -> list[str]:
    mirror = environ.get("STREAMER_MODELS", "")
    mirrored = [f"{mirror.rstrip('/')}/{Path(weights.file).name}"] if _is_url(mirror) else []
    return mirrored + ([weights.url] if weights.url else [])


def _fetch_from_any(urls: list[str], target: Path, weights: WeightsFile, progress: Progress) -> None:
    """Try one URL after the other; one that gives wrong bytes ends it, for that must not pass unseen."""
    faults = []
    for url in urls:
        log.info("fetching %s", public(url))
        try:
            return fetch(url, target, _promise(weights), progress)
        except Unreachable as error:
            faults.append(str(error))
    raise Unreachable(_nowhere(target, faults))


def _nowhere(target: Path, faults: list[str]) -> str:
    state = "damaged in the cache" if target.exists() else "not on this machine"
    return (
        f"{target.name} is {state} and {', '.join(faults)}: set STREAMER_MODELS to a folder or mirror"
        f" that has it, or put it to {target} yourself"
    )


def _promise(weights: WeightsFile) -> Promise:
    return Promise(weights.sha256, weights.size, weights.also)


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))

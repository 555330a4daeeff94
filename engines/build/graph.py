"""Served graphs: made of a model's weights by a recipe, once, and kept in the cache."""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import onnx

from engines.build.base import Material, Operators, Recipe, Tell, silent
from engines.build.files import alone, on_disk, write_whole
from engines.build.graphs import Origin, graphs_dir, save, whole
from engines.errors import BuildError, ModelError, RuntimeUnavailable
from engines.feeds import feed_of
from engines.manifest import Manifest
from engines.outputs import UNCOUNTED
from engines.runtimes.checks import check_file
from engines.sampling import spread
from engines.types import Image, PixelInput

_FORMAT = 3  # of the served graph: raise it, and every graph and engine is made anew
_SHOWN = 16  # hex digits of a digest in a file's name


def material(manifest: Manifest, weights: Path, folder: Path | None = None, tell: Tell = silent) -> Material:
    """Put a model and its weights on the bench; graphs go into *folder*, by default the cache.

    Raises ModelError when the weights cannot be read.
    """
    check_file(weights)
    bench = _Bench(manifest, weights, folder or graphs_dir(), tell)
    return Material(manifest, weights, bench.digest, bench.graph)


class _Bench:
    """Where the graphs of one model are made."""

    def __init__(self, manifest: Manifest, weights: Path, folder: Path, tell: Tell) -> None:
        self._manifest, self._weights, self._folder, self._tell = manifest, weights, folder, tell
        self._source = _source_digest(manifest, weights)

    def digest(self, recipe: Recipe) -> str:
        return _digest(self._source, recipe)

    def graph(self, recipe: Recipe) -> Path:
        target = self._folder / f"{self._manifest.name}-{self.digest(recipe)[:_SHOWN]}.onnx"
        if whole(target):
            return target
        if recipe.precision == "int8":
            _refuse_int8(self._manifest)
            raise BuildError(
                f"{self._manifest.name} is not calibrated for int8: run `streamer models build {self._manifest.name} "
                "--precision int8 --calibrate VIDEO` with a video of your own"
            )
        with alone(target):
            if not whole(target):  # another process may have made it while this one waited
                self._make(target, recipe)
        return target

    def _make(self, target: Path, recipe: Recipe) -> None:
        from engines.build.fold import fold  # spox: needed only where a graph is made

        origin = Origin(self._manifest.name, str(self._weights.resolve()), recipe, self.digest(recipe))
        body = load_body(self._manifest, self._weights, self._folder, self._tell, recipe.operators)
        save(fold(in_precision(body, recipe), self._manifest, recipe), target, origin)


def calibrated(bench: Material, images: Iterable[Image], tell: Tell, folder: Path | None = None) -> Recipe:
    """Make the int8 graphs of a model with *images* (H, W, 3) as the network sees its like; returns their recipe.

    The latest calibration of a model is the one that `calibration_of` finds.
    """
    from engines.build.calibrate import FRAMES, calibration_digest, detection_bound, place
    from engines.build.fold import fold
    from engines.build.quantise import quantise

    manifest, folder = bench.manifest, folder or graphs_dir()
    _refuse_int8(manifest)
    latest = _calibration_file(bench, folder)
    with alone(latest):  # held all the while: where nothing can be written, that is found out first
        placed = list(place(manifest, spread(images, FRAMES)))
        digest = calibration_digest(placed)
        body = load_body(manifest, bench.weights, folder, tell)
        body = quantise(body, placed, pixel_input(manifest), tell, detection_bound(manifest))
        for layout in ("raw", "candidates"):
            recipe = Recipe("int8", layout, digest)
            _keep(fold(body, manifest, recipe), bench, recipe, folder)
        with on_disk(latest):
            write_whole(latest, f"{digest}\n".encode())
    return recipe


def _refuse_int8(manifest: Manifest) -> None:
    if manifest.decoder.kind == "rcnn" or manifest.decoder.kind in UNCOUNTED:
        raise BuildError(
            f"{manifest.name} counts pixels within the network, so it cannot be quantised as a whole: take bf16 or fp16"
        )
    if feed_of(manifest).form != "image":
        raise BuildError(f"{manifest.name} looks at more than one image, and calibrating takes only those: take fp16")


def _keep(graph: onnx.ModelProto, bench: Material, recipe: Recipe, folder: Path) -> None:
    target = folder / f"{bench.manifest.name}-{bench.digest(recipe)[:_SHOWN]}.onnx"
    with alone(target):
        save(graph, target, Origin(bench.manifest.name, str(bench.weights.resolve()), recipe, bench.digest(recipe)))


def calibration_of(bench: Material, folder: Path | None = None) -> str | None:
    """Find the digest of a model's latest calibration; None where it never was."""
    path = _calibration_file(bench, folder or graphs_dir())
    return path.read_text(encoding="ascii").strip() if path.is_file() else None


def _calibration_file(bench: Material, folder: Path) -> Path:
    return folder / f"{bench.manifest.name}-{bench.digest(Recipe('int8'))[:_SHOWN]}.calibration"


def load_body(
    manifest: Manifest, weights: Path, folder: Path, tell: Tell, operators: Operators = "portable"
) -> onnx.ModelProto:
    """Read an ONNX file, or export a checkpoint, for batches of any size; once, as every recipe starts with it.

    Raises ModelError, BuildError, WeightsError, and RuntimeUnavailable where a checkpoint cannot be read at all.
    """
    source = _source_digest(manifest, weights)
    recipe = Recipe(operators=operators)
    target = folder / f"{manifest.name}-{source[:_SHOWN]}.{_BODIES[operators]}.onnx"
    with alone(target):
        if not whole(target):
            origin = Origin(manifest.name, str(weights.resolve()), recipe, _digest(source, recipe))
            save(_body(manifest, weights, tell, operators), target, origin)
    return read_onnx(target)


_BODIES: dict[Operators, str] = {"portable": "body", "native": "native"}  # what their files are called


def _body(manifest: Manifest, weights: Path, tell: Tell, operators: Operators) -> onnx.ModelProto:
    if weights.suffix != ".onnx":
        try:
            from engines.build.export import export_body  # torch
        except ImportError as error:
            raise RuntimeUnavailable(
                f"{weights} is a checkpoint, which cannot be read here ({error}): pip install 'streamer[build]', or "
                "give an .onnx file"
            ) from error
        return export_body(manifest, weights, tell, operators)
    from engines.build.stored import widened

    body = widened(read_onnx(weights))
    if feed_of(manifest).form != "image":
        return body
    from engines.build.rebatch import for_any_batch

    return for_any_batch(body, manifest.name)


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read an ONNX file, with the weights that may lie beside it. Raises ModelError."""
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and onnx's errors have no base of their own
        reason = str(error).partition("\n")[0].strip(" .")
        raise ModelError(f"{path} is no ONNX network ({reason}): download or export it again") from error
    return model


def in_precision(body: onnx.ModelProto, recipe: Recipe) -> onnx.ModelProto:
    """Give a network the types of the recipe, its inputs and outputs excepted."""
    if recipe.precision == "fp32":
        return body
    from engines.build.precision import typed

    assert recipe.precision != "int8", "made by calibrated()"  # noqa: S101 - for the type checker
    return typed(body, recipe.precision)


def pixel_input(manifest: Manifest) -> PixelInput:
    told = manifest.preprocess
    return PixelInput(told.channels, told.mean, told.std)


def _digest(source: str, recipe: Recipe) -> str:
    told = [source, recipe.precision, recipe.layout, recipe.calibration, recipe.operators]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _source_digest(manifest: Manifest, weights: Path) -> str:
    """Digest what a graph is made of: the weights' bytes, and all of the manifest that shapes it."""
    told = manifest.model_dump(mode="json", include={"architecture", "variant", "preprocess", "decoder", "clip"})
    facts = [_FORMAT, len(manifest.labels), told, weights.suffix == ".onnx"]
    data = [_sha256(file) for file in (weights, *_beside(weights))]
    return hashlib.sha256(json.dumps([data, *facts], sort_keys=True).encode()).hexdigest()


def _beside(weights: Path) -> list[Path]:
    """List the files that an ONNX network keeps its weights in, by the names that exporters give them."""
    return sorted(weights.parent.glob(f"{glob.escape(weights.stem)}*data"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

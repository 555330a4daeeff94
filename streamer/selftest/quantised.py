"""int8 needs a calibration, which is made of footage: of the films, where a model never had one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from engines import zoo
from engines.build.base import Tell
from engines.build.graph import calibrated, calibration_of, material
from engines.load import GRAPHS
from engines.manifest import Manifest
from engines.outputs import UNCOUNTED
from engines.runtimes.base import Precision
from engines.types import Image
from streamer import build, config
from streamer.events import ignore
from streamer.selftest.accuracy import Course
from streamer.selftest.films import Footage
from streamer.selftest.lineup import Lineup
from streamer.selftest.variants import Variant, variants

_APART = 12  # frames from one that is calibrated on to the next


def quantised(course: Course, variant: Variant, tell: Tell) -> Course:
    """Keep for int8 those models that can be quantised, each calibrated; for any other precision all of them.

    Raises EngineError and StreamerError.
    """
    if variant.precision != "int8":
        return course
    lineup = quantisable(course.lineup)
    for manifest in {each.name: each for figure in lineup.figures for each in lineup.networks(figure)}.values():
        bench = material(manifest, zoo.locate(manifest), tell=tell)
        if calibration_of(bench) is None:
            tell(f"calibrating {manifest.name} on the films")
            calibrated(bench, _pictures(course.footage), tell)
    return replace(course, lineup=lineup)


def quantisable(lineup: Lineup) -> Lineup:
    """Keep the figures that depend on such networks alone."""
    return lineup.only(figure for figure in lineup.figures if all(map(_whole, lineup.networks(figure))))


def was_calibrated(lineup: Lineup) -> bool:
    """Tell whether every model that can be in int8 has been calibrated here."""
    networks = [each for figure in quantisable(lineup).figures for each in lineup.networks(figure)]
    return bool(networks) and all(map(_calibrated, networks))


def with_int8(runtimes: Sequence[str], precisions: Sequence[Precision]) -> list[Variant]:
    """List the variants that are asked for; int8 too where nobody names a precision and all is calibrated.

    Raises InputError.
    """
    found = variants(runtimes, precisions)
    if precisions or not was_calibrated(Lineup()):
        return found
    return [*found, *variants([each for each in dict.fromkeys(v.runtime for v in found) if _computes(each)], ["int8"])]


def _computes(runtime: str) -> bool:
    return "int8" in GRAPHS[runtime]


def _calibrated(manifest: Manifest) -> bool:
    weights = zoo.find_local(manifest)
    return weights is not None and calibration_of(material(manifest, weights)) is not None


def _whole(manifest: Manifest) -> bool:
    kind = manifest.decoder.kind
    return manifest.task == "detect" and kind != "rcnn" and kind not in UNCOUNTED


def _pictures(footage: Sequence[Footage]) -> Iterator[Image]:
    for each in footage:
        camera = config.Camera(url=str(each.path))
        with build.make_source(each.film.name, camera, ignore).open() as frames:
            for index, raw in enumerate(frames):
                if index % _APART == 0:
                    yield raw.to_rgb()

"""Manifest, weights and a runtime make a model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from engines.build.base import GraphPrecision, Material, Order, Profile, Recipe, Tell, silent
from engines.build.cache import EngineCache, Entry
from engines.build.graph import calibration_of, material
from engines.build.obtain import obtain, stale
from engines.build.rebuild import Rebuild
from engines.classical import Method, open_classical
from engines.decoders import DetectOptions
from engines.decoders.candidates import DecodeCandidates
from engines.decoders.instances import DecodeInstances
from engines.decoders.own import open_own
from engines.errors import BuildError, EngineError, RuntimeUnavailable, WeightsError
from engines.manifest import Manifest, find_streams
from engines.model import Model, Postprocess
from engines.motion import FlowModel, flow_model
from engines.outputs import UNCOUNTED, FusionDecoder, OwnDecoder
from engines.preprocess import Preprocess, PreprocessSpec
from engines.recognition import Fused, OneStream, clip_spec
from engines.runtimes import open_runtime, require, usable
from engines.runtimes.base import Precision, Runtime, RuntimeOptions
from engines.runtimes.handover import Handover, Opening, same_candidates, same_values
from engines.types import Detections, Image

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What happens when an engine is not in the cache: it is built, and *tell* hears of it.

    With an executor, one that was here and no longer fits (a new driver, another version) is built anew beside what
    serves, in a process that steps back; without one, whoever wants it waits.
    """

    tell: Tell = silent
    beside: Executor | None = None
    cache: EngineCache = field(default_factory=EngineCache)


def open_detector(
    manifest: Manifest,
    weights: Path,
    detect: DetectOptions,
    prefer: Sequence[str],
    options: RuntimeOptions,
    upkeep: Upkeep | None = None,
) -> Model[Image, Detections]:
    """Open a detector on the first of the *prefer*red runtimes that works here; on the best one where none is named.

    Raises RuntimeUnavailable, BuildError, ManifestError, and ModelError when the file is no network that fits the
    manifest.
    """
    upkeep = upkeep or Upkeep()
    runtime = open_first(material(manifest, weights, tell=upkeep.tell), prefer, options, upkeep)
    return as_detector(manifest, runtime, detect)


def as_detector(manifest: Manifest, runtime: Runtime, detect: DetectOptions) -> Model[Image, Detections]:
    """Put what a detector needs around a runtime that gives candidates."""
    if manifest.decoder.kind in _FINISHED:
        detect = replace(detect, suppression=replace(detect.suppression, kind="none"))
    decode = _decoder(manifest, detect)
    return Model(manifest.name, manifest.labels, Preprocess(preprocess_spec(manifest), runtime), runtime, decode)


def _decoder(manifest: Manifest, detect: DetectOptions) -> Postprocess[Detections]:
    if isinstance(manifest.decoder, OwnDecoder):
        return open_own(manifest, manifest.decoder, detect)
    if manifest.task == "segment":
        return DecodeInstances(len(manifest.labels), detect, manifest.preprocess.size)
    return DecodeCandidates(len(manifest.labels), detect)


_FINISHED = {"yolov10", *UNCOUNTED}  # decoders of networks that find everything once


def open_flow(
    manifest: Manifest | Method,
    weights: Path | None,
    prefer: Sequence[str],
    options: RuntimeOptions,
    upkeep: Upkeep | None = None,
) -> FlowModel:
    """Open a network for optical flow, or a classical method by its name, which needs no weights.

    Raises what `open_detector` raises.
    """
    if isinstance(manifest, str):
        return open_classical(manifest, options.max_batch)
    assert weights is not None, "a network has some"  # noqa: S101 - for the type checker
    upkeep = upkeep or Upkeep()
    runtime = open_first(material(manifest, weights, tell=upkeep.tell), prefer, options, upkeep)
    return flow_model(manifest.name, preprocess_spec(manifest), runtime)


def open_recogniser(
    manifest: Manifest,
    find_weights: Callable[[Manifest], Path],
    prefer: Sequence[str],
    options: RuntimeOptions,
    upkeep: Upkeep | None = None,
) -> OneStream | Fused:
    """Open a model that scores clips; one of several streams opens them all. Raises what `open_detector` raises."""
    upkeep = upkeep or Upkeep()
    with ExitStack() as stack:
        streams = []
        for part in find_streams(manifest):
            runtime = open_first(material(part, find_weights(part), tell=upkeep.tell), prefer, options, upkeep)
            stack.callback(runtime.close)
            streams.append(OneStream(part, runtime))
        stack.pop_all()  # all are open: they are the caller's now
    if not isinstance(manifest.decoder, FusionDecoder):
        return streams[0]
    return Fused(manifest.name, streams, [each.weight for each in manifest.decoder.streams], clip_spec(manifest))


def open_first(bench: Material, prefer: Sequence[str], options: RuntimeOptions, upkeep: Upkeep) -> Runtime:
    """Open a model's candidates on the first runtime that works.

    Where none does, raises the fault of the last that is *prefer*red; or, where nobody prefers any, that of the best
    one that is here: what those after it lack is not what is wrong.
    """
    faults: list[EngineError] = []
    for name in usable(prefer):
        try:
            runtime = open_on(name, bench, options, upkeep)
        except (RuntimeUnavailable, BuildError, WeightsError) as error:  # PyTorch may want weights of its own
            faults.append(error)
            continue
        for fault in faults:
            # One that nobody asked for and that is not here is passed over in silence: every machine lacks most.
            said = prefer or isinstance(fault, BuildError)
            log.log(logging.WARNING if said else logging.DEBUG, "%s; going on with %s", fault, name)
        return runtime
    told = faults[-1] if prefer else next((fault for fault in faults if isinstance(fault, BuildError)), faults[-1])
    for fault in faults:
        if prefer and fault is not told:
            log.warning("%s", fault)
    raise told


def working(options: RuntimeOptions) -> list[str]:
    """List the runtimes that are installed and whose device is here, the best first. Raises RuntimeUnavailable."""
    names = usable()
    found = [name for name in names if _works(name, options)]
    return found or names[-1:]


def _works(name: str, options: RuntimeOptions) -> bool:
    try:
        require(name, options)
    except RuntimeUnavailable as error:
        log.debug("%s", error)
        return False
    return True


def open_on(name: str, bench: Material, options: RuntimeOptions, upkeep: Upkeep) -> Runtime:
    """Open a model's candidates on one runtime. Raises RuntimeUnavailable, BuildError, ModelError."""
    require(name, options)
    options = within(options, bench.manifest)
    order = order_for(name, bench, options)
    if upkeep.beside is not None and (old := stale(bench, name, order, upkeep.cache)) is not None:
        serving = _stand_in(old, bench, options)
        if serving is not None:
            upkeep.tell(f"a new engine of {bench.manifest.name} is being built; meanwhile {serving.description} serves")
            rebuild = Rebuild(bench, name, order, upkeep.cache)
            coming = Opening(rebuild, lambda path: open_runtime(name, path, options), upkeep.beside)
            ours = not isinstance(bench.manifest.decoder, OwnDecoder)
            same = same_candidates if ours and bench.manifest.task in ("detect", "segment") else same_values
            return Handover(serving, coming, same, upkeep.tell)
    return open_runtime(name, obtain(bench, name, order, upkeep.cache, upkeep.tell), options)


def _stand_in(old: Entry, bench: Material, options: RuntimeOptions) -> Runtime | None:
    """Open what can serve while an engine is built: the one from before if it still works, else ONNX Runtime.

    None for an engine of other weights, whose answers would be others, and where neither opens.
    """
    had = old.sidecar.label
    if had.graph != bench.digest(had.order.recipe):
        return None
    try:
        return open_runtime(had.runtime, old.path, options)
    except EngineError as error:
        log.debug("%s; is there ONNX Runtime?", error)
    try:
        graph = bench.graph(Recipe(operators=had.order.recipe.operators))
        return open_runtime("onnxruntime", graph, replace(options, precision="fp32"))
    except EngineError as error:
        log.debug("%s; so the engine is waited for", error)
        return None


def order_for(name: str, bench: Material, options: RuntimeOptions) -> Order:
    """Say what to build for a runtime: in which types the graph is, and what the runtime decides itself."""
    if bench.manifest.decoder.kind in UNCOUNTED and name not in ("openvino", "onnxruntime"):
        raise RuntimeUnavailable(
            f"{name} cannot run {bench.manifest.name}, which gives a row an object: take openvino or onnxruntime"
        )
    options, graphs = within(options, bench.manifest), GRAPHS[name]
    if options.precision not in graphs:
        raise RuntimeUnavailable(f"{name} does not compute in {options.precision}: take one of {', '.join(graphs)}")
    profile = Profile(1, options.max_batch, options.max_batch)
    return Order(_recipe(name, bench, options.precision), profile, options.precision, options.goal, options.threads)


def _recipe(name: str, bench: Material, precision: Precision) -> Recipe:
    graph = GRAPHS[name][precision]
    if not bench.manifest.counts_pixels:
        return Recipe(graph, calibration=calibration_of(bench) if graph == "int8" else None)
    native = bench.manifest.decoder.kind == "rcnn" and name in _NATIVE
    # A hint would have OpenVINO count in halves as well: the graph says what may be one.
    return Recipe(_own_types(precision) if name == "openvino" else graph, operators="native" if native else "portable")


def _own_types(precision: Precision) -> GraphPrecision:
    from engines.runtimes.openvino import fast  # as heavy as the runtime itself

    return precision if precision != "auto" else "bf16" if fast("bf16") else "fp32"


_NATIVE = frozenset({"openvino", "onnxruntime"})  # they have operators that TensorRT lacks


def within(options: RuntimeOptions, manifest: Manifest) -> RuntimeOptions:
    """Ask for no larger batches than the model's memory allows, and for fp32 where boxes are computed inside."""
    unsafe = manifest.decoder.kind in UNCOUNTED and options.precision == "auto"
    rows = min(options.max_batch, manifest.batch or options.max_batch)
    return replace(options, max_batch=rows, precision="fp32" if unsafe else options.precision)


_TYPED: dict[Precision, GraphPrecision] = {
    "auto": "fp16",
    "fp32": "fp32",
    "fp16": "fp16",
    "bf16": "bf16",
    "int8": "int8",
}
# In which types a runtime's graph is, for each precision that it can be asked for.
GRAPHS: dict[str, dict[Precision, GraphPrecision]] = {
    "tensorrt": _TYPED,
    "tensorrt_rtx": _TYPED,
    # A hint decides what it computes in: the graph stays fp32, but where it is quantised.
    "openvino": {"auto": "fp32", "fp32": "fp32", "bf16": "fp32", "fp16": "fp32", "int8": "int8"},
    "onnxruntime": {"auto": "fp32", "fp32": "fp32", "fp16": "fp16", "int8": "int8"},
    "pytorch": {"auto": "fp32", "fp32": "fp32", "fp16": "fp16", "bf16": "bf16"},
}


HEEDS_GOALS = frozenset({"openvino"})  # the others do the same for throughput and for latency


def preprocess_spec(manifest: Manifest) -> PreprocessSpec:
    """Translate the manifest's words into what `Preprocess` takes."""
    told = manifest.preprocess
    return PreprocessSpec(told.size, told.resize, told.align, told.pad)

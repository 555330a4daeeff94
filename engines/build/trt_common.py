"""From a served graph to a TensorRT engine: one path for 10.3 to 11.4 and for RTX, whose modules have the same names.

Networks are strongly typed, so every precision is in the graph; no builder flag makes one, and no plugin is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from engines.build.base import Built, Order, Profile, Tell
from engines.errors import BuildError
from engines.runtimes.checks import shown
from engines.runtimes.trt_log import listening, logger

if TYPE_CHECKING:
    import tensorrt_rtx  # for names only: those of the full TensorRT are the same

Configure = Callable[[Any], None]  # given the builder's config

_NOTHING_RUNS_IT = ("has no runners that implement it", "could not find any implementation", "unsupported operator")
_NO_ROOM = ("out of memory", "outofmemory", "requested amount of gpu memory", "insufficient memory")


def build_engine(trt: Any, graph: Path, order: Order, configure: Configure, tell: Tell) -> Built:
    """Build the engine of an ONNX file. Raises BuildError with the first thing that was wrong."""
    progress = Progress(tell)
    monitor = _monitor(trt, progress)  # must live as long as the build
    with _said(trt, graph):
        builder: tensorrt_rtx.Builder = trt.Builder(logger(trt))
        network: tensorrt_rtx.INetworkDefinition = builder.create_network(
            1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)  # its value differs between 10 and 11
        )
        _parse(trt, graph, network)
        config: tensorrt_rtx.IBuilderConfig = builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)  # rounds what fp32 promises to keep; who wants speed takes fp16
        config.progress_monitor = monitor
        _add_profile(graph, builder, network, config, order.profile, tell)
        configure(config)
        engine: tensorrt_rtx.IHostMemory | None = builder.build_serialized_network(network, config)
        progress.raise_what_stopped_it()
        if engine is None:
            raise _Silence
        return Built(bytes(memoryview(engine)), {"layers": network.num_layers})


class Progress:
    """How far a build is. It ends at its next step when *tell* raises, or at Ctrl-C."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._phases: dict[str, tuple[int, int]] = {}  # steps done, of how many; the outermost first
        self._told = 0
        self._stopped_by: BaseException | None = None

    def begin(self, phase: str, steps: int) -> None:
        self._phases[phase] = (0, steps)

    def step(self, phase: str, done: int) -> bool:
        """Tell whenever another tenth is done; False ends the build."""
        try:
            self._phases[phase] = (done, self._phases[phase][1])
            tenths = int(10 * self._done())
            if tenths > self._told:  # a phase that begins late would turn it back
                self._told = tenths
                self._tell(f"{tenths * 10} % built: {phase.lower()}")
        except BaseException as error:  # noqa: BLE001 - must not cross TensorRT; raised when the build has ended
            self._stopped_by = self._stopped_by or error
        return self._stopped_by is None

    def end(self, phase: str) -> None:
        self._phases.pop(phase, None)

    def raise_what_stopped_it(self) -> None:
        if self._stopped_by is not None:
            raise self._stopped_by

    def _done(self) -> float:
        """Each phase is a step of the one around it."""
        total, share = 0.0, 1.0
        for done, steps in list(self._phases.values()):  # a copy: TensorRT has several threads
            total, share = total + share * done / steps, share / steps
        return total


def _monitor(trt: Any, progress: Progress) -> Any:
    """Make what TensorRT tells its progress."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the module is an argument, so its classes are Any
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, _parent_phase: str | None, num_steps: int) -> None:
            progress.begin(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return progress.step(phase_name, step + 1)

        def phase_finish(self, phase_name: str) -> None:
            progress.end(phase_name)

    return Monitor()


class _Silence(Exception):  # noqa: N818 - never leaves this module
    """TensorRT returned nothing; why is in its log."""


@contextmanager
def _said(trt: Any, graph: Path) -> Iterator[None]:
    """Make a BuildError of the first error in TensorRT's log, as the later ones follow from it."""
    errors: list[str] = []
    try:
        with listening(trt) as errors:
            yield
    except (_Silence, TypeError) as error:  # TypeError: a factory of its module got no object
        raise BuildError(_sentence(trt, graph, errors[0] if errors else "it does not say why")) from error


def _sentence(trt: Any, graph: Path, reason: str) -> str:
    name = trt.__name__
    lowered = reason.lower()
    if any(words in lowered for words in _NO_ROOM):
        return (
            f"{name} has not enough GPU memory to build {graph} ({reason}): close other programs that use the GPU, or "
            "build for a smaller batch"
        )
    if any(words in lowered for words in _NOTHING_RUNS_IT):
        return (
            f"{name} has nothing that runs {_culprit(graph, reason)} of {graph}: export the network without it, or "
            "take another runtime"
        )
    return f"{name} cannot build {graph} ({reason}): take another precision or batch, or another runtime"


def _culprit(graph: Path, reason: str) -> str:
    """Name the operator of the node that an error is about."""
    nodes = onnx.load(graph, load_external_data=False).graph.node
    named = {node.name or f"node_of_{node.output[0]}": node.op_type for node in nodes}
    for name in sorted(named, key=len, reverse=True):
        if name in reason:
            return f"{named[name]} (node {name!r})"
    return reason


def _parse(trt: Any, graph: Path, network: tensorrt_rtx.INetworkDefinition) -> None:
    parser: tensorrt_rtx.OnnxParser = trt.OnnxParser(network, logger(trt))
    if parser.parse_from_file(str(graph)):
        return
    if not parser.num_errors:
        raise _Silence
    error: tensorrt_rtx.ParserError = parser.get_error(0)
    what = f"{error.node_operator()} (node {error.node_name()!r})" if error.node_operator() else "it"
    raise BuildError(
        f"{trt.__name__} cannot take {what} of {graph} ({error.desc()}): export the network without it, or take "
        "another runtime"
    )


def _add_profile(
    graph: Path,
    builder: tensorrt_rtx.Builder,
    network: tensorrt_rtx.INetworkDefinition,
    config: tensorrt_rtx.IBuilderConfig,
    profile: Profile,
    tell: Tell,
) -> None:
    """Say how many rows a batch may have. Raises BuildError where the graph has other ideas."""
    dynamic: tensorrt_rtx.IOptimizationProfile = builder.create_optimization_profile()
    shapes = {}
    for i in range(network.num_inputs):
        tensor: tensorrt_rtx.ITensor = network.get_input(i)
        shapes[tensor.name] = shape = tuple(tensor.shape)
        _check_batch(graph, tensor.name, shape, profile)
        if shape[0] not in (-1, profile.most):
            tell(f"the network takes batches of {shape[0]} only, so larger ones go through it in parts")
        if shape[0] == -1:
            dynamic.set_shape(
                tensor.name, *((rows, *shape[1:]) for rows in (profile.least, profile.best, profile.most))
            )
    if any(shape[0] == -1 for shape in shapes.values()) and config.add_optimization_profile(dynamic) < 0:
        raise _Silence


def _check_batch(graph: Path, name: str, shape: tuple[int, ...], profile: Profile) -> None:
    said = shown([None if n == -1 else n for n in shape])
    if not shape or -1 in shape[1:]:
        raise BuildError(f"{graph}: input {name!r} {said} is open besides its batch: export it for one size")
    if shape[0] != -1 and not profile.least <= shape[0] <= profile.most:
        raise BuildError(
            f"{graph}: input {name!r} {said} is for batches of {shape[0]} only, not of {profile}: build for batch "
            f"{shape[0]}, or export it with a batch of any size"
        )

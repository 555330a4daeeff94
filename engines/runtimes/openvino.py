"""OpenVINO, on CPUs: one request a row, as many at once as there are cores."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from engines.build.sidecar import Sidecar
from engines.build.sidecar import read as read_sidecar
from engines.errors import ModelError, RuntimeUnavailable
from engines.runtimes.base import LANES, Precision, RuntimeOptions
from engines.runtimes.checks import REOPEN, RERUN, check_batch, check_feeds, check_file, ragged, translated
from engines.runtimes.cores import cores
from engines.runtimes.untracked import ov
from engines.types import Array, TensorSpec

Config = dict[str, Any]  # OpenVINO's own names

_HINTS: dict[Precision, tuple[str, str]] = {  # ours -> OpenVINO's name of the type, and of what the CPU must be able to
    "fp32": ("f32", "FP32"),
    "bf16": ("bf16", "BF16"),
    "fp16": ("f16", "FP16"),
}
_SHOWN = {hint: precision for precision, (hint, _) in _HINTS.items()}
_TYPED = frozenset({"bf16", "fp16"})  # graphs of ours that say of every tensor what it is in
_REBUILD = "remove it, and it is built again, or build it with `streamer models build`"


def open_openvino(path: Path, options: RuntimeOptions) -> OpenVinoRuntime:
    """Open an ONNX file, OpenVINO's own .xml, or an .engine. Raises RuntimeUnavailable and ModelError."""
    check_file(path)
    engine = path.suffix == ".engine"
    with translated(f"openvino cannot open {path}", _REBUILD if engine else REOPEN, _reason):
        config = configure(options)
        network = _opened_engine(path, config, options) if engine else _Graph(path, config, options)
        return OpenVinoRuntime(path, network, options.max_batch)


def import_engine(path: Path, data: bytes, config: Config, max_batch: int) -> OpenVinoRuntime:
    """Open an engine's bytes, which may not be at *path* yet. Raises ModelError."""
    with translated(f"openvino cannot open {path}", _REBUILD, _reason):
        return OpenVinoRuntime(path, _Engine(data, config), max_batch)


def configure(options: RuntimeOptions) -> Config:
    """Put options into OpenVINO's words. Raises RuntimeUnavailable for a precision that this CPU does not have."""
    threads = options.threads or cores()
    streams = min(threads, options.max_batch) if options.goal == "throughput" else 1
    config = in_streams(streams, threads)
    config["ENABLE_CPU_PINNING"] = False  # two networks, or two processes, would be pinned to the same cores
    if options.precision in _HINTS:
        config["INFERENCE_PRECISION_HINT"], _ = _HINTS[options.precision]
        if not fast(options.precision):
            raise RuntimeUnavailable(
                f"openvino has no fast {options.precision} on this CPU: take precision auto, which picks what it has"
            )
    return config


def fast(precision: Precision) -> bool:
    """Tell whether this CPU computes in a precision faster than in fp32."""
    return _HINTS[precision][1] in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def in_own_types(config: Config, precision: str | None) -> Config:
    """Let a graph that is typed in halves compute as it says: a hint would round what is float32 in it for a reason."""
    kept = {name: value for name, value in config.items() if name != "INFERENCE_PRECISION_HINT"}
    return kept | {"EXECUTION_MODE_HINT": "ACCURACY"} if precision in _TYPED else config


def in_streams(streams: int, threads: int) -> Config:
    """Share *threads* among *streams*, each of which runs one request at a time."""
    return {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": threads}


def version() -> str:
    return str(ov.__version__).partition("-")[0]


def device() -> str:
    """Name the CPU and the types it is fast in, for virtual machines give many CPUs one name."""
    core = ov.Core()
    fast = sorted({"BF16", "FP16", "INT8"} & set(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")))
    return f"{core.get_property('CPU', 'FULL_DEVICE_NAME')} ({', '.join(fast)})"


class _Network(Protocol):
    """What can be compiled, or is: for a batch of one."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    int8: bool
    typed: str | None  # the halves that a graph says itself that it computes in

    def compiled(self, shapes: Sequence[tuple[int, ...]]) -> ov.CompiledModel: ...


class _Graph:
    """A graph, to be compiled for inputs of any shape that it takes."""

    def __init__(self, path: Path, config: Config, options: RuntimeOptions) -> None:
        self._path, self._core = path, ov.Core()
        self._model = _read(path)
        self.typed = _typed(self._model, options)
        self._config = in_own_types(config, self.typed)
        self.int8 = any(op.get_type_name() == "FakeQuantize" for op in self._model.get_ops())
        if options.precision == "int8" and not self.int8:
            raise ModelError(f"{path} has no quantised layers, which int8 needs: quantise it, or take precision auto")
        _set_single(path, self._model)
        self.inputs, self.outputs = _of_any_batch(self._model.inputs), _of_any_batch(self._model.outputs)

    def compiled(self, shapes: Sequence[tuple[int, ...]]) -> ov.CompiledModel:
        model = self._model
        if any(port.partial_shape.is_dynamic for port in model.inputs):
            model = model.clone()
            model.reshape({i: ov.PartialShape(list(shape)) for i, shape in enumerate(shapes)})
        for spec in _specs(model.outputs):
            if None in spec.shape:
                raise ragged(self._path, spec.name, spec.shape)
        return self._core.compile_model(model, "CPU", self._config)


class _Engine:
    """A graph that was compiled before, for inputs of one shape."""

    int8 = False  # until somebody knows better
    typed: str | None = None

    def __init__(self, data: bytes, config: Config) -> None:
        self._network = ov.Core().import_model(data, "CPU", config)
        self.inputs, self.outputs = _of_any_batch(self._network.inputs), _of_any_batch(self._network.outputs)

    def compiled(self, _shapes: Sequence[tuple[int, ...]]) -> ov.CompiledModel:
        return self._network


def _opened_engine(path: Path, config: Config, options: RuntimeOptions) -> _Engine:
    """Open an engine as its sidecar says; one without a sidecar as OpenVINO sees fit."""
    sidecar = read_sidecar(path)
    if sidecar is None:
        return _Engine(path.read_bytes(), config)
    _check_origin(path, sidecar)
    precision = sidecar.label.order.recipe.precision
    int8 = precision == "int8"
    if options.precision == "int8" and not int8:
        raise ModelError(f"{path} has no quantised layers, which int8 needs: build it with --precision int8")
    engine = _Engine(path.read_bytes(), in_own_types(config | _tuned(sidecar, options), precision))
    engine.int8, engine.typed = int8, precision if precision in _TYPED else None
    return engine


def _check_origin(path: Path, sidecar: Sidecar) -> None:
    built, here = sidecar.label.identity, (version(), device())
    if sidecar.label.runtime != "openvino" or (built.version, built.device) != here:
        raise ModelError(
            f"{path} was built by {sidecar.label.runtime} {built.version} for {built.device}, but here is openvino "
            f"{here[0]} on {here[1]}: {_REBUILD}"
        )


def _tuned(sidecar: Sidecar, options: RuntimeOptions) -> Config:
    """Give what was measured to be best, if it was measured for what is wanted now."""
    order, facts = sidecar.label.order, sidecar.facts
    if (order.goal, order.threads) != (options.goal, options.threads or cores()):
        return {}
    streams, threads = facts.get("streams"), facts.get("threads")
    return in_streams(streams, threads) if isinstance(streams, int) and isinstance(threads, int) else {}


class OpenVinoRuntime:
    """A network whose batch axis is one: the rows of a batch are requests that run side by side.

    Inputs are read where the caller has them, outputs written where the caller gets them. A network for images of any
    size is compiled for the size that it is fed, again whenever that changes.
    """

    lanes = LANES

    def __init__(self, path: Path, network: _Network, max_batch: int) -> None:
        self.inputs, self.outputs = network.inputs, network.outputs
        self.max_batch = max_batch
        self._path = path
        self._network: _Network | None = network
        self._int8, self._typed = "int8/" if network.int8 else "", network.typed
        self._compiled: _Compiled | None = None
        shapes = [spec.shape[1:] for spec in self.inputs]
        if not any(None in shape for shape in shapes):
            self._compile([(1, *(n for n in shape if n is not None)) for shape in shapes])

    @property
    def description(self) -> str:
        here = f"openvino {version()} CPU"
        if self._compiled is None:
            return f"{here}, not compiled for any size yet"
        return f"{here} {self.precision}, {self._compiled.description}"

    @property
    def precision(self) -> str:
        """Tell what OpenVINO chose to compute in, which need not be what it was asked for: "bf16", "int8/fp32"."""
        return "" if self._compiled is None else self._typed or f"{self._int8}{self._compiled.precision}"

    def infer(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        """Run 1 to `max_batch` rows; the outputs are valid until the next call. Raises ModelError."""
        return self.start(feeds)()

    def start(self, feeds: Mapping[str, Array]) -> Callable[[], Mapping[str, Array]]:
        """Begin with 1 to `max_batch` rows; the function that it returns waits for them. Both raise ModelError."""
        if self._network is None:
            raise ModelError(f"{self._path} is closed: open it again")
        rows = check_feeds(self._path, self.inputs, feeds, self.max_batch)
        # Requests share the caller's memory, which OpenVINO wants in one piece and writable, though it only reads.
        arrays = [np.require(feeds[spec.name], requirements=("C", "W")) for spec in self.inputs]
        with self._running():
            started = self._compiled_for(arrays).start(arrays, rows)

        def finish() -> Mapping[str, Array]:
            with self._running():
                return started()

        return finish

    def export(self) -> bytes:
        """Give the compiled network as the bytes of an engine. Raises ModelError for one without a fixed size."""
        if self._compiled is None:
            raise ModelError(f"{self._path} takes images of any size: export it with the one that its manifest names")
        with translated(f"openvino cannot export {self._path}", REOPEN, _reason):
            return self._compiled.export()

    def close(self) -> None:
        if self._compiled is not None:
            self._compiled.settle()
        self._network = self._compiled = None

    def _running(self) -> AbstractContextManager[None]:
        return translated(f"openvino cannot run {self._path}", RERUN, _reason)

    def _compiled_for(self, arrays: Sequence[Array]) -> _Compiled:
        shapes = [(1, *array.shape[1:]) for array in arrays]
        if self._compiled is not None and self._compiled.shapes == shapes:
            return self._compiled
        if self._compiled is not None:
            self._compiled.settle()
        return self._compile(shapes)

    def _compile(self, shapes: Sequence[tuple[int, ...]]) -> _Compiled:
        assert self._network is not None, "not closed"  # noqa: S101 - for the type checker
        names = [spec.name for spec in self.outputs]
        self._compiled = _Compiled(self._network.compiled(shapes), names, self.max_batch, self.lanes)
        return self._compiled


class _Compiled:
    """A network for rows of one shape, and the lanes that batches run in, by turns."""

    def __init__(self, network: ov.CompiledModel, names: Sequence[str], max_batch: int, lanes: int) -> None:
        self.shapes = [tuple(port.shape) for port in network.inputs]
        self.precision, self.description = _precision(network), _describe(network)
        self._network = network
        self._lanes = deque(_Lane(network, names, max_batch) for _ in range(lanes))

    def start(self, feeds: Sequence[Array], rows: int) -> Callable[[], dict[str, Array]]:
        self._lanes.rotate(-1)
        lane = self._lanes[-1]
        lane.start(feeds, rows)
        return lane.finish

    def export(self) -> bytes:
        data: bytes = self._network.export_model().getvalue()
        return data

    def settle(self) -> None:
        """Wait for every batch that is under way."""
        for lane in tuple(self._lanes):  # another thread may be at its next turn
            lane.settle()


class _Lane:
    """A request and a row of memory for each row of a batch."""

    def __init__(self, network: ov.CompiledModel, names: Sequence[str], max_batch: int) -> None:
        self._network = network
        self._rows = 0  # of the batch that was begun last
        self._running = 0  # of its rows
        self._feeds: Sequence[Array] = ()
        self._requests: list[ov.InferRequest] = []
        # By their place: compiled, an output also answers to the names of what was fused into it.
        self._outputs = {
            name: np.empty((max_batch, *port.shape[1:]), port.element_type.to_dtype())
            for name, port in zip(names, network.outputs, strict=True)
        }

    def start(self, feeds: Sequence[Array], rows: int) -> None:
        while len(self._requests) < rows:
            self._requests.append(self._new_request(len(self._requests)))
        self.settle()  # whoever gave up on a batch has not waited for it
        self._feeds = feeds  # what the requests read must live as long as they run
        self._rows = rows
        for row, request in enumerate(self._requests[:rows]):
            for i, feed in enumerate(feeds):
                request.set_input_tensor(i, ov.Tensor(feed[row : row + 1], shared_memory=True))
            request.start_async()
            self._running += 1

    def finish(self) -> dict[str, Array]:
        self._wait()
        return {name: output[: self._rows] for name, output in self._outputs.items()}

    def settle(self) -> None:
        """Wait for what is under way; what becomes of it is for `finish` to say, or for nobody."""
        with suppress(RuntimeError):
            self._wait()

    def _wait(self) -> None:
        """Wait for every row: nobody may touch the memory of a request that runs, whatever happens to another."""
        try:
            with ExitStack() as running:
                for request in self._requests[: self._running]:
                    running.callback(request.wait)
        finally:
            self._running = 0  # a request that failed says so again each time that it is asked

    def _new_request(self, row: int) -> ov.InferRequest:
        request = self._network.create_infer_request()
        for i, output in enumerate(self._outputs.values()):
            request.set_output_tensor(i, ov.Tensor(output[row : row + 1], shared_memory=True))
        return request


def _read(path: Path) -> ov.Model:
    """Read with the one front end that fits: left to guess, OpenVINO prints what all others think of a broken file."""
    front_end = ov.frontend.FrontEndManager().load_by_framework("ir" if path.suffix == ".xml" else "onnx")
    return front_end.convert(front_end.load(str(path)))


def _typed(model: ov.Model, options: RuntimeOptions) -> str | None:
    """Read which halves one of our graphs is typed in; None where it is not, or another precision is wanted."""
    told = ["framework", "streamer.precision"]  # where the front end puts what it does not know
    precision = model.get_rt_info(told).astype(str) if model.has_rt_info(told) else None
    return precision if precision in _TYPED and options.precision in ("auto", precision) else None


def _set_single(path: Path, model: ov.Model) -> None:
    """Set a dynamic batch axis to one. Raises ModelError for any other, and for outputs without the axis."""
    if not model.inputs:
        raise ModelError(f"{path} holds no network: {REOPEN}")
    for port in model.inputs:
        if port.partial_shape.rank.is_dynamic:
            raise ModelError(f"{path}: input {_name(port)!r} does not say how many axes it has: export it with a shape")
    for spec in _specs(model.inputs):
        check_batch(path, spec)
    model.reshape({i: ov.PartialShape([1, *list(port.partial_shape)[1:]]) for i, port in enumerate(model.inputs)})
    for spec in _specs(model.outputs):
        check_batch(path, spec)


def _name(port: ov.Output) -> str:
    """Name an input or output as its graph does; OpenVINO's own files may leave them nameless."""
    return str(min(port.get_names(), default=port.node.friendly_name))


def _specs(ports: Sequence[ov.Output]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(_name(port), np.dtype(port.element_type.to_dtype()), _shape(port)) for port in ports)


def _shape(port: ov.Output) -> tuple[int | None, ...]:
    shape = port.partial_shape
    if shape.rank.is_dynamic:
        return (None,)  # what an output is may show only when the size of the image is known
    return tuple(None if axis.is_dynamic else axis.get_length() for axis in shape)


def _of_any_batch(ports: Sequence[ov.Output]) -> tuple[TensorSpec, ...]:
    return tuple(replace(spec, shape=(None, *spec.shape[1:])) for spec in _specs(ports))


def _precision(network: ov.CompiledModel) -> str:
    hint: str = network.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return _SHOWN.get(hint, hint)


def _describe(network: ov.CompiledModel) -> str:
    streams, threads = network.get_property("NUM_STREAMS"), network.get_property("INFERENCE_NUM_THREADS")
    return f"{_count(streams, 'stream')} x {_count(threads // streams, 'thread')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _reason(error: Exception) -> str:
    """Find what OpenVINO wants to say: the last line, under where in its sources it says so."""
    lines = [line.strip(" -.") for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

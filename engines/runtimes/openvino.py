"""OpenVINO, on CPUs: one request a row, as many at once as there are cores."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino.frontend import FrontEndManager
from openvino.preprocess import PrePostProcessor

from engines.errors import ModelError, RuntimeUnavailable
from engines.runtimes.base import PixelInput, Precision, RuntimeOptions
from engines.runtimes.checks import REOPEN, RERUN, check_batch, check_feeds, check_file, ragged, translated
from engines.runtimes.cores import cores
from engines.types import Array, TensorSpec

_HINTS: dict[Precision, tuple[str, str]] = {  # ours -> OpenVINO's name of the type, and of what the CPU must be able to
    "fp32": ("f32", "FP32"),
    "bf16": ("bf16", "BF16"),
    "fp16": ("f16", "FP16"),
}
_SHOWN = {hint: precision for precision, (hint, _) in _HINTS.items()}


def open_openvino(path: Path, options: RuntimeOptions) -> OpenVinoRuntime:
    """Open an ONNX file, or OpenVINO's own .xml. Raises RuntimeUnavailable and ModelError."""
    check_file(path)
    with translated(f"openvino cannot open {path}", REOPEN, _reason):
        core = ov.Core()
        config = _config(core, options)
        model = _read(path)
        if options.precision == "int8" and not _quantised(model):
            raise ModelError(f"{path} has no quantised layers, which int8 needs: quantise it, or take precision auto")
        if options.pixels is not None:
            _fold(path, model, options.pixels)
        _set_single(path, model)
        return OpenVinoRuntime(path, core, model, config, options.max_batch)


class OpenVinoRuntime:
    """A network whose batch axis is one: the rows of a batch are requests that run side by side.

    Inputs are read where the caller has them, outputs written where the caller gets them. A network for images of any
    size is compiled for the size that it is fed, again whenever that changes.
    """

    lanes = 3  # one being read by the caller, one running, one waiting for its turn

    def __init__(self, path: Path, core: ov.Core, model: ov.Model, config: dict[str, Any], max_batch: int) -> None:
        self.inputs, self.outputs = _of_any_batch(model.inputs), _of_any_batch(model.outputs)
        self.max_batch = max_batch
        self._path, self._core, self._config = path, core, config
        self._model: ov.Model | None = model
        self._int8 = "int8/" if _quantised(model) else ""
        self._compiled: _Compiled | None = None
        if not any(port.partial_shape.is_dynamic for port in model.inputs):
            self._compiled = self._compile(model)

    @property
    def description(self) -> str:
        version = f"openvino {ov.__version__.partition('-')[0]} CPU"
        if self._compiled is None:
            return f"{version}, not compiled for any size yet"
        return f"{version} {self._int8}{self._compiled.description}"

    def infer(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        """Run 1 to `max_batch` rows; the outputs are valid until the next call. Raises ModelError."""
        return self.start(feeds)()

    def start(self, feeds: Mapping[str, Array]) -> Callable[[], Mapping[str, Array]]:
        """Begin with 1 to `max_batch` rows; the function that it returns waits for them. Both raise ModelError."""
        if self._model is None:
            raise ModelError(f"{self._path} is closed: open it again")
        rows = check_feeds(self._path, self.inputs, feeds, self.max_batch)
        # Requests share the caller's memory, which OpenVINO wants in one piece and writable, though it only reads.
        arrays = [np.require(feeds[spec.name], requirements=("C", "W")) for spec in self.inputs]
        with self._running():
            started = self._compiled_for(self._model, arrays).start(arrays, rows)

        def finish() -> Mapping[str, Array]:
            with self._running():
                return started()

        return finish

    def close(self) -> None:
        if self._compiled is not None:
            self._compiled.wait()
        self._model = self._compiled = None

    def _running(self) -> AbstractContextManager[None]:
        return translated(f"openvino cannot run {self._path}", RERUN, _reason)

    def _compiled_for(self, model: ov.Model, arrays: Sequence[Array]) -> _Compiled:
        shapes = [(1, *array.shape[1:]) for array in arrays]
        if self._compiled is None or self._compiled.shapes != shapes:
            if self._compiled is not None:
                self._compiled.wait()
            fixed = model.clone()
            fixed.reshape({i: ov.PartialShape(list(shape)) for i, shape in enumerate(shapes)})
            self._compiled = self._compile(fixed)
        return self._compiled

    def _compile(self, model: ov.Model) -> _Compiled:
        for spec in _specs(model.outputs):
            if None in spec.shape:
                raise ragged(self._path, spec.name, spec.shape)
        return _Compiled(self._core.compile_model(model, "CPU", self._config), self.max_batch, self.lanes)


class _Compiled:
    """A network for rows of one shape, and the lanes that batches run in, by turns."""

    def __init__(self, network: ov.CompiledModel, max_batch: int, lanes: int) -> None:
        self.shapes = [tuple(port.shape) for port in network.inputs]
        self.description = _describe(network)
        self._lanes = deque(_Lane(network, max_batch) for _ in range(lanes))

    def start(self, feeds: Sequence[Array], rows: int) -> Callable[[], dict[str, Array]]:
        self._lanes.rotate(-1)
        lane = self._lanes[-1]
        lane.start(feeds, rows)
        return lane.finish

    def wait(self) -> None:
        for lane in self._lanes:
            lane.wait()


class _Lane:
    """A request and a row of memory for each row of a batch."""

    def __init__(self, network: ov.CompiledModel, max_batch: int) -> None:
        self._network = network
        self._rows = 0
        self._feeds: Sequence[Array] = ()
        self._requests: list[ov.InferRequest] = []
        self._outputs = {
            spec.name: np.empty((max_batch, *port.shape[1:]), spec.dtype)
            for spec, port in zip(_specs(network.outputs), network.outputs, strict=True)
        }

    def start(self, feeds: Sequence[Array], rows: int) -> None:
        while len(self._requests) < rows:
            self._requests.append(self._new_request(len(self._requests)))
        self.wait()  # whoever gave up on a batch has not waited for it
        self._feeds = feeds  # what the requests read must live as long as they run
        self._rows = 0
        for row, request in enumerate(self._requests[:rows]):
            for i, feed in enumerate(feeds):
                request.set_input_tensor(i, ov.Tensor(feed[row : row + 1], shared_memory=True))
            request.start_async()
            self._rows += 1

    def finish(self) -> dict[str, Array]:
        self.wait()
        return {name: output[: self._rows] for name, output in self._outputs.items()}

    def wait(self) -> None:
        """Wait for every row: nobody may touch the memory of a request that runs, whatever happens to another."""
        with ExitStack() as running:
            for request in self._requests[: self._rows]:
                running.callback(request.wait)

    def _new_request(self, row: int) -> ov.InferRequest:
        request = self._network.create_infer_request()
        for i, output in enumerate(self._outputs.values()):
            request.set_output_tensor(i, ov.Tensor(output[row : row + 1], shared_memory=True))
        return request


def _read(path: Path) -> ov.Model:
    """Read with the one front end that fits: left to guess, OpenVINO prints what all others think of a broken file."""
    front_end = FrontEndManager().load_by_framework("ir" if path.suffix == ".xml" else "onnx")
    return front_end.convert(front_end.load(str(path)))


def _config(core: ov.Core, options: RuntimeOptions) -> dict[str, Any]:
    threads = options.threads or cores()
    config: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": min(threads, options.max_batch) if options.goal == "throughput" else 1,
        "ENABLE_CPU_PINNING": False,  # two networks, or two processes, would be pinned to the same cores
    }
    if options.precision in _HINTS:
        config["INFERENCE_PRECISION_HINT"], capability = _HINTS[options.precision]
        if capability not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise RuntimeUnavailable(
                f"openvino has no fast {options.precision} on this CPU: take precision auto, which picks what it has"
            )
    return config


def _quantised(model: ov.Model) -> bool:
    return any(op.get_type_name() == "FakeQuantize" for op in model.get_ops())


def _fold(path: Path, model: ov.Model, pixels: PixelInput) -> None:
    """Put what *pixels* says into the graph, so that its image inputs take uint8 NHWC RGB."""
    images = [i for i, port in enumerate(model.inputs) if _is_image(port)]
    if not images:
        given = ", ".join(f"{_name(port)!r} {port.partial_shape}" for port in model.inputs)
        raise ModelError(f"{path}: no input is an image of float (N, 3, H, W), only {given}: export it with one")
    folding = PrePostProcessor(model)
    for i in images:
        image = folding.input(i)
        image.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
        image.model().set_layout(ov.Layout("NCHW"))
        if pixels.channels == "bgr":
            image.preprocess().reverse_channels()
        image.preprocess().convert_element_type(ov.Type.f32).mean(list(pixels.mean)).scale(list(pixels.std))
    folding.build()


def _is_image(port: ov.Output) -> bool:
    shape = port.partial_shape
    return bool(shape.rank.is_static and len(shape) == 4 and shape[1] == 3 and port.element_type.is_real())


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


def _describe(network: ov.CompiledModel) -> str:
    """Say what OpenVINO chose, which need not be what it was asked for."""
    hint = network.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    streams, threads = network.get_property("NUM_STREAMS"), network.get_property("INFERENCE_NUM_THREADS")
    return f"{_SHOWN.get(hint, hint)}, {_count(streams, 'stream')} x {_count(threads // streams, 'thread')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _reason(error: Exception) -> str:
    """Find what OpenVINO wants to say: the last line, under where in its sources it says so."""
    lines = [line.strip(" -.") for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

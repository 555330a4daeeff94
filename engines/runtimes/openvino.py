"""OpenVINO on the CPU: pixels are prepared inside the graph, every row is a request, nothing is copied."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from engines.errors import ModelError, RuntimeUnavailable
from engines.runtimes.base import PixelInput, RuntimeOptions
from engines.types import Array, TensorSpec

_HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}
_NAMES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


class OpenVinoRuntime:
    """Run an ONNX or OpenVINO network; a batch is cut into rows that run side by side."""

    def __init__(self, path: Path, options: RuntimeOptions) -> None:
        """Raise ModelError when OpenVINO refuses the network, RuntimeUnavailable when it lacks the precision."""
        core = ov.Core()
        with _translated(path, "cannot be opened as a network"):
            network = core.read_model(path)
            _one_row(network)
            if options.pixels is not None:
                network = _fold(network, options.pixels)
        with _translated(path, "cannot be compiled"):
            self._compiled = core.compile_model(network, "CPU", _settings(options))
        self._path = path
        self.max_batch = options.max_batch
        self.inputs = tuple(_spec(port) for port in self._compiled.inputs)
        self.outputs = tuple(_spec(port) for port in self._compiled.outputs)
        self.description = _describe(self._compiled)
        self._requests = [self._compiled.create_infer_request() for _ in range(options.max_batch)]
        self._results = self._share_outputs()

    def infer(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        rows = self._check(feeds)
        with _translated(self._path, "failed"):
            for row, request in enumerate(self._requests[:rows]):
                for spec in self.inputs:
                    request.set_tensor(spec.name, ov.Tensor(feeds[spec.name][row : row + 1], shared_memory=True))
                request.start_async()
            for request in self._requests[:rows]:
                request.wait()
        return {name: result[:rows] for name, result in self._results.items()}

    def close(self) -> None:
        """Release the network. May be called again."""
        self._requests, self._results = [], {}
        self._compiled = None

    def _share_outputs(self) -> dict[str, Array]:
        """Let each request write into its own row of one array."""
        results = {}
        for index, spec in enumerate(self.outputs):
            if None in spec.shape[1:]:
                raise ModelError(
                    f"{self._path}: output {spec.name!r} has no fixed shape {spec.shape}; export it with one"
                )
            shape = [size for size in spec.shape[1:] if size is not None]
            results[spec.name] = np.empty((self.max_batch, *shape), spec.dtype)
            for row, request in enumerate(self._requests):
                request.set_output_tensor(index, ov.Tensor(results[spec.name][row : row + 1], shared_memory=True))
        return results

    def _check(self, feeds: Mapping[str, Array]) -> int:
        """Refuse what would be read wrongly; return the number of rows."""
        if not self._requests:
            raise ModelError(f"{self._path}: is closed; open it again")
        for spec in self.inputs:
            if spec.name not in feeds:
                raise ModelError(f"{self._path}: input {spec.name!r} is missing among {sorted(feeds)}")
            feed = feeds[spec.name]
            fits = feed.ndim == len(spec.shape) and feed.shape[1:] == spec.shape[1:] and feed.dtype == spec.dtype
            if not fits or not 1 <= len(feed) <= self.max_batch:
                raise ModelError(
                    f"{self._path}: input {spec.name!r} takes 1 to {self.max_batch} rows of "
                    f"{spec.dtype} {spec.shape[1:]}, got {feed.dtype} {feed.shape}"
                )
        return len(feeds[self.inputs[0].name])


def _one_row(network: ov.Model) -> None:
    """Make a dynamic batch one row: rows side by side are faster on a CPU than one wide batch."""
    shapes = {}
    for port in network.inputs:
        shape = port.get_partial_shape()
        if shape.rank.get_length() and shape[0].is_dynamic:
            shape[0] = 1
            shapes[port] = shape
    if shapes:
        network.reshape(shapes)
    for port in network.inputs:
        if port.get_partial_shape().is_dynamic:
            raise ModelError(
                f"input {port.any_name!r} has no fixed shape {port.get_partial_shape()}; export it with one"
            )
        if port.shape and port.shape[0] != 1:
            raise ModelError(f"input {port.any_name!r} takes {port.shape[0]} rows at once; export it with a batch of 1")


def _fold(network: ov.Model, pixels: PixelInput) -> ov.Model:
    """Let the graph take uint8 NHWC RGB, and do the rest itself."""
    prepare = ov.preprocess.PrePostProcessor(network)
    steps = prepare.input()
    steps.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC")).set_color_format(
        ov.preprocess.ColorFormat.RGB
    )
    steps.model().set_layout(ov.Layout("NCHW"))
    steps.preprocess().convert_element_type(ov.Type.f32)
    if pixels.channels == "bgr":
        steps.preprocess().convert_color(ov.preprocess.ColorFormat.BGR)
    if any(pixels.mean):
        steps.preprocess().mean(list(pixels.mean))
    if any(value != 1 for value in pixels.std):
        steps.preprocess().scale(list(pixels.std))
    return prepare.build()


def _settings(options: RuntimeOptions) -> dict[str, Any]:
    threads = options.threads or len(os.sched_getaffinity(0))
    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads if options.goal == "throughput" else 1,
        "PERFORMANCE_HINT": "THROUGHPUT" if options.goal == "throughput" else "LATENCY",
    }
    if options.precision == "int8":
        return settings  # int8 is in the network itself; what is float around it runs as the hardware likes
    if options.precision != "auto":
        settings["INFERENCE_PRECISION_HINT"] = _HINTS[options.precision]
        supported = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if options.precision != "fp32" and options.precision.upper() not in supported:
            raise RuntimeUnavailable(f"this CPU has no {options.precision} for OpenVINO; use auto or fp32")
    return settings


def _describe(compiled: ov.CompiledModel) -> str:
    hint = str(compiled.get_property("INFERENCE_PRECISION_HINT"))
    precision = next((name for key, name in _NAMES.items() if key in hint), hint)
    streams, threads = (int(compiled.get_property(k)) for k in ("NUM_STREAMS", "INFERENCE_NUM_THREADS"))
    version = ov.get_version().partition("-")[0]
    each = max(1, threads // streams)
    return f"OpenVINO {version} CPU {precision}, {streams} x {each} thread{'s' if each > 1 else ''}"


def _spec(port: Any) -> TensorSpec:
    shape = tuple(d.get_length() if d.is_static else None for d in port.get_partial_shape())
    return TensorSpec(port.any_name, np.dtype(port.element_type.to_dtype()), (None, *shape[1:]))


@contextmanager
def _translated(path: Path, what: str) -> Iterator[None]:
    """OpenVINO raises RuntimeError for everything; its message is long, and the last line says the most."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except (RuntimeError, ValueError, TypeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ModelError(f"{path} {what} by OpenVINO: {lines[-1] if lines else type(error).__name__}") from error

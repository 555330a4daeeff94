"""PyTorch, as the reference: an exported program (.pt2) that our builder made, on a CPU or a CUDA device.

What runs on CUDA (`_Cuda`) has not been run where it was written, for want of a device: its calls were checked against
torch 2.13's types and sources, and the exported program was moved to another device ("meta") and run there.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass

from engines.errors import ModelError, RuntimeUnavailable
from engines.runtimes import pt2
from engines.runtimes.base import RuntimeOptions
from engines.runtimes.checks import RERUN, check_feeds, check_file, translated
from engines.runtimes.cores import cores
from engines.types import Array, TensorSpec

Outputs = dict[str, Tensor]
Prepare: TypeAlias = Callable[[nn.Module], Callable[..., Outputs]]  # what is done to a network before it runs

_REBUILD = "build it again with: streamer models build NAME --runtime pytorch"
_WARM_UP = 3  # runs before a CUDA graph is captured: cuDNN chooses its algorithms in them
_NOISY = ("torch", "onnxscript", "onnx_ir")


def as_it_is(network: nn.Module) -> nn.Module:
    """Run the exported operators one after the other."""
    return network


def compiled(network: nn.Module) -> Callable[..., Outputs]:
    """Let torch.compile fuse the operators; the first run takes a minute, and needs a C++ compiler on CPUs."""
    made: Callable[..., Outputs] = torch.compile(network, dynamic=True)
    return made


def open_pytorch(path: Path, options: RuntimeOptions) -> PyTorchRuntime:
    """Open a .pt2 that our builder made; code in it is never run. Raises RuntimeUnavailable and ModelError."""
    check_file(path)
    if reason := pt2.fault(path):
        raise ModelError(f"{path} is no engine for pytorch, for it {reason}: {_REBUILD}")
    precision = pt2.facts(path).get("precision", "fp32")
    if options.precision not in ("auto", precision):
        raise RuntimeUnavailable(
            f"pytorch computes in the precision that an engine was built in, so it cannot turn {path} ({precision}) "
            f"into {options.precision}: build one, in fp32, fp16 or bf16, or take another runtime for int8"
        )
    with _running(f"pytorch cannot open {path}", _REBUILD):
        program = _load(path)
        device = _open_device(program, options, compiled if options.torch_compile else as_it_is)
    return PyTorchRuntime(path, program, device, precision, options.max_batch)


class PyTorchRuntime:
    """An exported network on one device; inputs are read, on a CPU, where the caller has them."""

    def __init__(self, path: Path, program: ExportedProgram, device: _Device, precision: str, max_batch: int) -> None:
        self._path = path
        self._device: _Device | None = device
        self.inputs, self.outputs = _inputs(program), _outputs(program)
        self.max_batch = max_batch
        self.description = f"pytorch {torch.__version__} {device.description}, {precision}"

    def infer(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        """Run 1 to `max_batch` rows; the outputs are valid until the next call. Raises ModelError."""
        if self._device is None:
            raise ModelError(f"{self._path} is closed: open it again")
        rows = check_feeds(self._path, self.inputs, feeds, self.max_batch)
        # Torch warns of memory that it may not write to, and reads only what is in one piece.
        arrays = [np.require(feeds[spec.name], requirements=("C", "W")) for spec in self.inputs]
        with _running(f"pytorch cannot run {self._path}", RERUN), torch.inference_mode():
            return self._device.run(arrays, rows)

    def close(self) -> None:
        self._device = None


class _Device(Protocol):
    """Where a network runs."""

    description: str

    def run(self, feeds: Sequence[Array], rows: int) -> dict[str, Array]: ...


class _Cpu:
    def __init__(self, network: Callable[..., Outputs], threads: int) -> None:
        self._network, self._threads = network, threads
        self.description = f"CPU, {threads} thread{'s' if threads > 1 else ''}"

    def run(self, feeds: Sequence[Array], rows: int) -> dict[str, Array]:  # noqa: ARG002 - rows: the feeds show them
        if torch.get_num_threads() != self._threads:  # one number for the process, and another network may want another
            torch.set_num_threads(self._threads)
        outputs = self._network(*map(torch.from_numpy, feeds))
        return {name: output.numpy() for name, output in outputs.items()}


class _Cuda:
    """A network whose work is captured once for each number of rows, and replayed on a stream of its own."""

    def __init__(self, network: Callable[..., Outputs], inputs: Sequence[TensorSpec], max_batch: int) -> None:
        self._network = network
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's own want of types
        shapes = [((max_batch, *map(int, filter(None, spec.shape))), _torch_dtype(spec)) for spec in inputs]
        self._staged = [torch.empty(shape, dtype=dtype, pin_memory=True) for shape, dtype in shapes]
        self._feeds = [torch.empty(shape, dtype=dtype, device="cuda") for shape, dtype in shapes]
        self._captured: dict[int, _Captured] = {}
        self.description = f"{torch.cuda.get_device_name()} (CUDA {torch.version.cuda})"

    def run(self, feeds: Sequence[Array], rows: int) -> dict[str, Array]:
        with torch.cuda.stream(self._stream):
            for feed, staged, into in zip(feeds, self._staged, self._feeds, strict=True):
                staged[:rows].numpy()[:] = feed
                into[:rows].copy_(staged[:rows], non_blocking=True)
            if rows not in self._captured:
                with _exact():
                    self._captured[rows] = _Captured(self._network, [feed[:rows] for feed in self._feeds], self._stream)
            outputs = self._captured[rows].replay()
        self._stream.synchronize()
        return {name: output.numpy() for name, output in outputs.items()}


class _Captured:
    """The work for one number of rows as a CUDA graph, and the pinned memory that its outputs are copied to."""

    def __init__(self, network: Callable[..., Outputs], feeds: Sequence[Tensor], stream: torch.cuda.Stream) -> None:
        for _ in range(_WARM_UP):
            network(*feeds)
        stream.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        # Other stages' threads may use the device meanwhile; only this one must do nothing that cannot be captured.
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._outputs = network(*feeds)
        self._read = {
            name: torch.empty(output.shape, dtype=output.dtype, pin_memory=True)
            for name, output in self._outputs.items()
        }

    def replay(self) -> Outputs:
        """Queue the work and the copies; what is returned holds once the stream is done."""
        self._graph.replay()
        for name, output in self._outputs.items():
            self._read[name].copy_(output, non_blocking=True)
        return self._read


@contextmanager
def _exact() -> Iterator[None]:
    """Keep cuDNN from TF32, its default, which rounds what fp32 promises to keep; a graph keeps what was chosen."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@contextmanager
def quiet() -> Iterator[None]:
    """Keep torch and its exporters from talking to the terminal, which is not theirs."""
    levels = {name: logging.getLogger(name).level for name in _NOISY}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in levels:
                logging.getLogger(name).setLevel(logging.CRITICAL)
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def _running(what: str, then: str) -> Iterator[None]:
    with translated(what, then, _reason):
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"{what}, for the device has too little free memory: take a smaller batch or fp16, or stop what else "
                "uses the device"
            ) from error


def _load(path: Path) -> ExportedProgram:
    with quiet(), path.open("rb") as file:  # by its name it would have to end in .pt2
        return torch.export.load(file)


def _open_device(program: ExportedProgram, options: RuntimeOptions, prepare: Prepare) -> _Device:
    if not torch.cuda.is_available():
        return _Cpu(prepare(_module(program)), options.threads or cores())
    network = _module(move_to_device_pass(program, "cuda"))
    for kernel in (parameter for parameter in network.parameters() if parameter.ndim == 4):
        kernel.data = kernel.data.contiguous(memory_format=torch.channels_last)
    return _Cuda(prepare(network), _inputs(program), options.max_batch)


def _module(program: ExportedProgram) -> nn.Module:
    with quiet():
        return program.module(check_guards=False)  # feeds are checked by us, and guards would be code


def _inputs(program: ExportedProgram) -> tuple[TensorSpec, ...]:
    wanted = program.graph_signature.user_inputs
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    return tuple(_spec(name, nodes[name].meta["val"]) for name in wanted if isinstance(name, str))


def _outputs(program: ExportedProgram) -> tuple[TensorSpec, ...]:
    """Name the outputs by the keys of the dictionary that the network gives."""
    names: list[str] = program.call_spec.out_spec.context
    (nodes,) = program.graph.output_node().args
    return tuple(_spec(name, node.meta["val"]) for name, node in zip(names, nodes, strict=True))


def _spec(name: str, tensor: Tensor) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else None for size in tensor.shape)
    return TensorSpec(name, torch.empty(0, dtype=tensor.dtype).numpy().dtype, shape)


def _torch_dtype(spec: TensorSpec) -> torch.dtype:
    return torch.from_numpy(np.empty(0, spec.dtype)).dtype


def _reason(error: Exception) -> str:
    """Find what torch wants to say: its first line."""
    lines: list[Any] = str(error).strip().splitlines()
    return str(lines[0]).strip(" .") if lines else type(error).__name__

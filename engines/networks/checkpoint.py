"""State dicts from files, into networks that they fit exactly. Code in a file is never run.

An ONNX file of ours is a state dict as well: see `engines.build.stored`.
"""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engines.errors import ModelError, WeightsError
from engines.manifest import Manifest
from engines.networks import INNER, build_network
from engines.networks.blocks import folded_away, unfold_norms
from engines.runtimes.checks import shown

_AGAIN = "download it again"
_COUNT = "num_batches_tracked"  # which nothing here needs
_SHOWN = 2  # keys named in a message, of each kind
_FEW = 0.1  # of all tensors: fewer than this is a last layer, more is another network

# Trainers save their best accuracy beside the weights, as a number of NumPy's. These make numbers and run no code.
_make_number: Any = np.float64(0).__reduce__()[0]
_NUMBERS: list[Any] = [np.dtype, type(np.dtype(np.float64)), type(np.dtype(np.float32))]
_NUMBERS += [(_make_number, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]

# https://huggingface.co/docs/safetensors: the types that weights come in.
_SAFE_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_SAFE_TYPES |= {"I64": torch.int64, "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool}


def open_network(manifest: Manifest, checkpoint: Path) -> nn.Module:
    """Build a manifest's network with the weights in *checkpoint*, ready for inference, in float32.

    Raises ManifestError for a network that is not known, and WeightsError for weights that are not its own.
    """
    named = manifest.weights.checkpoint
    network = build_network(manifest.architecture or "", manifest.variant, len(manifest.labels))
    fill(network, read_state_for(network, checkpoint, named.key if named else None), checkpoint)
    return network.eval()


def read_state_for(network: nn.Module, path: Path, key: str | None = None) -> dict[str, Tensor]:
    """Read a state dict, as `read_state_dict` does; what was folded into the graph of an ONNX file is taken apart.

    Raises WeightsError, also for a graph that has nothing beside it.
    """
    if path.suffix != ".onnx":
        return read_state_dict(path, key)
    state = unfold_norms(network, *_read_onnx(path))
    if folded_away(network, state):
        raise WeightsError(
            f"{path} is a graph alone, and its normalisations are folded away: give the checkpoint that it was "
            "exported from, such as the weights.pt of a training"
        )
    return {name: state[name] for name in network.state_dict() if name in state}


def is_checkpoint(manifest: Manifest, path: Path) -> bool:
    """Tell whether an ONNX file holds all that a manifest's network has learnt. Raises WeightsError, ManifestError."""
    with torch.device("meta"):
        network = build_network(manifest.architecture or "", manifest.variant, len(manifest.labels))
    graph, beside = _read_onnx(path)
    stored = {name: tensor.shape for name, tensor in (graph | beside).items()}
    wanted = network.state_dict().items()
    return all(stored.get(key) == tensor.shape for key, tensor in wanted if not key.endswith(_COUNT))


def fill(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load a state dict, which came from *path*, strictly. Raises WeightsError that says what does not fit, and why."""
    wanted = network.state_dict()
    if fault := _misfit(wanted, state):
        raise WeightsError(f"{path} does not fit the network: {fault}")
    network.load_state_dict(dict(state), strict=True)


def fill_body(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> tuple[int, int]:
    """Load what a state dict, which came from *path*, has by the network's names and in its shapes.

    Return how many of the network's tensors that was, and how many it has. Raises WeightsError where nothing fits.
    """
    wanted = network.state_dict()
    fits = {key: tensor for key, tensor in state.items() if key in wanted and wanted[key].shape == tensor.shape}
    if not fits:
        raise WeightsError(f"{path} has nothing by the names and in the shapes of this network: take another's weights")
    network.load_state_dict(fits, strict=False)
    return len(fits), len(wanted)


def read_state_dict(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """Read the tensors in a file of torch (.pth, .pt, .tar) or safetensors; *key* says where in it they are: "model".

    Raises WeightsError for a file that cannot be read, holds code, or holds no tensors there.
    """
    if not path.is_file():
        raise WeightsError(f"there is no checkpoint {path}: correct the path")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    for part in key.split(".") if key else ():
        content = _descend(path, content, part)
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(f"{path} holds no state dict {_at(key)}, but {_describe(content)}")
    return content


def _read_onnx(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Read the tensors of a graph, and those beside it, by the names that the network has for them."""
    from engines.build.graph import read_onnx
    from engines.build.stored import read_stored

    if not path.is_file():
        raise WeightsError(f"there is no checkpoint {path}: correct the path")
    try:
        model = read_onnx(path)
    except ModelError as error:
        raise WeightsError(str(error)) from error
    graph, beside = (
        {name.removeprefix(INNER): torch.from_numpy(values.copy()) for name, values in part.items()}
        for part in read_stored(model)
    )
    return graph, beside


def _read_torch(path: Path) -> Any:
    with _translated(path), warnings.catch_warnings(), torch.serialization.safe_globals(_NUMBERS):
        warnings.simplefilter("ignore")  # of files that older versions wrote
        # Training leaves much beside the weights; what is mapped and not looked at is not read.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Tell code from damage; torch says both with the same exception, and in many ways."""
    try:
        yield
    except pickle.UnpicklingError as error:
        if "GLOBAL" not in str(error):
            raise WeightsError(f"{path} is no checkpoint of torch, or a damaged one: {_AGAIN}") from error
        raise WeightsError(
            f"{path} holds Python code, not only tensors, and running code from a file is not safe: save its state "
            "dict alone, with torch.save(model.state_dict(), path)"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise WeightsError(f"{path} is no checkpoint of torch, or a damaged one: {_AGAIN}") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8:start])
        return {name: _view(data[start:], entry) for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise WeightsError(f"{path} is no safetensors file, or a damaged one: {_AGAIN}") from error


def _view(data: bytes, entry: Mapping[str, Any]) -> Tensor:
    first, last = entry["data_offsets"]
    if not 0 <= first <= last <= len(data):
        raise ValueError("a tensor lies outside the file")
    dtype = _SAFE_TYPES[entry["dtype"]]
    if first == last:
        return torch.empty(entry["shape"], dtype=dtype)
    return torch.frombuffer(bytearray(data[first:last]), dtype=dtype).reshape(entry["shape"])


def _descend(path: Path, content: Any, part: str) -> Any:
    if not isinstance(content, dict) or part not in content:
        raise WeightsError(f"{path} has no {part!r}, but {_describe(content)}")
    return content[part]


def _describe(content: Any) -> str:
    """Say what is in a file instead of a state dict, and what to do about it."""
    if isinstance(content, dict) and all(isinstance(value, Tensor) for value in content.values()) and content:
        return "the tensors themselves: leave 'key' out of the manifest"
    if not isinstance(content, dict):
        return f"a {type(content).__name__}: give a file with the weights by name"
    names = [repr(name) for name, value in content.items() if isinstance(value, dict)]
    if not names:
        return "nothing like it: give a file with the weights by name"
    return f"{', '.join(names)}: say with 'key' in the manifest which it is"


def _at(key: str | None) -> str:
    return f"at {key!r}" if key else "by itself"


def _misfit(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str | None:
    """Say what differs and what probably made it so; None where nothing does."""
    # Networks of before torch 0.4.1 did not count their batches, and nothing here needs the count.
    missing = [key for key in wanted if key not in given and not key.endswith(_COUNT)]
    extra = [key for key in given if key not in wanted]
    wrong = [key for key in wanted if key in given and wanted[key].shape != given[key].shape]
    if not missing and not extra and not wrong:
        return None
    shapes = [f"{key} {shown(given[key].shape)} for {shown(wanted[key].shape)}" for key in wrong]
    faults = [_counted("it lacks", missing), _counted("it has", extra), _counted("in other shapes", shapes)]
    return f"{', '.join(filter(None, faults))}; {_cause(wanted, given, wrong, missing + extra)}"


def _cause(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], wrong: Sequence[str], keys: Sequence[str]) -> str:
    if keys:
        return "correct 'architecture' or 'variant' in the manifest, or take other weights"
    if len(wrong) < _FEW * len(wanted) and all(wanted[k].shape[1:] == given[k].shape[1:] for k in wrong):
        return "it was probably trained for other classes: correct 'labels' in the manifest"
    return "it is probably of another variant: correct 'variant' in the manifest"


def _counted(verb: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    rest = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return f"{verb} {', '.join(items[:_SHOWN])}{rest}"

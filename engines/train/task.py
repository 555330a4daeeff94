"""What a training needs to know about what is learnt: a network, batches, a loss, and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from engines.geometry import Size
from engines.manifest import Manifest

Batch = TypeVar("Batch")
T = TypeVar("T")


class Task(Protocol[Batch]):
    """A network and what it is to learn; one file of `engines.train` each, opened by `engines.train.tasks`.

    A batch is tensors on the CPU, alone or in tuples, lists, mappings and dataclasses.
    """

    @property
    def model(self) -> nn.Module:
        """The network in training form, whose state dict has the keys of public checkpoints.

        Where its convolutions like channels last, it has them so.
        """
        ...

    def batch(self, step: int, size: int) -> Batch:
        """Make the items of a step: a pure function of the task's seed and *step*.

        Called in other processes, without the network.
        """
        ...

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Run the network on a batch, on its device, and name the parts of the loss; their sum becomes small.

        The network is in training mode, autocast is on, and torch's own random numbers are those of the step.
        """
        ...

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """Measure a copy of the network, in evaluation mode, on data that is never trained on."""
        ...


@dataclass(frozen=True, slots=True)
class Subject:
    """What is asked for: a model of this manifest, from this data."""

    manifest: Manifest
    data: str  # world, or coco:ANNOTATIONS.json,IMAGES and the like
    steps: int
    seed: int = 0
    size: Size | None = None  # (height, width) of images while it learns; None: as it is served

    @property
    def learnt(self) -> Manifest:
        """The manifest, with the size that is learnt at."""
        told = self.manifest
        if self.size is None:
            return told
        return told.model_copy(update={"preprocess": told.preprocess.model_copy(update={"size": self.size})})


def moved(value: T, device: torch.device | str) -> T:
    """Bring all tensors of a batch to a device; one that is there already stays."""
    return cast("T", _moved(value, device))


def _moved(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Tensor):
        # Only from memory that stays where it is, a device can fetch while the processor goes on.
        fetched = value.pin_memory() if torch.device(device).type == "cuda" and value.device.type == "cpu" else value
        return fetched.to(device, non_blocking=True)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_moved(each, device) for each in value))
    if isinstance(value, tuple | list):
        return type(value)(_moved(each, device) for each in value)
    if isinstance(value, Mapping):
        return {key: _moved(each, device) for key, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _moved(getattr(value, f.name), device) for f in fields(value) if f.init})
    return value

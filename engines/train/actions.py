"""Teaching networks that recognise actions, one stream at a time: on the world, or on a user's folders of videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from engines.feeds import feed_of
from engines.manifest import Manifest
from engines.metrics.actions import top_k
from engines.networks import build_network
from engines.networks.served import Feeding
from engines.train.data.clips import ClipBatch, ClipSpec, Example, batched
from engines.train.data.folders import FolderClips
from engines.train.data.worldclips import WorldClips, held_out
from engines.train.errors import TrainingError
from engines.train.losses.actions import cross_entropy
from engines.train.task import Subject
from engines.types import Float
from engines.world import ACTIONS

_WINDOWS = 40  # of the world, that figures are taken from
_ROWS = 32  # clips at a time, where figures are taken


class Clips(Protocol):
    """Where clips come from."""

    def batch(self, step: int, count: int) -> list[Example]:
        """Make so many clips, whatever was asked before."""
        ...

    def measured(self) -> Sequence[Example]:
        """Give clips that are never learnt from."""
        ...


class ActionTask:
    """A network that scores clips, the clips that it learns from, and how often it is right about others."""

    def __init__(self, manifest: Manifest, clips: Clips) -> None:
        self.model = _network(manifest)
        self._classes, self._clips = len(manifest.labels), clips
        self._feeding = Feeding(feed_of(manifest))

    def batch(self, step: int, size: int) -> ClipBatch:
        return batched(self._clips.batch(step, size))

    def loss(self, batch: ClipBatch) -> Mapping[str, Tensor]:
        return {"action": cross_entropy(self.model(self._fed(batch.samples)), batch.labels)}

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """Give the share of clips that are recognised, and the mean of that over classes."""
        examples = self._clips.measured()
        parts = [examples[start : start + _ROWS] for start in range(0, len(examples), _ROWS)]
        scores = np.concatenate([self._scores(model, batched(part).samples) for part in parts])
        found = top_k([each.label for each in examples], scores)
        return {"top1": found.top1, "mean_class_accuracy": found.mean_class_accuracy}

    def _scores(self, model: nn.Module, samples: Tensor) -> Float:
        device = next(model.parameters()).device
        with torch.inference_mode():
            scores: Tensor = model(self._fed(samples.to(device))).softmax(1)
        return np.asarray(scores.cpu().numpy(), np.float32)

    def _fed(self, samples: Tensor) -> Tensor:
        fed: Tensor = self._feeding.to(samples.device)(samples)
        return fed


class WorldActions:
    """Clips of the world."""

    def __init__(self, seed: int, spec: ClipSpec) -> None:
        self._learnt, self._spec = WorldClips(seed, spec), spec
        self._held: list[Example] = []

    def batch(self, step: int, count: int) -> list[Example]:
        return self._learnt.batch(step, count)

    def measured(self) -> Sequence[Example]:
        if not self._held:
            self._held = list(held_out(self._spec, _WINDOWS))
        return self._held


def actions_task(subject: Subject) -> ActionTask:
    """Open what `--data world` or `--data clips:DIR` says. Raises TrainingError."""
    kind, _, where = subject.data.partition(":")
    spec = ClipSpec.of(subject.manifest)
    if kind == "clips":
        folder = Path(where).expanduser()
        return ActionTask(subject.manifest, FolderClips(folder, subject.manifest.labels, spec, subject.seed))
    if kind != "world":
        raise TrainingError(f"actions are not learnt from {subject.data!r}: say world, or clips:DIR")
    if subject.manifest.labels != ACTIONS:
        raise TrainingError(
            f"{subject.manifest.name} knows other actions than the world has: say labels: world-actions"
        )
    return ActionTask(subject.manifest, WorldActions(subject.seed, spec))


def _network(manifest: Manifest) -> nn.Module:
    network = build_network(manifest.architecture or "", manifest.variant, len(manifest.labels))
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network

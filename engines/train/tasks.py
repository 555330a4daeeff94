"""The tasks that there are, by the architecture that a manifest names; imported only when asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from engines.manifest import Manifest
from engines.train.errors import TrainingError
from engines.train.plan import Plan
from engines.train.task import Subject, Task

TASKS = {
    "conv3d": "engines.train.actions:actions_task",
    "faster-rcnn": "engines.train.rcnn:faster_rcnn_task",
    "flownet": "engines.train.flow:flow_task",
    "i3d": "engines.train.actions:actions_task",
    "mask-rcnn": "engines.train.rcnn:mask_rcnn_task",
    "retinanet": "engines.train.retinanet:retinanet_task",
    "slowfast": "engines.train.actions:actions_task",
    "ssd": "engines.train.detection:ssd_task",
    "vgg16-stream": "engines.train.actions:actions_task",
    "yolox": "engines.train.detection:yolox_task",
}

# What may learn at another size than it is served at: their boxes are measured in pixels, wherever they are.
_MULTIPLE = 32  # of such sizes: networks halve them five times
_ANY_SIZE = frozenset({"faster-rcnn", "mask-rcnn", "retinanet", "yolox"})

# What suits an architecture, where nobody says anything else.
PLANS = {
    # In bf16 on a CPU, a 3-D convolution gives no number now and then.
    "conv3d": Plan(steps=3_000, lr=2e-3, ema=0.998, precision="fp32", optimiser="muon", save_every=200),
    "faster-rcnn": Plan(steps=5_000, batch=8, lr=1e-3, warmup=200, ema=0.998, save_every=100),
    "flownet": Plan(
        steps=7_000,
        batch=32,
        lr=3e-3,
        warmup=100,
        weight_decay=0.01,
        optimiser="muon",
        save_every=250,
        evaluate_every=500,
    ),
    "mask-rcnn": Plan(steps=5_000, batch=8, lr=1e-3, warmup=200, ema=0.998, save_every=100),
    "retinanet": Plan(steps=5_000, batch=8, lr=1e-3, warmup=200, ema=0.998, save_every=100),
    "ssd": Plan(steps=8_000, lr=2e-3, warmup=300, ema=0.999, precision="fp32", save_every=250),
    "vgg16-stream": Plan(steps=3_000, batch=32, lr=3e-3, ema=0.998, optimiser="muon", save_every=200),
    "yolox": Plan(steps=8_000, lr=3e-3, warmup=300, ema=0.999, save_every=250),
}


def plan_for(manifest: Manifest) -> Plan:
    """Tell what suits a manifest's network."""
    return PLANS.get(manifest.architecture or "", Plan(steps=10_000))


def open_task(subject: Subject) -> Task[Any]:
    """Open the task of a manifest's network. Raises TrainingError for one that nobody teaches."""
    architecture = subject.manifest.architecture or ""
    if architecture not in TASKS:
        raise TrainingError(
            f"{subject.manifest.name}: a network of architecture {architecture!r} cannot be trained here, only "
            f"{', '.join(sorted(TASKS))}: take a model of one of these"
        )
    _check_size(subject, architecture)
    module, _, name = TASKS[architecture].partition(":")
    make: Callable[[Subject], Task[Any]] = getattr(import_module(module), name)
    return make(subject)


def _check_size(subject: Subject, architecture: str) -> None:
    if subject.size is None:
        return
    if architecture not in _ANY_SIZE:
        raise TrainingError(f"{subject.manifest.name} learns at the size that it is served at: leave out --size")
    if any(side <= 0 or side % _MULTIPLE for side in subject.size):
        raise TrainingError(f"--size {subject.size[0]} {subject.size[1]}: give multiples of {_MULTIPLE}")

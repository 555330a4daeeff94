"""Checkpoints of real networks with random weights, and manifests for them: nothing needs to be fetched."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from engines.manifest import Manifest
from engines.networks import build_network


def network(variant: str = "nano", classes: int = 80, seed: int = 0) -> nn.Module:
    """Build a network whose normalisation does something, and whose outputs stay small."""
    torch.manual_seed(seed)
    made = build_network("yolox", variant, classes)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.6, 1.2)
            nn.init.normal_(module.bias, 0, 0.1)
            module.get_buffer("running_mean").normal_(0, 0.1)
            module.get_buffer("running_var").uniform_(0.6, 1.2)
    return made.eval()


def manifest(
    variant: str = "nano", classes: int = 80, size: tuple[int, int] = (64, 96), candidates: int = 20, key: str = "model"
) -> Manifest:
    """Make the manifest of such a network."""
    return Manifest.model_validate(
        {
            "name": f"yolox-{variant}",
            "task": "detect",
            "architecture": "yolox",
            "variant": variant,
            "labels": [f"class {i}" for i in range(classes)],
            "preprocess": {"size": size, "channels": "bgr", "mean": (100, 110, 120), "std": (60, 70, 80)},
            "decoder": {"kind": "yolox", "candidates": candidates},
            "weights": {"checkpoint": {"file": f"{variant}.pth", "key": key}},
        }
    )


def checkpoint(path: Path, made: nn.Module) -> Path:
    """Save a network as its public implementation does: the state dict among other things of the training."""
    torch.save({"start_epoch": 300, "model": made.state_dict(), "optimizer": {"state": {}, "param_groups": []}}, path)
    return path

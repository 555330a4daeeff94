"""Models to build engines of: small real networks with their manifests, and labels for engines of nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import networks
import numpy as np

from engines.build.base import Identity, Material, Order, Profile
from engines.build.graph import material
from engines.build.sidecar import Label, label
from engines.manifest import read
from engines.types import Array

HERE = Identity("11.4.0", "NVIDIA H200 sm_90")


def bench(folder: Path) -> Material:
    """Put a network that finds bright spots, 64 x 64, on the bench; its graphs go into *folder* too."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = read(networks.manifest(folder))
    return material(manifest, folder / "bright.onnx", folder / "graphs")


def tag(bench: Material, runtime: str = "tensorrt", identity: Identity = HERE, **order: object) -> Label:
    """Write the label of an engine that nobody needs to build."""
    return label(bench, runtime, replace(Order(profile=Profile(1, 8, 8)), **order), identity)  # type: ignore[arg-type]


def frames(rows: int, seed: int = 0) -> dict[str, Array]:
    """Make noise with a bright spot in each image, not always at the same place."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 60, (rows, 64, 64, 3)).astype(np.uint8)
    for row in range(rows):
        y, x = random.integers(0, 4, 2) * 16
        images[row, y : y + 16, x : x + 16] = 250
    return {"frames": images}

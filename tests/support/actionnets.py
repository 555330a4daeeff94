"""Small recognisers of actions in ONNX, whose answers say which way a clip was fed; with manifests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import spox.opset.ai.onnx.v17 as op
from spox import Tensor, Var, argument, build

LABELS = ("early", "late", "right", "down")


def logits_of(clip: np.ndarray, flow: np.ndarray | None) -> np.ndarray:
    """What the networks below say, with NumPy: (T, H, W, 3) in 0..255, (T, H, W, 2) in pixels."""
    if flow is not None:
        u, v = np.clip(flow, -20, 20).mean((1, 2)).T / 20
        return np.array([0, 0, (u * ramp(len(u))).sum(), (v * ramp(len(v))).sum()])
    level = clip.mean((1, 2, 3)) / 255
    return np.array([(level * ramp(len(level))[::-1]).sum(), (level * ramp(len(level))).sum(), 0, 0])


def ramp(length: int) -> np.ndarray:
    """Weights that tell each sample from each other."""
    return np.linspace(1, 8, length, dtype=np.float32) ** 2 / length


def recogniser(folder: Path, name: str, size: tuple[int, int], length: int, fps: float, sees: str = "rgb") -> Path:
    """Write NAME.onnx and NAME.yaml: a clip's level over time as two logits, and its flow as two others."""
    channels = 3 if sees == "rgb" else 2
    clip = argument(Tensor(np.float32, (1, channels, length, *size)))
    rising = _weighted(clip, ramp(length))
    falling = _weighted(clip, ramp(length)[::-1].copy())
    zero = op.mul(rising, op.const(np.float32(0)))
    if sees == "rgb":
        parts = [_mean(falling), _mean(rising), _mean(zero), _mean(zero)]
    else:
        u, v = (op.gather(rising, op.const(np.array([i], np.int64)), axis=1) for i in (0, 1))
        parts = [_mean(zero), _mean(zero), u, v]
    onnx.save(build({"clip": clip}, {"logits": op.concat(parts, axis=1)}), str(folder / f"{name}.onnx"))
    path = folder / f"{name}.yaml"
    path.write_text(
        f"name: {name}\ntask: recognise\nlabels: [{', '.join(LABELS)}]\n"
        f"preprocess: {{size: [{size[0]}, {size[1]}], resize: stretch, std: [255, 255, 255]}}\ndecoder: actions\n"
        f"clip: {{length: {length}, fps: {fps}, input: {sees}}}\nweights: {{onnx: {{file: {name}.onnx}}}}\n"
    )
    return path


def _weighted(clip: Var, weights: np.ndarray) -> Var:
    """Average over the image, and add up over time: (N, C)."""
    level = op.reduce_mean(clip, axes=[3, 4], keepdims=0)
    return op.reduce_sum(op.mul(level, op.const(weights)), op.const(np.array([2], np.int64)), keepdims=0)


def _mean(each: Var) -> Var:
    return op.reduce_mean(each, axes=[1], keepdims=1)

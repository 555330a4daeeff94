"""What a training leaves: a model that streams, with weights that need no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

import yaml

from engines.build.base import Tell, silent
from engines.build.export import export_body
from engines.build.files import write_whole
from engines.build.stored import halved
from engines.manifest import Checkpoint, Manifest, Weights, WeightsFile, read
from engines.train.errors import TrainingError
from engines.train.loop import WEIGHTS

BODY, MANIFEST = "model.onnx", "model.yaml"
_DIGITS = 1_000  # of a line of YAML: labels stay on theirs


def export(manifest: Manifest, out: Path, tell: Tell = silent) -> Manifest:
    """Make of the trained weights in *out* an ONNX body there, and a manifest that names both.

    Their kernels are float16, and computed with as any other model's. Raises TrainingError where nothing is trained
    yet, and BuildError as `export_body` does.
    """
    weights = out / WEIGHTS
    if not weights.is_file():
        raise TrainingError(f"{weights} is not there yet: train first, or name the folder of a training")
    body = export_body(_alone(manifest), weights, tell)
    write_whole(out / BODY, halved(body).SerializeToString(deterministic=True))
    made = manifest.model_copy(update={"weights": _named(out)})
    told = made.model_dump(mode="json", exclude_defaults=True)
    text = yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=_DIGITS, default_flow_style=None)
    write_whole(out / MANIFEST, text.encode())
    tell(f"{out / MANIFEST} is ready: give its path as a model")
    return read(out / MANIFEST)


def _alone(manifest: Manifest) -> Manifest:
    """Read weights as the loop writes them, whatever the public checkpoint is wrapped in."""
    return manifest.model_copy(update={"weights": Weights(checkpoint=Checkpoint(file=WEIGHTS))})


def _named(out: Path) -> Weights:
    onnx, checkpoint = (out / name for name in (BODY, WEIGHTS))
    return Weights(
        onnx=WeightsFile(file=BODY, sha256=sha256(onnx), size=onnx.stat().st_size),
        checkpoint=Checkpoint(file=WEIGHTS, sha256=sha256(checkpoint), size=checkpoint.stat().st_size),
    )


def sha256(path: Path) -> str:
    """Digest a file, in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

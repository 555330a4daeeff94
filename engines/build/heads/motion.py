"""Heads of networks that look at several images: optical flow, and actions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import spox.opset.ai.onnx.v17 as op
from spox import Var

from engines.build.heads.base import shape_of
from engines.errors import BuildError
from engines.manifest import Manifest
from engines.runtimes.checks import shown


def decode_motion(raw: Mapping[str, Var], manifest: Manifest) -> dict[str, Var]:
    """Add the head of a model for flow or for actions. Raises BuildError for outputs that it does not read."""
    return _flow(raw, manifest) if manifest.decoder.kind == "flow" else _actions(raw, manifest)


def _flow(raw: Mapping[str, Var], manifest: Manifest) -> dict[str, Var]:
    """`flow` (N, h, w, 2) in pixels of the network's input, of the finest field where there are several."""
    assert manifest.decoder.kind == "flow"  # noqa: S101 - by the caller
    fields = [var for var in raw.values() if len(_shape(var)) == 4 and _shape(var)[1] == 2]
    if not fields:
        raise _unread(raw, manifest, "(?, 2, h, w)")
    finest = max(fields, key=lambda var: _shape(var)[3] or 0)
    scaled = op.mul(op.cast(finest, to=np.float32), op.const(np.float32(manifest.decoder.scale)))
    return {"flow": op.transpose(scaled, perm=[0, 2, 3, 1])}


def _actions(raw: Mapping[str, Var], manifest: Manifest) -> dict[str, Var]:
    """`probs` (N, C): the softmax of logits."""
    wanted = (len(manifest.labels),)
    logits = [var for var in raw.values() if _shape(var)[1:] == wanted]
    if len(logits) != 1:
        raise _unread(raw, manifest, shown((None, *wanted)))
    return {"probs": op.softmax(op.cast(logits[0], to=np.float32), axis=1)}


def _shape(var: Var) -> tuple[int | None, ...]:
    return shape_of(var) or ()


def _unread(raw: Mapping[str, Var], manifest: Manifest, wanted: str) -> BuildError:
    given = " and ".join(shown(_shape(var)) for var in raw.values())
    return BuildError(
        f"{manifest.name}: decoder {manifest.decoder.kind} reads one output {wanted}, but the network gives {given}: "
        "correct size, labels or decoder in the manifest"
    )

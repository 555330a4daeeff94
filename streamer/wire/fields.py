"""Whole flow fields, for who wants more than the summary: one line of JSON, then zlib's bytes of float16.

The numbers are (h, w, 2), row by row, little-endian: u to the right and v down, in pixels of the source image.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, FiniteFloat, PositiveInt, ValidationError
from pydantic_core import to_json

from engines.types import Float, Flow
from streamer.types import Frame
from streamer.wire.base import SCHEMA, Entry, WireError, explain

_LEVEL = 1  # of zlib: higher ones take several times as long for a few per cent
_MOST = 65504.0  # what float16 holds


class FieldHeader(Entry):
    """What stands before a field."""

    node: Annotated[str, Field(description="the graph node that found it")]
    size: Annotated[tuple[PositiveInt, PositiveInt], Field(description="width and height of the source image")]
    grid: Annotated[tuple[PositiveInt, PositiveInt], Field(description="rows and columns, over all of the image")]
    seconds: FiniteFloat | None = None
    dtype: Literal["<f2"]
    coding: Literal["zlib"]


@dataclass(frozen=True, slots=True, eq=False)
class FlowField:
    """A flow field and where it belongs."""

    camera: str
    node: str
    seq: int
    pts: float
    captured_at: float
    size: tuple[int, int]  # width and height of the source image, in pixels
    flow: Flow


def encode_field(node: str, flow: Flow, frame: Frame) -> bytes:
    """Write a whole field. Raise WireError for what is not finite."""
    if not np.isfinite(flow.uv).all():
        raise WireError(f"node {node}: a vector is not finite; check its model and its precision")
    header = {
        "schema": SCHEMA,
        "camera": frame.camera,
        "node": node,
        "seq": frame.seq,
        "pts": round(frame.pts, 3),
        "captured_at": round(frame.captured_at, 3),
        "size": frame.image.shape[1::-1],
        "grid": flow.uv.shape[:2],
        **({} if flow.seconds is None else {"seconds": round(flow.seconds, 6)}),
        "dtype": "<f2",
        "coding": "zlib",
    }
    half = np.clip(flow.uv, -_MOST, _MOST).astype("<f2")
    return to_json(header) + b"\n" + zlib.compress(half.tobytes(), _LEVEL)


def decode_field(data: bytes) -> FlowField:
    """Read a whole field. Raise WireError when *data* is none, or of another schema version."""
    line, _, body = data.partition(b"\n")
    try:
        head = FieldHeader.model_validate_json(line)
    except ValidationError as error:
        raise WireError(explain(error, "flow field")) from error
    return FlowField(
        head.camera,
        head.node,
        head.seq,
        head.pts,
        head.captured_at,
        head.size,
        Flow(_numbers(body, head), head.seconds),
    )


def _numbers(body: bytes, head: FieldHeader) -> Float:
    wanted = 4 * head.grid[0] * head.grid[1]
    try:
        raw = zlib.decompressobj().decompress(body, wanted + 1)  # and no more, whatever somebody sends
    except zlib.error as error:
        raise WireError(f"flow field: its numbers cannot be unpacked: {error}; see who writes to this key") from error
    if len(raw) != wanted:
        raise WireError(f"flow field: has not the {wanted} bytes that its grid takes; check who writes to this key")
    uv: Float = np.frombuffer(raw, "<f2").reshape(*head.grid, 2).astype(np.float32)
    return uv

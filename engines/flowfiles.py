"""Flow fields in files: Middlebury's .flo, the 16-bit PNG of KITTI, and NumPy's .npz with the array `uv`.

Baker et al. 2011, "A Database and Evaluation Methodology for Optical Flow"; Menze and Geiger 2015, "Object Scene Flow".
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np

from engines.errors import ModelError
from engines.types import Bool, Float, check

_MAGIC = b"PIEH"  # 202021.25 as a little-endian float
_UNKNOWN = 1e9  # Middlebury: components beyond it are no measurement
_KITTI_ZERO, _KITTI_STEPS = 2**15, 64.0  # of a pixel
_LONGEST = 1 << 15  # pixels a side: more is a damaged header


@dataclass(frozen=True, slots=True, eq=False)
class FlowField:
    """A field in pixels, and where it is known."""

    uv: Float  # (H, W, 2): to the right and down
    known: Bool  # (H, W)

    def __post_init__(self) -> None:
        check("uv", self.uv, (None, None, 2), np.float32)
        check("known", self.known, self.uv.shape[:2], np.bool_)


def read_flow(path: Path) -> FlowField:
    """Read a .flo, a KITTI .png or an .npz. Raises ModelError for what is none of them."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}): correct the path") from error
    read = {".png": _from_kitti, ".npz": _from_npz}.get(path.suffix.lower(), _from_flo)
    return read(data, path)


def write_flow(path: Path, field: FlowField) -> None:
    """Write a .flo, or a KITTI .png where the name ends so: in steps of 1/64 pixel, up to 512 pixels each way."""
    path.write_bytes(_to_kitti(field) if path.suffix.lower() == ".png" else _to_flo(field))


def _from_flo(data: bytes, path: Path) -> FlowField:
    width, height = (int(n) for n in np.frombuffer(data[4:12].ljust(8, b"\0"), "<i4"))
    whole = 0 < width <= _LONGEST and 0 < height <= _LONGEST and len(data) == 12 + 8 * width * height
    if data[:4] != _MAGIC or not whole:
        raise ModelError(f"{path} is no .flo file, or a damaged one: it must be Middlebury's format, or KITTI's .png")
    uv = np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2).astype(np.float32)
    known: Bool = np.all(np.abs(uv) < _UNKNOWN, axis=2)  # nor is NaN
    return FlowField(np.where(known[..., None], uv, np.float32(0)), known)


def _from_npz(data: bytes, path: Path) -> FlowField:
    try:
        with np.load(BytesIO(data), allow_pickle=False) as arrays:
            uv = np.asarray(arrays["uv"])
    except Exception as error:  # what NumPy and the modules that it unpacks with raise has no base of its own
        raise ModelError(f"{path} is no .npz file with an array 'uv', or a damaged one: save it again") from error
    if uv.ndim != 3 or uv.shape[2] != 2 or uv.dtype.kind != "f":
        raise ModelError(f"{path}: its 'uv' is {uv.dtype} {uv.shape}, but a flow field is one of floats, (H, W, 2)")
    known: Bool = np.asarray(np.isfinite(uv).all(axis=2))
    return FlowField(np.where(known[..., None], uv, 0).astype(np.float32), known)


def _to_flo(field: FlowField) -> bytes:
    height, width = field.known.shape
    uv = np.where(field.known[..., None], field.uv, np.float32(10 * _UNKNOWN))
    return _MAGIC + np.array([width, height], "<i4").tobytes() + uv.astype("<f4").tobytes()


def _from_kitti(data: bytes, path: Path) -> FlowField:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if image is None or image.dtype != np.uint16 or image.ndim != 3 or image.shape[2] != 3:
        raise ModelError(f"{path} is no flow field of KITTI's: it must be a PNG of three channels of 16 bits")
    # OpenCV turns RGB around: u was red, v green, and blue says where they are known.
    known: Bool = np.asarray(image[..., 0] > 0)
    uv = (image[..., 2:0:-1].astype(np.float32) - _KITTI_ZERO) / np.float32(_KITTI_STEPS)
    return FlowField(np.where(known[..., None], uv, np.float32(0)), known)


def _to_kitti(field: FlowField) -> bytes:
    steps = np.clip(np.rint(field.uv * _KITTI_STEPS) + _KITTI_ZERO, 0, 2**16 - 1).astype(np.uint16)
    image = np.dstack([field.known.astype(np.uint16), np.where(field.known[..., None], steps[..., ::-1], 0)])
    _, data = cv2.imencode(".png", image.astype(np.uint16))
    return data.tobytes()

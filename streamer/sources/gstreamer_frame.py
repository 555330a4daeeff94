"""A GStreamer buffer becomes an FFmpeg frame without a copy, and that RGB: one conversion for all sources.

FFmpeg's scaler knows colour matrices and ranges, which OpenCV's does not, and so the pixels are those of the `av`
source. PyGObject hands out mapped memory as a copy; the two calls below, through ctypes, hand out the memory itself.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt

from engines.types import Image
from streamer.errors import SourceError
from streamer.sources.convert import to_rgb as convert
from streamer.sources.gstreamer_library import gstreamer

_FFMPEG_NAMES = {
    "I420": "yuv420p",
    "NV12": "nv12",
    "Y42B": "yuv422p",
    "Y444": "yuv444p",
    "GRAY8": "gray",
    "RGB": "rgb24",
    "BGR": "bgr24",
    "YUY2": "yuyv422",
    "UYVY": "uyvy422",
    "I420_10LE": "yuv420p10le",
    "I422_10LE": "yuv422p10le",
    "Y444_10LE": "yuv444p10le",
    "P010_10LE": "p010le",
    "GBR": "gbrp",
}
_PACKED = frozenset({"rgb24", "bgr24", "yuyv422", "uyvy422"})
_MATRICES = {"rgb": 0, "bt709": 1, "fcc": 4, "bt601": 5, "smpte240m": 7, "bt2020": 9}  # in FFmpeg's numbers
_UNKNOWN_MATRIX = 2
_FULL_RANGE, _VIDEO_RANGE = 2, 1
_TURNS = {"rotate-90": 3, "rotate-180": 2, "rotate-270": 1}  # clockwise there, quarter turns counter-clockwise here


@dataclass(frozen=True, slots=True)
class Layout:
    """How the pictures of one caps lie in memory, and what their colours mean."""

    pix_fmt: str  # FFmpeg's name
    size: tuple[int, int]  # width, height
    strides: tuple[int, ...]  # bytes a row of each plane, unless the buffer itself says otherwise
    offsets: tuple[int, ...]
    matrix: int = _UNKNOWN_MATRIX
    colour_range: int = _VIDEO_RANGE
    turns: int = 0  # quarter turns counter-clockwise that make it upright

    @property
    def even(self) -> bool:
        return not (self.size[0] % 2 or self.size[1] % 2)


def layout_of(caps: Any, orientation: str = "", tagged: bool = True) -> Layout:
    """Read *caps*; where the stream itself names no colours, a decoder's guess by size is not taken (not *tagged*).

    FFmpeg, OpenCV and the data that models learn from take such pictures for BT.601 at any size.
    """
    info = gstreamer().GstVideo.VideoInfo.new_from_caps(caps)
    planes = info.finfo.n_planes
    matrix, colour_range = _colours(caps)
    return Layout(
        _FFMPEG_NAMES[info.finfo.name],
        (info.width, info.height),
        tuple(info.stride[:planes]),
        tuple(info.offset[:planes]),
        matrix if tagged else _UNKNOWN_MATRIX,
        colour_range,
        _TURNS.get(orientation, 0),
    )


def _colours(caps: Any) -> tuple[int, int]:
    """Return matrix and range in FFmpeg's numbers, of the caps' own words: VideoInfo puts a guess for any gap."""
    colours = gstreamer().GstVideo.VideoColorimetry()
    text = caps.get_structure(0).get_string("colorimetry")
    if text is None or not colours.from_string(text):
        return _UNKNOWN_MATRIX, _VIDEO_RANGE
    full = colours.range.value_nick == "0-255"
    return _MATRICES.get(colours.matrix.value_nick, _UNKNOWN_MATRIX), _FULL_RANGE if full else _VIDEO_RANGE


def to_rgb(buffer: Any, layout: Layout, size: tuple[int, int] | None = None) -> Image:
    """Convert to read-only RGB (H, W, 3) upright, scaled to *size* (width, height). Raises SourceError.

    Any thread may do so, long after the pipeline has ended: the buffer lives as long as whoever holds it.
    """
    unturned = size[::-1] if size and layout.turns % 2 else size
    if layout.pix_fmt == "rgb24" and unturned in (None, layout.size):
        image = cast("Image", next(_planes(buffer, layout)))
    else:
        image = convert(_frame(buffer, layout), unturned)
    if layout.turns:
        image = np.ascontiguousarray(np.rot90(image, layout.turns))
    image.flags.writeable = False
    return image


def _frame(buffer: Any, layout: Layout) -> av.VideoFrame:
    planes = [*_planes(buffer, layout)]
    if layout.pix_fmt in _PACKED or not layout.even:  # which PyAV cannot wrap
        frame = _copied(planes, layout)
    else:
        frame = av.VideoFrame.from_dlpack(planes, format=layout.pix_fmt, width=layout.size[0], height=layout.size[1])
    frame.colorspace, frame.color_range = layout.matrix, layout.colour_range
    return frame


def _copied(planes: Sequence[npt.NDArray[Any]], layout: Layout) -> av.VideoFrame:
    frame = av.VideoFrame(*layout.size, layout.pix_fmt)
    for plane, pixels in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(cast("Any", plane), np.uint8).reshape(-1, plane.line_size)
        packed = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
        rows[: len(packed), : packed.shape[1]] = packed
    return frame


def _planes(buffer: Any, layout: Layout) -> Iterator[npt.NDArray[Any]]:
    """View each plane of *buffer*, without its padding."""
    meta = gstreamer().GstVideo.buffer_get_video_meta(buffer)
    strides, offsets = (layout.strides, layout.offsets) if meta is None else (meta.stride, meta.offset)
    memory = np.asarray(_Mapped(buffer))
    for (shape, steps, dtype), stride, offset in zip(
        _shapes(layout.pix_fmt, layout.size), strides, offsets, strict=False
    ):
        try:
            yield np.ndarray(shape, dtype, cast("Any", memory), offset, (stride, *steps))
        except (TypeError, ValueError) as error:  # rows that reach beyond the buffer's end
            raise SourceError(
                f"a frame of {layout.size} has a buffer that is too small ({memory.size} bytes)"
            ) from error


_Shape = tuple[tuple[int, ...], tuple[int, ...], type[np.generic]]


@functools.lru_cache(maxsize=64)
def _shapes(pix_fmt: str, size: tuple[int, int]) -> tuple[_Shape, ...]:
    """Return shape, steps within a row, and type of each plane."""
    width, height = size
    if pix_fmt in ("rgb24", "bgr24"):
        return (((height, width, 3), (3, 1), np.uint8),)
    if pix_fmt in _PACKED:
        return (((height, -(-width // 2) * 4), (1,), np.uint8),)
    form = av.VideoFormat(pix_fmt, width, height)
    dtype, item = (np.uint16, 2) if form.components[0].bits > 8 else (np.uint8, 1)
    columns, rows = form.chroma_width(width), form.chroma_height(height)
    luma: _Shape = ((height, width), (item,), dtype)
    if pix_fmt in ("nv12", "p010le"):
        return luma, ((rows, columns * 2), (item,), dtype)
    chroma: _Shape = ((rows, columns), (item,), dtype)
    return luma, *(luma if form.is_rgb else chroma for _ in form.components[1:])


# --- memory ---


class _MapInfo(ctypes.Structure):
    """GstMapInfo, as gst/gstmemory.h has it since 1.0."""

    _fields_ = (
        ("memory", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("maxsize", ctypes.c_size_t),
        ("user_data", ctypes.c_void_p * 4),
        ("reserved", ctypes.c_void_p * 4),
    )


class _Mapped:
    """The bytes of a buffer, mapped for reading for as long as an array looks at them."""

    def __init__(self, buffer: Any) -> None:
        self._info = _MapInfo()
        if not _library().gst_buffer_map(hash(buffer), ctypes.byref(self._info), 1):  # GST_MAP_READ
            raise SourceError("a frame's memory cannot be mapped; end the pipeline's tail in main memory")
        self._buffer = buffer
        # Said to be writable, which it is not: DLPack knows no read-only arrays. Only `convert` ever sees it.
        self.__array_interface__ = {
            "version": 3,
            "shape": (self._info.size,),
            "typestr": "|u1",
            "data": (self._info.data, False),
        }

    def __del__(self) -> None:
        if (buffer := getattr(self, "_buffer", None)) is not None:
            _library().gst_buffer_unmap(hash(buffer), ctypes.byref(self._info))


@functools.cache
def _library() -> ctypes.CDLL:
    """Load the library that PyGObject has loaded already. The hash of its buffers is their address."""
    library = ctypes.CDLL("libgstreamer-1.0.so.0")
    library.gst_buffer_map.argtypes = [ctypes.c_void_p, ctypes.POINTER(_MapInfo), ctypes.c_int]
    library.gst_buffer_unmap.argtypes = [ctypes.c_void_p, ctypes.POINTER(_MapInfo)]
    library.gst_buffer_unmap.restype = None
    return library

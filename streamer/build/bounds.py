"""How much memory frames may take: every buffer has a bound, and these are they."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from streamer import config
from streamer.fleet import Buffers

_DECODED, _RGB = 1.5, 3.0  # bytes a pixel: planar YUV with halved colour, and RGB
_BEGUN = 2  # batches more that a stage holds that works ahead, as it may on recordings: begun, and being finished


@dataclass(frozen=True, slots=True)
class FrameMemory:
    """Bytes, at most."""

    waiting: int  # decoded, in front of the batcher
    inside: int  # RGB, in the graph

    def __str__(self) -> str:
        mega = (self.waiting / 2**20, self.inside / 2**20)
        return f"frames take at most {sum(mega):.0f} MB: {mega[0]:.0f} decoded and waiting, {mega[1]:.0f} in the graph"


def frame_memory(
    settings: config.Pipeline, sizes: Mapping[str, tuple[int, int]], live: Mapping[str, bool]
) -> FrameMemory:
    """Add up the bounds for cameras whose pictures are *sizes*, (width, height)."""
    limits, stages = settings.limits, len(settings.nodes)
    buffers = Buffers(limits.live_frames, limits.file_frames)
    pixels = {name: width * height for name, (width, height) in sizes.items()}
    kept = {name: buffers.of(settings.cameras[name].priority, live=live[name]) for name in sizes}
    held = limits.batches + 1  # by a stage: those that wait in front of it, and the one in hand
    ahead = 0 if any(live.values()) else _BEGUN
    batches = stages * (held + ahead) + held + 1  # by the publisher as by a stage, and the one that is being made
    return FrameMemory(
        waiting=round(_DECODED * sum((kept[name] + 1) * area for name, area in pixels.items())),  # 1: in the decoder
        inside=round(_RGB * batches * limits.batch * max(pixels.values(), default=0)),
    )

"""Long recordings that cost little: short clips are encoded once, and their coded packets written again and again."""

from __future__ import annotations

import tempfile
from pathlib import Path

import av
from videos import Clip, write


def reel(path: Path, seconds: float, *clips: Clip) -> Path:
    """Play each of *clips* over and over for *seconds*, one clip after the other, into *path*.

    They share codec and frame rate. Clips of several sizes need a transport stream, where each keyframe says its own.
    """
    with tempfile.TemporaryDirectory() as folder, av.open(str(path), "w") as out:
        parts = [write(Path(folder) / f"{i}{path.suffix}", clip) for i, clip in enumerate(clips)]
        with av.open(str(parts[0])) as first:
            stream = out.add_stream_from_template(first.streams.video[0])
        start = 0.0
        for part, clip in zip(parts, clips, strict=True):
            for _ in range(max(1, round(seconds * clip.fps / clip.frames))):
                _append(out, stream, part, start)
                start += clip.frames / clip.fps
    return path


def _append(out: av.container.OutputContainer, stream: av.VideoStream, part: Path, start: float) -> None:
    with av.open(str(part)) as container:
        template = container.streams.video[0]
        assert template.time_base is not None
        first = template.start_time or 0
        shift = round(start / template.time_base) - first
        for packet in container.demux(template):
            if packet.dts is not None and packet.pts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                out.mux(packet)

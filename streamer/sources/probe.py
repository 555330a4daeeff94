"""What a recording says of itself before it is decoded."""

from __future__ import annotations

import av

from streamer.sources.address import parse_url


def expected_frames(url: str) -> int | None:
    """Tell how many frames a video promises; None where it does not say. For progress bars: containers may be wrong."""
    address = parse_url(url)
    if address.scheme != "file":  # a server may take its time, and nobody could interrupt the wait
        return None
    try:
        with av.open(address.target) as container:
            if not container.streams.video:
                return None
            stream = container.streams.video[0]
            if stream.frames:
                return stream.frames
            seconds = container.duration and container.duration / av.time_base
            return round(seconds * stream.average_rate) if seconds and stream.average_rate else None
    except (av.FFmpegError, OSError):  # whoever reads it next says what is wrong with it, better than we could here
        return None

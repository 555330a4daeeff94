"""From a decoder's time stamps, which may be missing, repeated or torn, to seconds that a pipeline can rely on."""

from __future__ import annotations

_GAP = 5.0  # seconds that may pass without a picture before what follows is another scene
_STEPS = 10  # … or so many frame times, for cameras that send less than a picture a second
_BACK = 1.0  # seconds by which stamps may go back and still be jitter
_NUDGE = 0.001  # seconds between two frames that claim the same moment
_WRAPS = (2**33 / 90_000, 2**32 / 90_000)  # seconds after which MPEG's and RTP's stamps of 90 kHz begin again


class MediaTime:
    """The media time of one opened stream: strictly increasing between breaks, and near 0 at its start."""

    def __init__(self, step: float, start: float | None = None) -> None:
        """Take *step* seconds for frames without a stamp; *start* is the stamp of time 0, None: the first one is."""
        self._step, self._start = step, start
        self._last: float | None = None

    def place(self, stamp: float | None) -> tuple[float, bool]:
        """Return the media time of the next frame, and whether it breaks with the one before."""
        pts, breaks = self._read(stamp), False
        if self._last is not None:
            ahead = pts - self._last
            breaks = ahead < -_BACK or ahead > max(_GAP, _STEPS * self._step)
            if not breaks:
                pts = max(pts, self._last + _NUDGE)
        self._last = pts
        return pts, breaks

    def _read(self, stamp: float | None) -> float:
        following = 0.0 if self._last is None else self._last + self._step
        if stamp is None:
            return following
        if self._start is None:
            self._start = stamp - following
        if self._last is not None:
            self._start -= _wrapped(self._last - (stamp - self._start))
        return stamp - self._start


def _wrapped(back: float) -> float:
    """Return the seconds to add to a stamp that lies *back* seconds in the past, if its counter has begun again."""
    return next((wrap for wrap in _WRAPS if -_GAP < back - wrap < _BACK), 0.0)

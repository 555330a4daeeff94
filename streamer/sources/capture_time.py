"""Whether a camera's own word on when a picture was taken can be believed."""

from __future__ import annotations

import logging

from streamer.clock import Clock

log = logging.getLogger(__name__)

_BEHIND = 10.0  # seconds that a picture may have been on its way
_AHEAD = 1.0  # seconds by which two clocks that are both set by NTP may still disagree
_NTP_TO_UNIX = 2_208_988_800  # seconds from 1900 to 1970 (RFC 5905)


def unix_of_ntp(seconds: float) -> float:
    """Turn seconds since 1900, as RTCP sender reports have them, into Unix seconds."""
    return seconds - _NTP_TO_UNIX


class CaptureClock:
    """Compare one camera's clock with this machine's, frame by frame. Keep it over reconnects; one thread at a time.

    A camera whose clock was never set says 1970, or summer time: its word would make latencies that mean nothing.
    """

    def __init__(self, camera: str, clock: Clock) -> None:
        self._camera, self._clock = camera, clock
        self._latest = float("-inf")
        self._complained = False

    def captured_at(self, ntp_unix: float | None) -> float | None:
        """Return the capture time to trust, never earlier than the one before; None: the time of arrival counts.

        *ntp_unix* is what the camera's sender report says, Unix seconds; None where there is none (yet).
        """
        if ntp_unix is None:
            return None
        behind = self._clock.time() - ntp_unix
        if not -_AHEAD <= behind <= _BEHIND:
            self._complain(behind)
            return None
        self._latest = max(self._latest, ntp_unix)
        return self._latest

    def _complain(self, behind: float) -> None:
        if self._complained:
            return
        self._complained = True
        log.warning(
            "%s: its clock is %.0f s %s this machine's, so the time of arrival counts as that of capture; "
            "set NTP on the camera",
            self._camera,
            abs(behind),
            "behind" if behind > 0 else "ahead of",
            extra={"camera": self._camera},
        )

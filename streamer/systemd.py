"""What a service tells systemd: that it is ready, how it is doing, that it is still alive. Nothing without systemd.

The protocol of sd_notify(3): datagrams of ``NAME=value`` lines to the socket that $NOTIFY_SOCKET names.
"""

from __future__ import annotations

import logging
import os
import socket
from collections import Counter
from collections.abc import Mapping

from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.health import Health
from streamer.stats import Stats

log = logging.getLogger(__name__)

_PATIENCE = 0.1  # seconds for the receiver to take a message
_SHORTEST = 1.0  # seconds between two signs of life: nobody gives them more often
_REFRESH = 10.0  # seconds after which the figures in the status are old, where there is no watchdog


class Notifier:
    """Tell whoever started this process, where they want to hear it. Never raises, and hardly waits."""

    def __init__(self, environ: Mapping[str, str] = os.environ, clock: Clock = SYSTEM_CLOCK) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._clock, self._faulty = clock, False
        self.interval = _interval(environ)  # seconds between two signs of life; None: nobody waits for them

    @property
    def listened_to(self) -> bool:
        """Whether anybody wants to hear it."""
        return self._address is not None

    def ready(self) -> None:
        """Say that the service has started, or has read its configuration anew."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Say that the configuration is being read anew; `ready` says that this is over."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={self._clock.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Say in one line how it is going: `systemctl status` shows it."""
        self._send(f"STATUS={' '.join(text.split())}")

    def watchdog(self) -> None:
        """Give a sign of life."""
        self._send("WATCHDOG=1")

    def _send(self, state: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
                link.settimeout(_PATIENCE)
                link.sendto(state.encode(), self._address)
        except OSError as error:
            if not self._faulty:
                log.warning("$NOTIFY_SOCKET does not take messages (%s); going on without", error)
            self._faulty = True
        else:
            self._faulty = False


def _address(text: str) -> str | None:
    """Read $NOTIFY_SOCKET: a path, or after an @ a name in the kernel's abstract space."""
    if text.startswith("@"):
        return f"\0{text[1:]}"
    if text and not text.startswith("/"):
        log.warning("$NOTIFY_SOCKET is %r, which is neither a path nor an @name; going on without", text)
        return None
    return text or None


def _interval(environ: Mapping[str, str]) -> float | None:
    """Read how often to give signs of life: twice in the time that systemd waits, if it waits for this process."""
    limit, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", str(os.getpid()))
    if not limit.isdecimal() or not int(limit) or pid != str(os.getpid()):
        return None
    interval = int(limit) / 2e6
    if interval < _SHORTEST:
        log.warning("WatchdogSec=%g is shorter than a busy machine may need; give 10 or more", 2 * interval)
    return interval


class Watchdog:
    """Give signs of life as long as the pipeline is alive. When it hangs they stay out, and systemd starts it anew."""

    def __init__(self, notifier: Notifier, clock: Clock = SYSTEM_CLOCK) -> None:
        self._notifier, self._clock = notifier, clock
        self._every_ns = int(min(notifier.interval or _REFRESH, _REFRESH) * 1e9)
        self._due_ns: int | None = None
        self._before: Health | None = None

    def beat(self, health: Health, stats: Stats | None = None) -> None:
        """Look at the pipeline, about once a second; with *stats* the status has figures."""
        now, changed = self._clock.monotonic_ns(), health != self._before
        self._tell(health)
        self._before = health
        # A second early is early enough; half a second late may be too late.
        if not changed and self._due_ns is not None and now < self._due_ns - _SHORTEST * 1e9:
            return
        self._due_ns = now + self._every_ns
        self._notifier.status(status_line(health, stats))
        if health.alive:
            self._notifier.watchdog()

    def _tell(self, health: Health) -> None:
        was_alive = self._before is None or self._before.alive
        if was_alive and not health.alive:
            said = "; ".join(health.troubles) or "something hangs"
            waits = self._notifier.interval is not None
            log.error("%s%s", said, "; systemd hears no sign of life until that is over" if waits else "")
        elif health.alive and not was_alive:
            log.warning("the pipeline is alive again")


def status_line(health: Health, stats: Stats | None = None) -> str:
    """Say how a pipeline is doing: ``3 of 4 cameras running, 74 FPS; yard: retrying: …``."""
    parts = [] if stats is None else [_figures(stats)]
    if not health.alive:
        parts.append("hangs")
    elif stats is None:
        parts.append("running" if health.ready else "no camera is running")
    return "; ".join([*parts, *health.troubles])


def _figures(stats: Stats) -> str:
    states = Counter(camera.state for camera in stats.cameras.values())
    running, cameras = states["running"], len(stats.cameras)
    count = f"{running}" if running == cameras else f"{running} of {cameras}"
    dropped = sum(sum(camera.dropped.values()) for camera in stats.cameras.values())
    fps = sum(camera.fps_out for camera in stats.cameras.values())
    return f"{count} {'camera' if cameras == 1 else 'cameras'} running, {fps:.0f} FPS, {dropped} frames dropped"

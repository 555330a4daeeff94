"""What this process and its machine are at: CPU, memory, threads, files, GPUs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import replace

import psutil

from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.monitor.gpus import Gpus, find_gpus
from streamer.stats import GpuStats, ProcessStats, Stats

log = logging.getLogger(__name__)

_FRESH = 0.9  # seconds: shares over less are noise, and several exporters ask in the same second


class Machine:
    """Read this process and its machine, at most about once a second. Thread-safe.

    Nobody waits for a GPU, whose driver may hang: what it tells is there the next time.
    """

    def __init__(self, gpus: Gpus | None = None, clock: Clock = SYSTEM_CLOCK) -> None:
        self._gpus, self._clock = gpus, clock
        self._process = psutil.Process()
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._cpu = _Share(_seconds(self._process), self._now())
        self._machine_cpu = _Share(*_machine())
        self._told: ProcessStats | None = None
        self._told_of_gpus: Mapping[str, GpuStats] = {}
        self._asking: threading.Thread | None = None

    @classmethod
    def found(cls) -> Machine:
        """Return this machine, with its GPUs where their driver can be asked."""
        return cls(find_gpus())

    def add_to(self, stats: Stats) -> Stats:
        """Return *stats* with `process` and `gpus`."""
        now = self._now()
        with self._lock:
            if now - self._read_at >= _FRESH:
                self._read_at = now
                self._refresh(now)
            return replace(stats, process=self._told, gpus=self._told_of_gpus)

    def _refresh(self, now: float) -> None:
        try:
            self._told = self._read(now)
        except (OSError, psutil.Error) as error:  # out of file descriptors, say: the last reading stands
            log.warning("the figures of this process cannot be read: %s", error)
        if self._gpus is not None and (self._asking is None or not self._asking.is_alive()):
            self._asking = threading.Thread(target=self._ask, args=(self._gpus,), name="gpus", daemon=True)
            self._asking.start()

    def _ask(self, gpus: Gpus) -> None:
        self._told_of_gpus = gpus.read()

    def _read(self, now: float) -> ProcessStats:
        with self._process.oneshot():
            seconds = _seconds(self._process)
            return ProcessStats(
                cpu_seconds=round(seconds, 2),
                cpu=round(self._cpu.of(seconds, now), 3),
                rss=self._process.memory_info().rss,
                threads=self._process.num_threads(),
                files=self._process.num_fds(),
                started=self._process.create_time(),
                machine_cpu=round(self._machine_cpu.of(*_machine()), 3),
            )

    def _now(self) -> float:
        return self._clock.monotonic_ns() / 1e9


class _Share:
    """How much of what has passed since the last look was spent."""

    def __init__(self, spent: float, passed: float) -> None:
        self._spent, self._passed = spent, passed

    def of(self, spent: float, passed: float) -> float:
        share = (spent - self._spent) / (passed - self._passed) if passed > self._passed else 0.0
        self._spent, self._passed = spent, passed
        return max(0.0, share)


def _seconds(process: psutil.Process) -> float:
    spent = process.cpu_times()
    return float(spent.user + spent.system)


def _machine() -> tuple[float, float]:
    """Return the seconds that all cores together were busy, and were there, since the machine's start."""
    times = psutil.cpu_times()._asdict()
    there = sum(seconds for kind, seconds in times.items() if not kind.startswith("guest"))  # user has them already
    return there - times["idle"] - times.get("iowait", 0.0), there

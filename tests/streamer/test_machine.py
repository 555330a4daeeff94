"""Figures of the process and its GPUs: the process is this one, the GPUs are a fake library's."""
# ruff: noqa: N802 - the fake's functions are named as those of pynvml

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from redisworld import eventually
from worlds import ManualClock

from streamer.monitor.gpus import Gpus, find_gpus
from streamer.monitor.machine import Machine
from streamer.stats import GpuStats, Stats


class NvmlError(Exception):
    pass


@dataclass
class FakeNvml:
    """Two devices, as `pynvml` would tell; *mute* are the questions that the second one does not answer."""

    mute: frozenset[str] = frozenset()
    started: bool = False
    asked: list[str] = field(default_factory=list)
    hang: threading.Event | None = None  # what an answer waits for
    hanging: threading.Event = field(default_factory=threading.Event)
    NVMLError = NvmlError
    NVML_TEMPERATURE_GPU = 0

    def nvmlInit(self) -> None:
        self.started = True

    def nvmlDeviceGetCount(self) -> int:
        assert self.started
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:
        return f"GPU model {handle}"

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        if self.hang is not None:
            self.hanging.set()
            self.hang.wait(10)
        return self._told("busy", handle, SimpleNamespace(gpu=61, memory=20))

    def nvmlDeviceGetDecoderUtilization(self, handle: int) -> list[int]:
        return list(self._told("decoder", handle, [40, 20_000]))

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return self._told("memory", handle, SimpleNamespace(used=3 << 30, total=8 << 30, free=5 << 30))

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        assert sensor == self.NVML_TEMPERATURE_GPU
        return int(self._told("temperature", handle, 45))

    def _told(self, question: str, handle: int, answer: Any) -> Any:
        self.asked.append(question)
        if handle == 1 and question in self.mute:
            raise NvmlError("Not Supported")
        return answer


class NoDriver(FakeNvml):
    def nvmlInit(self) -> None:
        raise NvmlError("NVML Shared Library Not Found")


def missing(name: str) -> Any:
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_this_process_in_figures() -> None:
    clock = ManualClock()
    machine = Machine(None, clock)
    clock.advance(1)
    busy = sum(i * i for i in range(300_000))  # takes some CPU time
    process = machine.add_to(Stats(0.0)).process
    assert busy
    assert process is not None
    mine = psutil.Process()
    assert process.rss == pytest.approx(mine.memory_info().rss, rel=0.3)
    assert process.threads == mine.num_threads()
    assert process.files == pytest.approx(mine.num_fds(), abs=3)
    assert process.cpu_seconds == pytest.approx(sum(mine.cpu_times()[:2]), abs=0.1)
    assert process.cpu > 0
    assert 0 <= process.machine_cpu <= 1


def test_several_exporters_in_one_second_get_one_reading() -> None:
    clock, library = ManualClock(), FakeNvml()
    machine = Machine(Gpus(library), clock)
    first = machine.add_to(Stats(0.0)).process
    eventually(lambda: machine.add_to(Stats(0.0)).gpus, "what the GPUs tell")
    assert machine.add_to(Stats(1.0)).process is first
    assert library.asked == ["busy", "decoder", "memory", "temperature"] * 2
    clock.advance(1)
    assert machine.add_to(Stats(2.0)).process is not first
    eventually(lambda: len(library.asked) == 16, "a second question")


def test_a_driver_that_hangs_holds_up_nobody_and_is_asked_once() -> None:
    clock, library = ManualClock(), FakeNvml(hang=threading.Event())
    machine = Machine(Gpus(library), clock)
    threads = threading.active_count()
    for _ in range(3):
        clock.advance(1)
        stats = machine.add_to(Stats(0.0))
        assert stats.process is not None
        assert stats.gpus == {}
    assert library.hanging.wait(10)
    assert threading.active_count() == threads + 1
    assert library.hang is not None
    library.hang.set()
    eventually(lambda: machine.add_to(Stats(0.0)).gpus, "what the GPUs tell")


def test_gpus_tell_what_they_can() -> None:
    gpus = Gpus(FakeNvml(frozenset({"decoder", "memory"}))).read()
    assert gpus == {
        "0": GpuStats("GPU model 0", 0.61, 0.4, 3 << 30, 8 << 30, 45.0),
        "1": GpuStats("GPU model 1", 0.61, None, None, None, 45.0),
    }


@pytest.mark.parametrize("load", [missing, lambda _: NoDriver()], ids=["no library", "no driver"])
def test_without_gpus_nothing_is_missed(load: Any) -> None:
    assert find_gpus(load) is None


def test_gpus_are_asked_through_pynvml() -> None:
    loaded: list[str] = []
    assert find_gpus(lambda name: loaded.append(name) or FakeNvml()) is not None  # type: ignore[func-returns-value]  # append's None is the point
    assert loaded == ["pynvml"]

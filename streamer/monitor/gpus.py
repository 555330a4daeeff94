"""What NVIDIA's management library says of each GPU.

Not yet run on a GPU: the names were checked against nvidia-ml-py 13, and the reading against a fake library.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from streamer.stats import GpuStats

log = logging.getLogger(__name__)
T = TypeVar("T")


class Gpus:
    """Every NVIDIA GPU of this machine, also those that the pipeline does not use."""

    def __init__(self, library: Any) -> None:
        """*library* is the module `pynvml`, or one like it. Raise its NVMLError where there is no driver."""
        self._nvml = library
        library.nvmlInit()
        handles = [library.nvmlDeviceGetHandleByIndex(index) for index in range(library.nvmlDeviceGetCount())]
        self._devices = [(handle, self._told(library.nvmlDeviceGetName, handle) or "GPU") for handle in handles]

    def read(self) -> dict[str, GpuStats]:
        """Ask each one; what a device cannot tell (a Jetson, a MIG slice, one that fell off the bus) is None."""
        return {str(index): self._read(handle, name) for index, (handle, name) in enumerate(self._devices)}

    def _read(self, handle: Any, name: str) -> GpuStats:
        nvml = self._nvml
        busy = self._told(nvml.nvmlDeviceGetUtilizationRates, handle)
        decoder = self._told(nvml.nvmlDeviceGetDecoderUtilization, handle)  # (percent, sampling period)
        memory = self._told(nvml.nvmlDeviceGetMemoryInfo, handle)
        celsius = self._told(lambda device: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU), handle)
        return GpuStats(
            name,
            None if busy is None else busy.gpu / 100,
            None if decoder is None else decoder[0] / 100,
            None if memory is None else int(memory.used),
            None if memory is None else int(memory.total),
            None if celsius is None else float(celsius),
        )

    def _told(self, question: Callable[[Any], T], handle: Any) -> T | None:
        try:
            return question(handle)
        except self._nvml.NVMLError as error:
            log.debug("NVML does not say: %s", error)
            return None


def find_gpus(load: Callable[[str], Any] = import_module) -> Gpus | None:
    """Return this machine's NVIDIA GPUs; None where nvidia-ml-py or the driver is missing: neither is needed."""
    try:
        library = load("pynvml")
    except ImportError as error:
        log.debug("no figures of GPUs: %s", error)
        return None
    try:
        return Gpus(library)
    except library.NVMLError as error:
        log.debug("no figures of GPUs: %s", error)
        return None

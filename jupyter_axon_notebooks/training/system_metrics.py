"""System metrics: the load of the machine, this process and the GPUs while a run is alive."""

from __future__ import annotations

import importlib
from contextlib import suppress
from typing import Any, Final

import psutil

from ..repository.series import SYSTEM_PREFIX

_GIB: Final = 1 << 30


class SystemSampler:
    """Samples of system metrics; the CPU's load is that since the sample before.

    GPUs are read with ``nvidia-ml-py`` where it is installed. Torch and CUDA are not touched, so
    that sampling initialises no GPU.
    """

    def __init__(self) -> None:
        self._process: psutil.Process | None = None
        self._nvml, self._gpus = _open_gpus()
        with suppress(psutil.Error, OSError):
            self._process = psutil.Process()
            self._process.cpu_percent()
        with suppress(psutil.Error, OSError):
            psutil.cpu_percent()

    def sample(self) -> dict[str, float]:
        """Return the metrics by name; those that cannot be read are left out.

        Percentages are of the whole machine, but ``process_cpu_percent`` is of one core. Memory is
        in GiB, and power in watts.
        """
        found: dict[str, float] = {}
        with suppress(psutil.Error, OSError):
            memory = psutil.virtual_memory()
            found["cpu_percent"] = psutil.cpu_percent()
            found["memory_percent"] = memory.percent
        if self._process is not None:
            with suppress(psutil.Error, OSError):
                found["process_cpu_percent"] = self._process.cpu_percent()
                found["process_memory_gib"] = self._process.memory_info().rss / _GIB
        for index, gpu in enumerate(self._gpus):
            for name, value in self._sample_gpu(gpu).items():
                found[f"gpu{index}_{name}"] = value
        return {SYSTEM_PREFIX + name: float(value) for name, value in found.items()}

    def _sample_gpu(self, gpu: Any) -> dict[str, float]:
        nvml, found = self._nvml, {}
        with suppress(nvml.NVMLError):
            found["percent"] = nvml.nvmlDeviceGetUtilizationRates(gpu).gpu
        with suppress(nvml.NVMLError):
            found["memory_gib"] = nvml.nvmlDeviceGetMemoryInfo(gpu).used / _GIB
        with suppress(nvml.NVMLError):
            found["watts"] = nvml.nvmlDeviceGetPowerUsage(gpu) / 1000
        return found


def _open_gpus() -> tuple[Any, list[Any]]:
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
        return nvml, [
            nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())
        ]
    except Exception:  # noqa: BLE001 - no library, no driver, or no GPU
        return None, []

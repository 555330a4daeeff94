"""How many cores this process may use: what the machine has is not what a container or a service is given."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path


def cores(root: Path = Path("/")) -> int:
    """Count the cores of this process: its affinity, or fewer where a control group's quota leaves fewer."""
    # macOS and Windows have no affinity to ask for.
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([mine, *map(math.floor, _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Yield every CPU quota that binds this process, in cores: cgroup v2 from its own group upwards, and v1."""
    groups = root / "sys/fs/cgroup"
    for group in _own_groups(root):
        quota, _, period = _read(groups / group / "cpu.max").partition(" ")
        if quota.isdigit():
            yield int(quota) / int(period)
    quota, period = (_read(groups / "cpu" / name) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
    if quota.isdigit() and period.isdigit():  # without a limit the quota is -1
        yield int(quota) / int(period)


def _own_groups(root: Path) -> Iterator[Path]:
    for line in _read(root / "proc/self/cgroup").splitlines():
        hierarchy, _, path = line.split(":", 2)
        if hierarchy == "0":  # v2
            own = Path(path.lstrip("/"))
            yield from (own, *own.parents)


def _read(path: Path) -> str:
    """Read a small file of the kernel; nothing where this kernel has no such file."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""

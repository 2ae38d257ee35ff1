"""How much memory is free."""

from __future__ import annotations

import re
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def available_memory() -> int | None:
    """Bytes that may still be allocated without swapping, or None where the system does not say (not Linux).

    The least of what the kernel estimates and of what a container's limit leaves.
    """
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _read(MEMINFO), re.MULTILINE)
    numbers = [int(found[1]) * 1024] if found else []
    for limit, usage in CGROUPS:
        most, used = _read(limit).strip(), _read(usage).strip()
        if most.isdigit() and used.isdigit():
            numbers.append(max(0, int(most) - int(used)))
    return min(numbers, default=None)


def _read(path):
    try:
        return path.read_text()
    except OSError:
        return ""

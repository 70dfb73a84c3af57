"""What the figures were taken on."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def describe() -> dict[str, str]:
    """CPU, cores, memory, kernel and distribution."""
    processor = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    megahertz = re.search(r"^cpu MHz\s*: (\d+)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    name = processor.group(1) if processor else platform.machine()
    return {
        "processor": f"{name}, {megahertz.group(1)} MHz" if megahertz else name,
        "cores": str(os.cpu_count()),
        "memory": f"{int(memory.group(1)) / 2**20:.0f} GiB" if memory else "?",
        "kernel": platform.release(),
        "distribution": platform.freedesktop_os_release().get("PRETTY_NAME", "?"),
    }


def sentence() -> str:
    """The same in a line."""
    found = describe()
    return (
        f"{found['processor']}, {found['cores']} cores, {found['memory']}, Linux {found['kernel']},"
        f" {found['distribution']}"
    )

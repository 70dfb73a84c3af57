"""What the server raises for its process: the limit of open files, and the memory that is kept."""

from __future__ import annotations

import gc
import inspect
import platform
import resource
import sys

import pytest

from eventserver.limits import keep_memory, raise_descriptor_limit
from tests import realprograms


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The limits that were set; the process's own stay."""
    seen = [(1024, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda which: seen[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: seen.append(limits))
    return seen


def test_soft_limit_is_raised_to_the_hard_one(limits: list[tuple[int, int]]) -> None:
    assert raise_descriptor_limit() == 4096
    assert limits[1:] == [(4096, 4096)]
    assert raise_descriptor_limit() == 4096
    assert len(limits) == 2


def test_limit_stays_where_the_system_refuses(limits: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(which: int, limits: tuple[int, int]) -> None:
        raise ValueError("not allowed")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_descriptor_limit() == 1024


def faults(first: str) -> int:
    """The page faults of a process that takes, fills and frees four megabytes a hundred times, after `first`."""
    # The module alone: whatever else is imported may free a large block, too.
    script = f"""
import resource, runpy
module = runpy.run_path({inspect.getfile(keep_memory)!r})
{first}
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    blocks = [bytearray(100_000) for _ in range(40)]
    for block in blocks:
        block[::4096] = b"x" * 25
    del blocks, block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    return int(realprograms.run([sys.executable, "-c", script]).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="others have their own ways")
def test_memory_of_the_size_of_batches_is_kept() -> None:
    """Without that each page of it is a fault each time."""
    assert faults("") > 100 * 4_000_000 // 4096 // 2
    assert faults('module["keep_memory"]()') < 5000


@pytest.mark.parametrize(
    ("before", "after"),
    [((700, 10, 11), (2000, 10, 11)), ((20_000, 10, 10), (20_000, 10, 10)), ((0, 10, 10), (0, 10, 10))],
)
def test_garbage_is_looked_for_less_often(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    """Unless somebody has set more, or none at all."""
    thresholds = gc.get_threshold()
    try:
        gc.set_threshold(*before)
        keep_memory()
        assert gc.get_threshold() == after
    finally:
        gc.set_threshold(*thresholds)

"""The limits that the server raises for its process: open files, memory that is kept, and garbage that waits."""

from __future__ import annotations

import gc
import resource

#: Blocks up to this size, and freed memory up to twice as much, glibc is to keep for what comes next.
_KEPT = 4 << 20
#: What a read may bring then, in bytes; without, it had better be 64 KiB.
MOST_READ = 12 << 16
#: So many lists, tuples and the like are made before Python looks for cycles among them, as Python 3.14 does by itself.
#: 700 are fewer than the parts of a batch, which it would find in use each time; after 10,000 it takes long.
_YOUNG = 2000


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files (RLIMIT_NOFILE) to the hard one. Returns the limit that holds now.

    Every connection needs a descriptor, and the soft limit is 1024 on most systems, for the sake of programs that
    use select(). Where the system refuses, the limit stays as it was.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        return soft
    return hard


def keep_memory() -> None:
    """Spare the process work on memory that is soon used again: batches are made and freed all the time.

    glibc gives freed memory back to the system, from 128 KiB on, and each page of it is a fault when it is taken again:
    a fifth of all time with syslog. Once a large block has been freed, it keeps blocks of that size, and twice as much
    (mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD). For a process of our own: others may have set this themselves.
    """
    block = bytes(_KEPT)
    del block
    young, *older = gc.get_threshold()
    if young:
        gc.set_threshold(max(young, _YOUNG), *older)

"""The files of unix sockets that a killed process left behind."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path


def remove_stale(path: str, kind: socket.SocketKind) -> bool:
    """Remove the socket file of a process that is gone; a file that is no socket, or is in use, stays.

    Returns whether nothing is there now. Raises `OSError` if the file cannot be removed.
    """
    try:
        if not stat.S_ISSOCK(Path(path).lstat().st_mode):
            return False
    except FileNotFoundError:
        return True
    with socket.socket(socket.AF_UNIX, kind) as probe:
        # With a full backlog, too, somebody listens.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
            return True
        except OSError:
            pass
    return False


def remove_own_lock(path: str) -> None:
    """Remove a stream socket's file and its lock if the lock is of a process with our own number, and that is gone.

    In a container every server is process 1. Twisted breaks the locks of processes that are gone by itself, but cannot
    tell such a one from its own.
    """
    lock = Path(f"{path}.lock")
    try:
        if str(lock.readlink()) == str(os.getpid()) and remove_stale(path, socket.SOCK_STREAM):
            lock.unlink()
    except OSError:
        # Whatever is wrong there, the attempt to listen says it.
        return

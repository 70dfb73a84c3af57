"""Standard input, read in a thread as it is asked for: it may be a file, a pipe or a terminal."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

_SIZE = 1 << 16


class Reader:
    """Reads a file descriptor; each piece, and an empty one at the end, is handed to `feed` in the reactor's thread.

    Its thread ends with the process: nobody can call back a read of a terminal.
    """

    def __init__(self, descriptor: int, reactor: Any) -> None:
        self._descriptor = descriptor
        self._reactor = reactor
        self._wanted = threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        #: Set by whoever has the lines.
        self.feed: Callable[[bytes], None] = lambda _: None

    def more(self) -> None:
        """Read the next piece."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._read, name="standard input", daemon=True)
            self._thread.start()
        self._wanted.release()

    def _read(self) -> None:
        data = b"-"
        while data:
            self._wanted.acquire()
            try:
                data = os.read(self._descriptor, _SIZE)
            except OSError:
                data = b""
            self._reactor.callFromThread(self._fed, data)

    def _fed(self, data: bytes) -> None:
        self.feed(data)

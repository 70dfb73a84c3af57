"""An asyncio event loop that lets transports read without a turn of the loop for each.

A turn of asyncio's loop (look at the timers, ask the selector, make a handle ready, run it) costs more than to take in
one line. So readers can be given to the selector itself: it calls them while the loop waits, and goes on waiting, until
there is something that only the loop can do. Everything else is asyncio's own, and none of it waits longer than before.
"""

from __future__ import annotations

import asyncio
import contextlib
import select as polling
import selectors
from collections.abc import Callable
from math import ceil
from time import monotonic
from typing import Any


class ReadingSelector(selectors.EpollSelector):
    """asyncio's selector for Linux, in a second epoll beside the descriptors that are read at once.

    `stirred` is set by the loop when something is to be done by it: then the wait is over.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stirred = False
        self._own = self.fileno()
        self._all = polling.epoll()
        self._all.register(self._own, polling.EPOLLIN)
        self._readers: dict[int, Any] = {}
        #: Called with a reader and what its `doRead` returned or raised; they must not raise.
        self.ended: Callable[[Any, Any], object]
        self.failed: Callable[[Any, BaseException], object]

    def watch(self, descriptor: int, reader: Any) -> None:
        """Call `reader.doRead()` whenever the descriptor can be read.

        Raises `OSError` for what cannot be waited for, such as files.
        """
        self._all.register(descriptor, polling.EPOLLIN)
        self._readers[descriptor] = reader

    def forget(self, descriptor: int, reader: Any) -> None:
        """Call it no more. Another reader may have got the same descriptor meanwhile: that one stays."""
        if self._readers.get(descriptor) is reader:
            del self._readers[descriptor]
            # If it was closed, the kernel has forgotten it.
            with contextlib.suppress(OSError):
                self._all.unregister(descriptor)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What asyncio has to see to; empty after `timeout` seconds, or once the loop was given something to do."""
        self.stirred = False
        deadline = None if timeout is None else monotonic() + timeout
        wait, poll, readers, own = _milliseconds(timeout), self._all.poll, self._readers, self._own
        while True:
            ready = poll(wait)
            asked = False
            for descriptor, _events in ready:
                if descriptor in readers:
                    reader = readers[descriptor]
                    try:
                        if why := reader.doRead():
                            self.ended(reader, why)
                    except KeyboardInterrupt:
                        raise
                    except BaseException as error:
                        self.failed(reader, error)
                elif descriptor == own:
                    asked = True
            if asked:
                return super().select(0)
            if self.stirred or not ready:
                return []
            if deadline is not None:
                left = deadline - monotonic()
                if left <= 0:
                    return []
                wait = ceil(left * 1000) * 0.001

    def close(self) -> None:
        """Forget all, and let the kernel's objects go."""
        self._readers.clear()
        self._all.close()
        super().close()


def _milliseconds(timeout: float | None) -> float:
    """Seconds in whole milliseconds, upwards as asyncio's own selector has them: a timer is never looked at early."""
    if timeout is None:
        return -1
    return ceil(timeout * 1000) * 0.001 if timeout > 0 else 0


class ReadingLoop(asyncio.SelectorEventLoop):
    """asyncio's event loop for unix on a `ReadingSelector`, which it tells when there is something to do."""

    def __init__(self) -> None:
        self.reading = ReadingSelector()
        super().__init__(self.reading)

    # The signatures are looser than asyncio's, which differ by version: whatever comes is handed on as it is.
    def call_soon(self, *args: Any, **kwargs: Any) -> asyncio.Handle:  # type: ignore[override]
        self.reading.stirred = True
        return super().call_soon(*args, **kwargs)

    def call_at(self, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:  # type: ignore[override]
        self.reading.stirred = True
        return super().call_at(*args, **kwargs)

    def stop(self) -> None:
        self.reading.stirred = True
        super().stop()

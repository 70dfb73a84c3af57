"""Writing to a descriptor that someone else opened, without ever blocking the reactor on it."""

from __future__ import annotations

import errno
import os
import select
import stat
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from eventserver.errors import TemporaryFailure
from eventserver.handlers._threads import OneThread
from eventserver.interfaces import HandlerContext

#: A pipe that is writable takes this much without blocking (PIPE_BUF of Linux, pipe(7)).
_SURE = 4096
#: Seconds without progress after which a write is given up, and how often a waiting one looks up.
_PATIENCE = 20.0
_LOOK_UP = 0.5


class Output:
    """Writes to descriptor `fd` in order, each write to its end.

    The descriptor's flags stay as they are: a terminal is shared with the shell, so it is not made non-blocking. A
    regular file (or `/dev/null`) is written directly; a pipe or socket too, where it is sure not to block; everything
    else goes through a thread. Nobody reading, or nothing read for 20 seconds, is a `TemporaryFailure`. What was cut
    off in the middle of a line then is completed by the next write.
    """

    def __init__(self, fd: int, context: HandlerContext) -> None:
        self._fd = fd
        self._seconds = context.reactor.seconds
        self._thread = OneThread(context)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._line_end = b""
        status = os.fstat(fd)
        self.is_null = stat.S_ISCHR(status.st_mode) and status.st_rdev == Path(os.devnull).stat().st_rdev
        self._never_blocks = stat.S_ISREG(status.st_mode) or self.is_null
        self._sure = _SURE if stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode) else 0

    @property
    def busy(self) -> bool:
        """True while a write that was given up still runs."""
        return self._thread.busy

    def stop(self) -> None:
        """No more will be written."""
        self._thread.stop()

    def write(self, data: bytes) -> Deferred[None] | None:
        """Write lines. Raises `TemporaryFailure`, or fails with it."""
        if self._thread.busy:
            raise TemporaryFailure("a write to standard output still runs", retry_after=1.0)
        if not self._thread.idle:
            return self._thread.run_in_turn(self._write_patiently, data).addErrback(_too_long)
        if self._never_blocks:
            self._write(data, 0, patient=False)
            return None
        if len(data) + len(self._line_end) <= self._sure and self._poll.poll(0):
            data = self._line_end + data
            written = self._write_some(memoryview(data))
            self._line_end = b""
            if written == len(data):
                return None
            return self._thread.run_in_turn(self._write_patiently, data, written).addErrback(_too_long)
        return self._thread.run_in_turn(self._write_patiently, data).addErrback(_too_long)

    def _write_patiently(self, data: bytes, written: int = 0) -> None:
        self._write(data, written, patient=True)

    def _write(self, data: bytes, written: int, *, patient: bool) -> None:
        """Write all that is left; if `patient`, in pieces that the descriptor is known to take, as it takes them."""
        line_end = self._line_end
        data = line_end + data
        view = memoryview(data)
        since = self._seconds()
        try:
            while written < len(data):
                if patient and not self._poll.poll(_LOOK_UP * 1000):
                    if self._seconds() - since > _PATIENCE:
                        raise TemporaryFailure("nobody reads standard output")
                    continue
                count = self._write_some(view[written : written + _SURE] if patient else view[written:])
                written += count
                if count:
                    since = self._seconds()
        finally:
            self._line_end = _rest_of_line(data, written) if written else line_end

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            # Somebody else made the descriptor non-blocking.
            return 0
        except OSError as error:
            why = "standard output is closed" if error.errno in (errno.EPIPE, errno.EBADF) else error.strerror
            raise TemporaryFailure(why or str(error)) from error


def _rest_of_line(data: bytes, written: int) -> bytes:
    """What is missing of the line in whose middle the writing stopped."""
    if not 0 < written < len(data) or data[written - 1 : written] == b"\n":
        return b""
    return data[written : data.find(b"\n", written) + 1]


def _too_long(failure: Failure) -> Any:
    # Delivery's time limit says something about the reader here, not about an event.
    failure.trap(CancelledError)
    raise TemporaryFailure("nobody reads standard output")

"""Payloads of dead letters, read in the writer's thread for whoever asks for them step by step."""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import TypeVar

import apsw
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from eventserver.journal._executor import Executor

T = TypeVar("T")

#: Asks for payloads by number, as text, and is sent them; what cannot be read any more is left out.
Steps = Generator[Sequence[str], Mapping[str, bytes], T]


class Payloads:
    """`read` is called in the thread of `executor`, behind what waits there. Errors of the disk are `OSError`."""

    def __init__(self, executor: Executor, read: Callable[[Sequence[str]], Mapping[str, bytes]]) -> None:
        self.stopped = False
        """Whether the files are closed, or about to be."""
        self._executor = executor
        self._read = read

    def now(self, steps: Steps[T]) -> T:
        """Take all steps, and wait for the disk."""
        try:
            wanted = next(steps)
            while True:
                wanted = steps.send(self._executor.call(partial(self._job, wanted)) if wanted else {})
        except StopIteration as end:
            result: T = end.value
            return result

    async def soon(self, steps: Steps[T]) -> T:
        """Take one step after the other, each when the disk has given what it asks for."""
        try:
            wanted = next(steps)
            while True:
                wanted = steps.send(await self._submit(wanted) if wanted else {})
        except StopIteration as end:
            result: T = end.value
            return result

    def _submit(self, wanted: Sequence[str]) -> Deferred[Mapping[str, bytes]]:
        given: Deferred[Mapping[str, bytes]] = Deferred()

        def done(outcome: Mapping[str, bytes] | Failure) -> None:
            if isinstance(outcome, Failure):
                given.errback(outcome)
            else:
                given.callback(outcome)

        self._executor.submit(partial(self._job, wanted), done)
        return given

    def _job(self, wanted: Sequence[str]) -> Mapping[str, bytes]:
        if self.stopped:
            # Nothing may be opened any more: the folder may be another journal's.
            raise OSError(errno.EBADF, "the journal is closed")
        try:
            return self._read(wanted)
        except apsw.Error as error:
            # As callers know it who know nothing of SQLite.
            raise OSError(errno.EIO, str(error)) from error

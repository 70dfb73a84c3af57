"""The reactor that reads while the event loop waits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from eventserver.asyncio_loop import ReadingLoop
from eventserver.asyncio_reactor import AsyncioSelectorReactor


@implementer(IReadDescriptor)
class Reader:
    """Reads one end of a socket pair, and then does what a test asks for."""

    def __init__(self, then: Callable[[bytes], Any] = lambda data: None) -> None:
        self.socket, self.peer = socket.socketpair()
        self.socket.setblocking(False)
        self.got: list[bytes] = []
        self.lost: list[Failure] = []
        self.then = then

    def fileno(self) -> int:
        return self.socket.fileno()

    def logPrefix(self) -> str:
        return "reader"

    def doRead(self) -> Any:
        self.got.append(self.socket.recv(100))
        return self.then(self.got[-1])

    def connectionLost(self, reason: Failure) -> None:
        self.lost.append(reason)

    def close(self) -> None:
        self.socket.close()
        self.peer.close()


@pytest.fixture
def loop() -> Iterator[ReadingLoop]:
    loop = ReadingLoop()
    with contextlib.closing(loop):
        yield loop


@pytest.fixture
def reactor(loop: ReadingLoop) -> AsyncioSelectorReactor:
    return AsyncioSelectorReactor(loop)


@pytest.fixture
def make(reactor: AsyncioSelectorReactor) -> Iterator[Callable[..., Reader]]:
    readers: list[Reader] = []

    def make(*args: Any) -> Reader:
        readers.append(Reader(*args))
        reactor.addReader(readers[-1])
        return readers[-1]

    yield make
    for reader in readers:
        reactor.removeReader(reader)
        reader.close()
    waker = reactor.waker
    reactor.removeReader(waker)
    reactor._internalReaders.discard(waker)
    waker.connectionLost(None)


def run(loop: ReadingLoop) -> int:
    """Run the loop until somebody stops it; how many turns it took. Fails after a minute.

    In a thread of its own: in this one runs the reactor of the tests.
    """
    turns = 0
    run_once = loop._run_once

    def count() -> None:
        nonlocal turns
        turns += 1
        run_once()

    loop._run_once = count  # type: ignore[method-assign]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    thread.join(60)
    stopped = not thread.is_alive()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    del loop._run_once
    assert stopped, "nobody stopped the loop"
    return turns


def test_many_reads_take_one_turn_of_the_loop(loop: ReadingLoop, make: Callable[..., Reader]) -> None:
    def then(data: bytes) -> None:
        if len(reader.got) < 100:
            reader.peer.send(b"x")
        else:
            loop.stop()

    reader = make(then)
    reader.peer.send(b"x")
    assert run(loop) == 1
    assert len(reader.got) == 100


@pytest.mark.parametrize("how", ["call_soon", "call_later", "call_soon_threadsafe", "thread", "future", "add_reader"])
def test_what_only_the_loop_can_do_is_done_at_once(loop: ReadingLoop, make: Callable[..., Reader], how: str) -> None:
    done: list[int] = []

    def do() -> None:
        done.append(len(reader.got))
        loop.stop()

    def then(data: bytes) -> None:
        reader.peer.send(b"x")  # there is always something to read
        if len(reader.got) != 10:
            return
        if how == "thread":
            thread = threading.Thread(target=loop.call_soon_threadsafe, args=(do,))
            thread.start()
            thread.join()
        elif how == "future":
            future = loop.create_future()
            future.add_done_callback(lambda _: do())
            future.set_result(None)
        elif how == "add_reader":
            loop.add_reader(ready.fileno(), do)
        else:
            getattr(loop, how)(*((0,) if how == "call_later" else ()), do)

    ready, other = socket.socketpair()
    other.send(b"x")
    reader = make(then)
    reader.peer.send(b"x")
    run(loop)
    loop.remove_reader(ready.fileno())
    ready.close()
    other.close()
    assert done
    assert done[0] - 10 <= 2


def test_timers_come_in_time_while_there_is_always_something_to_read(
    loop: ReadingLoop, make: Callable[..., Reader]
) -> None:
    reader = make(lambda data: reader.peer.send(b"x") and None)
    reader.peer.send(b"x")
    due = loop.time() + 0.05
    late: list[float] = []
    loop.call_at(due, lambda: (late.append(loop.time() - due), loop.stop()))
    run(loop)
    assert -0.001 <= late[0] < 20
    assert len(reader.got) > 1


def test_a_timer_that_a_read_sets_shortens_the_wait(
    reactor: AsyncioSelectorReactor, loop: ReadingLoop, make: Callable[..., Reader]
) -> None:
    reader = make(lambda data: reactor.callLater(0.01, loop.stop) and None)
    reader.peer.send(b"x")
    run(loop)


def test_a_reader_that_ends_is_told_once_and_read_no_more(loop: ReadingLoop, make: Callable[..., Reader]) -> None:
    def then(data: bytes) -> Any:
        loop.stop()
        return ConnectionLost()

    reader = make(then)
    reader.peer.send(b"x")
    run(loop)
    assert [reason.type for reason in reader.lost] == [ConnectionLost]
    reader.peer.send(b"y")
    loop.call_later(0.01, loop.stop)
    run(loop)
    assert reader.got == [b"x"]


def test_one_that_raises_ends_and_the_others_go_on(
    loop: ReadingLoop, make: Callable[..., Reader], logged_failures: Any
) -> None:
    def then(data: bytes) -> Any:
        other.peer.send(b"z")
        raise ValueError("a bug")

    reader, other = make(then), make(lambda data: loop.stop())
    reader.peer.send(b"x")
    run(loop)
    assert [reason.type for reason in reader.lost] == [ValueError]
    assert other.got == [b"z"]
    assert len(logged_failures(ValueError)) == 1


def test_a_descriptor_that_another_reader_has_got_meanwhile_stays_watched(
    reactor: AsyncioSelectorReactor, loop: ReadingLoop, make: Callable[..., Reader]
) -> None:
    first = make()
    number = first.fileno()
    first.socket.close()  # without a word to the reactor
    second = Reader(lambda data: loop.stop())
    duplicate = os.dup(second.fileno()) if second.fileno() != number else None
    assert second.fileno() == number or duplicate is not None
    reactor.addReader(second)
    reactor.removeReader(first)
    second.peer.send(b"x")
    run(loop)
    assert second.got == [b"x"]
    reactor.removeReader(second)
    second.close()
    if duplicate is not None:
        os.close(duplicate)


def test_a_descriptor_has_one_reader(reactor: AsyncioSelectorReactor, make: Callable[..., Reader]) -> None:
    first, second = make(), Reader()
    second.close()
    second.socket = first.socket
    with pytest.raises(FileExistsError):
        reactor.addReader(second)
    assert second not in reactor.getReaders()
    assert first.fileno() not in reactor._asyncioEventloop._selector.get_map()  # type: ignore[attr-defined]


def test_files_are_left_to_twisted(reactor: AsyncioSelectorReactor, make: Callable[..., Reader], tmp_path: Any) -> None:
    reader = Reader()
    with (tmp_path / "file").open("wb+") as file:
        reader.fileno = file.fileno  # type: ignore[method-assign]
        reactor.addReader(reader)
        assert reader in reactor.getReaders()
        reactor.removeReader(reader)
        assert reader not in reactor.getReaders()
    reader.close()
    assert not reactor.getDelayedCalls()


def test_subprocesses_of_asyncio_work(loop: ReadingLoop) -> None:
    async def main() -> bytes:
        process = await asyncio.create_subprocess_exec("echo", "hello", stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        return out

    found: list[bytes] = []

    async def keep() -> None:
        found.append(await main())
        loop.stop()

    task = loop.create_task(keep())
    run(loop)
    assert task.done()
    assert found == [b"hello\n"]

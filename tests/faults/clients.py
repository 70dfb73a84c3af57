"""Clients that count acknowledgements: RELP and HTTP, open loop at a rate, in threads of the test.

A client sends message after message when it is due, whatever the server does; latency counts from when a message was
due. When the connection breaks it connects again, and sends again what was not acknowledged.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import selectors
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Self

from tests.faults.oracle import SIZE, Oracle, message
from tests.realprograms import DEADLINE

_OFFER = b"relp_version=0\nrelp_software=eventserver-tests,1\ncommands=syslog"


class Client:
    """A load in a thread. Within `with` it runs; `finish` lets it end and waits until everything is acknowledged.

    `rate` is messages a second, None as fast as acknowledgements allow; `limit` the number of messages.
    """

    def __init__(
        self, oracle: Oracle, numbers: Iterator[int], port: int, *,
        rate: float | None = None, limit: int | None = None, size: int = SIZE, window: int = 500,
    ) -> None:  # fmt: skip
        self.oracle = oracle
        self.port = port
        self.rate = rate
        self.window = window
        self.latencies: list[float] = []
        self.acked = 0
        self.connects = 0
        self.said: list[str] = []
        self._size = size
        self._numbers = numbers
        self._left = limit
        self._ending = threading.Event()
        self._stopping = threading.Event()
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self.started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(DEADLINE)

    def finish(self, timeout: float = DEADLINE) -> bool:
        """No more new messages, other than up to the limit; whether all have been acknowledged at the deadline."""
        self._ending.set()
        self._thread.join(timeout)
        done = not self._thread.is_alive()
        self._stopping.set()
        self._thread.join(DEADLINE)
        return done

    def wait_acked(self, number: int, timeout: float = DEADLINE) -> bool:
        """Waits until so many messages have been acknowledged."""
        deadline = time.monotonic() + timeout
        with self._news:
            while self.acked < number:
                left = deadline - time.monotonic()
                if left <= 0 or not self._thread.is_alive():
                    return False
                self._news.wait(min(left, 1.0))
        return True

    def percentile(self, share: float, skip: int = 0) -> float:
        """The latency that this share of the acknowledgements did not exceed, in ms; the first `skip` left out."""
        ordered = sorted(self.latencies[skip:])
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")

    def _run(self) -> None:
        # The loop of one connection after another.
        while not self._stopping.is_set() and not self._done():
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
                    self.connects += 1
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._talk(connection)
            except (OSError, http.client.HTTPException) as error:
                self.said.append(repr(error))
                self._stopping.wait(0.02)

    def _talk(self, connection: socket.socket) -> None:
        raise NotImplementedError

    def _done(self) -> bool:
        raise NotImplementedError

    def _no_more(self) -> bool:
        return self._left == 0 or (self._left is None and self._ending.is_set())

    def _due(self) -> float:
        """When the next message is to be sent; in the past if there is no rate."""
        return self._next_due if self.rate else 0.0

    def _take(self) -> tuple[int, float]:
        """The next message's number, and when it was due."""
        number = next(self._numbers)
        if self._left is not None:
            self._left -= 1
        if self.rate is None:
            return number, time.monotonic()
        due = self._next_due
        self._next_due = due + 1 / self.rate
        return number, due

    @property
    def _next_due(self) -> float:
        return self.__dict__.setdefault("_due_at", self.started)

    @_next_due.setter
    def _next_due(self, value: float) -> None:
        self.__dict__["_due_at"] = value

    def _acknowledged(self, messages: list[tuple[int, float]]) -> None:
        now = time.monotonic()
        self.oracle.acked.update(number for number, _ in messages)
        self.latencies += [now - due for _, due in messages]
        with self._news:
            self.acked += len(messages)
            self._news.notify_all()


class RelpClient(Client):
    """One RELP connection with a window of unanswered messages, as librelp's clients have."""

    def __init__(self, *arguments, **options) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*arguments, **options)
        self._unacked: OrderedDict[int, tuple[int, float]] = OrderedDict()  # by transaction

    def _done(self) -> bool:
        return self._no_more() and not self._unacked

    def _talk(self, connection: socket.socket) -> None:
        connection.sendall(b"1 open %d %s\n" % (len(_OFFER), _OFFER))
        received = bytearray()
        again = list(self._unacked.values())
        self._unacked.clear()
        self._transactions = itertools.count(2)
        connection.setblocking(False)
        out = bytearray()
        opened = False
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            for each in again:
                self._unacked[next(self._transactions)] = each
            repeat = list(self._unacked.items())
            while not self._stopping.is_set() and not self._done():
                if opened and len(out) < 65536:
                    for txnr, (number, _) in repeat:
                        self._put(out, txnr, number)
                    repeat = []
                    self._put_due(out)
                if out:
                    with contextlib.suppress(BlockingIOError):
                        del out[: connection.send(out)]
                wait = 0.0 if self._can_send() else min(0.01, max(0.0, self._due() - time.monotonic()) or 0.01)
                selector.modify(connection, selectors.EVENT_READ | (selectors.EVENT_WRITE if out else 0))
                for _, events in selector.select(wait if opened else 0.05):
                    if events & selectors.EVENT_READ:
                        data = connection.recv(262144)
                        if not data:
                            raise ConnectionError("closed by the server")
                        received += data
                        opened = self._answers(received) or opened

    def _can_send(self) -> bool:
        return len(self._unacked) < self.window and not self._no_more() and self._due() <= time.monotonic()

    def _put_due(self, out: bytearray) -> None:
        while self._can_send() and len(out) < 262144:
            txnr = next(self._transactions)
            self._unacked[txnr] = each = self._take()
            self._put(out, txnr, each[0])

    def _put(self, out: bytearray, txnr: int, number: int) -> None:
        self.oracle.sent[number] += 1
        data = message(number, self._size)
        out += b"%d syslog %d %s\n" % (txnr, len(data), data)

    def _answers(self, received: bytearray) -> bool:
        """Takes whole answers out; whether the offer was answered."""
        opened, done, at = False, [], 0
        while (found := _answer(received, at)) is not None:
            txnr, command, data, at = found
            if command == b"serverclose":
                raise ConnectionError("the server closes")
            if not data.startswith(b"200"):
                raise ConnectionError(f"answered {data[:80]!r}")
            if txnr == 1:
                opened = True
            else:
                first, each = self._unacked.popitem(last=False)
                if first != txnr:
                    raise AssertionError(f"{txnr} was answered before {first}")
                done.append(each)
        del received[:at]
        if done:
            self._acknowledged(done)
        return opened


def _answer(received: bytearray, at: int) -> tuple[int, bytes, bytes, int] | None:
    """Number, command and data of the frame at an offset, and the offset behind it; None if it is not whole."""
    head = bytes(received[at : at + 64]).split(b" ", 3)
    if len(head) < 3 or (len(head) == 3 and b"\n" not in head[2]):
        return None
    length, newline, _ = head[2].partition(b"\n")
    if newline:
        return int(head[0]), head[1], b"", at + len(head[0]) + len(head[1]) + 2 + len(length) + 1
    start = at + len(head[0]) + len(head[1]) + len(head[2]) + 3
    end = start + int(head[2])
    if len(received) <= end:
        return None
    return int(head[0]), head[1], bytes(received[start:end]), end + 1


class HttpClient(Client):
    """POSTs of `per_request` lines, one after another on one connection, to `path`."""

    def __init__(self, *arguments, per_request: int = 50, path: str = "/", **options) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*arguments, **options)
        self._per_request = per_request
        self._path = path
        self._unacked: list[tuple[int, float]] = []

    def _done(self) -> bool:
        return self._no_more() and not self._unacked

    def _talk(self, connection: socket.socket) -> None:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        client.sock = connection
        connection.settimeout(30)
        while not self._stopping.is_set() and not self._done():
            while len(self._unacked) < self._per_request and not self._no_more():
                if self._due() > time.monotonic():
                    if self._unacked:
                        break
                    self._stopping.wait(min(0.005, self._due() - time.monotonic()))
                    if self._stopping.is_set():
                        return
                    continue
                self._unacked.append(self._take())
            if not self._unacked:
                continue
            self.oracle.sent.update(number for number, _ in self._unacked)
            lines = [b'{"message":"%s"}\n' % message(number, self._size) for number, _ in self._unacked]
            client.request("POST", self._path, b"".join(lines), {"Content-Type": "application/x-ndjson"})
            response = client.getresponse()
            body = response.read()
            if response.status != 200:
                raise ConnectionError(f"answered {response.status} {body[:80]!r}")
            done, self._unacked = self._unacked, []
            self._acknowledged(done)
            if response.will_close:
                return

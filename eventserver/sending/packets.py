"""Datagrams of a run: one socket, which never says what arrived."""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from typing import Any

from twisted.internet.defer import Deferred, succeed

from eventserver.handlers._destinations import Destination
from eventserver.sending.datagrams import Pack
from eventserver.sending.load import Load
from eventserver.sending.parcels import Parcel
from eventserver.sending.streams import Owner

#: Seconds between looks at a socket whose queue is full.
_LOOK_UP = 0.001
#: Events that are sent in one turn of the reactor.
_IN_ONE_TURN = 500
_FULL = (errno.EAGAIN, errno.ENOBUFS)
_NOBODY = "nobody listens there"


class PacketLink:
    """Sends datagrams to one address. With `join` up to so many bytes of payloads, one a line, share a datagram."""

    def __init__(self, to: Destination, pack: Pack, load: Load, owner: Owner, reactor: Any, *, join: int = 0) -> None:
        self._to = to
        self._pack = pack
        self._load = load
        self._owner = owner
        self._reactor = reactor
        self._join = join
        self._socket: socket.socket | None = None
        #: What was taken: each with the datagrams that are left of a group of its payloads, and the size of that group.
        self._left: deque[tuple[Parcel, deque[bytes], int]] = deque()
        self._timer: Any = None

    @property
    def idle(self) -> bool:
        """Whether everything that it took has gone out."""
        return not self._left

    def start(self) -> None:
        """Open the socket. A name is looked up here and now: there is nothing else to do meanwhile."""
        kind, host, port = self._to
        try:
            if kind == "unix-datagram":
                family, address = socket.AF_UNIX, host
            else:
                family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]  # type: ignore[assignment]
            opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except (OSError, UnicodeError) as error:
            self._cannot(error)
            return
        try:
            opened.connect(address)
        except OSError as error:
            opened.close()
            self._cannot(error)
            return
        self._socket = opened
        self._load.statistics.connections += 1
        self._owner.pump()

    def _cannot(self, error: Exception) -> None:
        # A name that no name can be (IDNA) is a UnicodeError; a path that is too long has only words.
        self._owner.fatal(f"cannot send there: {getattr(error, 'strerror', None) or error}")

    def pump(self) -> None:
        """Send what is due, as far as the system takes it."""
        if self._socket is None or self._timer is not None:
            return
        for _ in range(_IN_ONE_TURN):
            if not self._left and not self._take():
                return
            if self._left and not self._push(self._socket):
                self._later(_LOOK_UP)
                return
        self._later(0)

    def finish(self) -> Deferred[None]:
        """Close the socket."""
        if self._socket is not None:
            error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error == errno.ECONNREFUSED:
                self._load.statistics.refused += 1
                self._load.statistics.trouble(_NOBODY)
        self.stop()
        return succeed(None)

    def stop(self) -> None:
        """End at once."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _take(self) -> bool:
        parcel = self._load.take(1 << 30)
        if parcel is None:
            return False
        for group in _groups(parcel.payloads, self._join):
            try:
                self._left.append((parcel, deque(self._pack(b"\n".join(group))), len(group)))
            except ValueError as error:
                self._load.refused(parcel, len(group), str(error))
        return True

    def _push(self, out: socket.socket) -> bool:
        """Send the rest of the oldest group. False if the system's queue is full."""
        parcel, datagrams, count = self._left[0]
        problem = ""
        refusals = 0
        while datagrams and not problem:
            try:
                out.send(datagrams[0])
            except OSError as error:
                if error.errno in _FULL:
                    return False
                refusals += 1
                if error.errno == errno.ECONNREFUSED and self._to.kind == "udp" and refusals == 1:
                    # It is about an earlier datagram, which is lost; this one was not sent.
                    self._load.statistics.refused += 1
                    self._load.statistics.trouble(_NOBODY)
                    continue
                problem = _in_words(error, len(datagrams[0]))
                break
            self._load.statistics.bytes += len(datagrams.popleft())
        self._left.popleft()
        if problem:
            self._load.refused(parcel, count, problem)
        else:
            self._load.gone(parcel, count)
        return True

    def _later(self, seconds: float) -> None:
        def again() -> None:
            self._timer = None
            self._owner.pump()

        self._timer = self._reactor.callLater(seconds, again)


def _in_words(error: OSError, size: int) -> str:
    if error.errno == errno.EMSGSIZE:
        return f"{size} bytes do not fit into a datagram"
    return _NOBODY if error.errno == errno.ECONNREFUSED else os.strerror(error.errno or 0)


def _groups(payloads: list[bytes], join: int) -> list[list[bytes]]:
    """Payloads that share a datagram of at most `join` bytes, an LF between them."""
    if not join:
        return [[payload] for payload in payloads]
    groups: list[list[bytes]] = []
    size = join
    for payload in payloads:
        if size + 1 + len(payload) > join:
            groups.append([])
            size = -1
        groups[-1].append(payload)
        size += 1 + len(payload)
    return groups

"""Readers of datagram sockets: one wake-up of the reactor drains many datagrams.

Twisted's own datagram port calls a protocol for each datagram and cuts it at 8 KiB; here a wake-up costs one call.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.main import CONNECTION_DONE
from twisted.python.failure import Failure
from zope.interface import implementer

from eventserver.counters import ListenerCounters
from eventserver.listeners._datagram_options import LARGEST
from eventserver.listeners._datagrams import Datagrams, Sender
from eventserver.listeners._peers import UCRED_SIZE, read_credentials, sockaddr_text, unix_text
from eventserver.listeners._proxy_datagrams import ProxyHeaders
from eventserver.listeners._sockets import granted_buffer, kernel_drops
from eventserver.thinned_log import ThinnedLog

#: Datagrams, and bytes (soft by one datagram), that one wake-up reads at most, as one batch; then others have their
#: turn. Of datagrams full of the shortest lines a decoder may make two hundred times their bytes.
DRAIN = 512
DRAIN_BYTES = 1 << 18
#: After a wake-up that found fewer datagrams than SMALL, which is nearly all that one reads, the socket is left alone
#: for PAUSE seconds, so that more come together: a wake-up costs as much as fifty datagrams. The first one after a
#: silence never waits. Only with a buffer of at least PAUSE_BUFFER bytes, which a burst does not fill in that time.
SMALL = 480
PAUSE = 0.004
PAUSE_BUFFER = 2 << 20
#: Wake-ups' worth that is read when the listener stops, from what the kernel has queued.
LAST_DRAINS = 64


@implementer(IReadDescriptor)
class InetReader:
    """Reads a UDP socket. Senders are addresses as `recvfrom` gives them."""

    def __init__(self, sock: socket.socket, reactor: Any, counters: ListenerCounters, log: ThinnedLog) -> None:
        self.socket = sock
        self._reactor = reactor
        self.patient = granted_buffer(sock) >= PAUSE_BUFFER
        self._pause: Any = None
        self._reading = False
        self._counters = counters
        self._log = log
        self._drops = kernel_drops(sock)
        self.datagrams: Datagrams
        self.proxies: ProxyHeaders | None = None

    text: Callable[[Sender], str] = staticmethod(sockaddr_text)

    def fileno(self) -> int:
        """The descriptor; -1 when closed."""
        return self.socket.fileno()

    def logPrefix(self) -> str:
        """For Twisted's log."""
        return "datagrams"

    def doRead(self) -> None:
        """Take what has arrived; if that was little, let more gather."""
        # A handler may have stopped the server meanwhile, and with it this.
        if self.drain() < SMALL and self.patient and self._reading:
            self._reactor.removeReader(self)
            self._pause = self._reactor.callLater(PAUSE, self._look)

    def _look(self) -> None:
        """Take what has gathered; wait for the reactor's call only after there was nothing, or much."""
        self._pause = None
        count = self.drain()
        if not self._reading:
            return
        if 0 < count < SMALL:
            self._pause = self._reactor.callLater(PAUSE, self._look)
        else:
            self._reactor.addReader(self)

    def start(self) -> None:
        """Have the reactor call `doRead`."""
        self._reading = True
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Be called no more."""
        self._reading = False
        self._reactor.removeReader(self)
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def drain(self) -> int:
        """Read up to `DRAIN` datagrams and put them as one batch. Returns how many there were."""
        datas: list[bytes] = []
        senders: list[Sender] = []
        cut: list[int] = []
        try:
            self._read(datas, senders, cut)
        except BlockingIOError:
            pass
        except OSError as error:
            # An ICMP error for an earlier reply, or no memory: the socket itself goes on.
            self._log.warn("socket", "reading datagrams: {why}", why=error.strerror)
        if datas:
            try:
                self._take(datas, senders, cut)
            except Exception as error:
                # A framer of someone else's that raises must not end the listener: Twisted drops readers that raise.
                self._log.warn("error", "taking datagrams: {error!r}", error=error)
        return len(datas)

    def _take(self, datas: list[bytes], senders: list[Sender], cut: list[int]) -> None:
        if self.proxies is None:
            self.datagrams.take(datas, senders, cut)
            return
        for group in self.proxies.strip(datas, senders, cut):
            self.datagrams.take(*group)

    def _read(self, datas: list[bytes], senders: list[Sender], cut: list[int]) -> None:
        receive = self.socket.recvfrom
        room = DRAIN_BYTES
        for _ in range(DRAIN):
            data, sender = receive(LARGEST)
            datas.append(data)
            senders.append(sender)
            room -= len(data)
            if room <= 0:
                return

    def send(self, payload: bytes, sender: Sender) -> None:
        """Answer a sender; a datagram that cannot be sent now is lost, and counted."""
        try:
            self.socket.sendto(payload, self.address_of(sender))
        except OSError as error:
            self._counters.replies["unsent"] += 1
            self._log.warn("reply", "a reply could not be sent: {why}", why=error.strerror)

    def address_of(self, sender: Sender) -> Any:
        """Where to answer a sender."""
        return sender

    def count_drops(self) -> None:
        """Add what the kernel has dropped since the last call."""
        drops = kernel_drops(self.socket)
        self._counters.kernel_drops += (drops - self._drops) % (1 << 32)
        self._drops = drops

    def close(self) -> None:
        """Close the socket. It must have been stopped."""
        self.count_drops()
        self.datagrams.close()
        self.socket.close()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor gave the descriptor up."""
        if self.socket.fileno() != -1:
            if not reason.check(type(CONNECTION_DONE)):
                self._log.warn("socket", "a datagram socket was lost: {why}", why=reason.getErrorMessage())
            self.close()


class UnixReader(InetReader):
    """Reads a unix datagram socket. Senders are (process id, user id, path that they are bound to or "").

    Who sent it is what the kernel says (SCM_CREDENTIALS, unix(7)), and cannot be forged.
    """

    def __init__(
        self, sock: socket.socket, reactor: Any, counters: ListenerCounters, log: ThinnedLog, path: str = ""
    ) -> None:
        super().__init__(sock, reactor, counters, log)
        self._path = path
        self._inode = Path(path).stat().st_ino if path else 0

    text = staticmethod(lambda sender: unix_text(sender[0], sender[1]))

    def address_of(self, sender: Sender) -> Any:
        """The path that the sender is bound to."""
        if not sender[2]:
            raise OSError(errno.EDESTADDRREQ, "the sender is bound to no path")
        return sender[2]

    def close(self) -> None:
        """Close the socket and remove its file, unless another took its place."""
        super().close()
        with contextlib.suppress(OSError):
            if self._path and Path(self._path).stat().st_ino == self._inode:
                Path(self._path).unlink()

    def _read(self, datas: list[bytes], senders: list[Sender], cut: list[int]) -> None:
        receive = self.socket.recvmsg
        # Room for the credentials, which come first, and no more: descriptors that a sender passes along find none,
        # and the kernel closes them.
        space = socket.CMSG_SPACE(UCRED_SIZE)
        room = DRAIN_BYTES
        for _ in range(DRAIN):
            data, ancillary, flags, path = receive(LARGEST, space)
            if flags & socket.MSG_TRUNC:
                cut.append(len(datas))
            datas.append(data)
            senders.append((*_credentials(ancillary), path or ""))
            room -= len(data)
            if room <= 0:
                return


def _credentials(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int]:
    """Process id and user id of the sender; those of nobody where the kernel did not tell."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and len(data) >= UCRED_SIZE:
            return read_credentials(data)
    return 0, 65534

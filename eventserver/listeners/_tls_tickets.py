"""TLS 1.3 to clients that only write: nothing is sent to them that they did not ask for.

Right after the handshake OpenSSL sends session tickets (RFC 8446, section 4.6.1). A client that only writes, as most
senders of logs do, leaves them unread; and whoever closes a TCP connection with something unread resets it (RFC 2525,
section 2.17), at which what is on its way to us, or waits to be read here, is lost. OpenSSL can be told to make no
tickets, but pyOpenSSL cannot tell it. So they wait here for the first bytes that have to be sent: a reply, which a
client that reads is waiting for, or the end of the connection.
"""

from __future__ import annotations

import contextlib
from typing import Any

from OpenSSL import SSL

#: More than the tickets have; OpenSSL makes two, of 79 bytes where it keeps no sessions.
_MOST = 1 << 15


class QuietConnection(SSL.Connection):
    """The server's end of a TLS connection through memory, which keeps session tickets back."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._tickets = b""
        self._shaken = False

    def do_handshake(self) -> None:
        """Go on with the handshake. Raises as pyOpenSSL does, `WantReadError` until it is complete."""
        super().do_handshake()
        if not self._shaken and self.get_protocol_version() == SSL.TLS1_3_VERSION:
            # The client's Finished was the last word of the handshake (section 2), so this is no part of it.
            with contextlib.suppress(SSL.WantReadError):
                self._tickets = super().bio_read(_MOST)
        self._shaken = True

    def bio_read(self, bufsiz: int) -> bytes:
        """What is to be sent, after the tickets. Raises `WantReadError` if there is nothing but tickets."""
        data: bytes = super().bio_read(bufsiz)
        if self._tickets:
            # Records are numbered: these go first.
            data, self._tickets = self._tickets + data, b""
        return data

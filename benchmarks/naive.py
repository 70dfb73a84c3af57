"""The naive peer: what one writes first with Twisted, a LineReceiver and a write for each line.

    python -m benchmarks.naive PORT OUT raw|json|syslog|filter|udp

It buffers its output in the file object and flushes it with every turn of the loop that brought lines. It has no limits
beyond LineReceiver's, no counters, no ids, does not wait for anybody, and forgets what it holds when it is killed.
Structured data stays text.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.payloads import FACILITIES, SEVERITIES

RFC5424 = re.compile(r"<(\d{1,3})>1 (\S+) (\S+) (\S+) (\S+) (\S+) (-|(?:\[.*?(?<!\\)\])+) ?(.*)", re.DOTALL)
RFC3164 = re.compile(r"<(\d{1,3})>(\w{3} [ \d]\d \d\d:\d\d:\d\d) (\S+) ([^\[:]+)(?:\[(\d+)\])?: ?(.*)", re.DOTALL)


def event(line: bytes, peer: str) -> dict[str, Any]:
    """What every event has."""
    return {"received": datetime.now(UTC).isoformat(), "peer": peer, "message": line.decode("utf-8", "replace")}


def as_raw(line: bytes, peer: str) -> bytes:
    """The line itself."""
    return line + b"\n"


def as_json(line: bytes, peer: str) -> bytes:
    """The line as the message of an event."""
    return json.dumps(event(line, peer)).encode() + b"\n"


def as_syslog(line: bytes, peer: str) -> bytes:
    """RFC 5424 by a regular expression."""
    made = event(line, peer)
    match = RFC5424.match(made["message"])
    if match is not None:
        code, time, host, app, process, msgid, data, made["message"] = match.groups()
        facility, severity = divmod(int(code), 8)
        made |= {"time": datetime.fromisoformat(time).isoformat(), "hostname": host, "app_name": app}
        made |= {"procid": process, "msgid": msgid, "structured_data": data}
        made |= {"facility": FACILITIES[facility], "severity": SEVERITIES[severity]}
    return json.dumps(made).encode() + b"\n"


def as_old_syslog(line: bytes, peer: str) -> bytes:
    """RFC 3164 by a regular expression."""
    made = event(line, peer)
    match = RFC3164.match(made["message"])
    if match is not None:
        code, time, host, app, process, made["message"] = match.groups()
        facility, severity = divmod(int(code), 8)
        year = datetime.now(UTC).year
        made["time"] = datetime.strptime(f"{year} {time}", "%Y %b %d %H:%M:%S").replace(tzinfo=UTC).isoformat()
        made |= {"hostname": host, "app_name": app, "procid": process}
        made |= {"facility": FACILITIES[facility], "severity": SEVERITIES[severity]}
    return json.dumps(made).encode() + b"\n"


def filtered(line: bytes, peer: str) -> bytes:
    """JSON: half of it, with a field more."""
    made = json.loads(line)
    if made["status"] < 500:
        return b""
    made["site"] = "hq"
    return json.dumps(made).encode() + b"\n"


FORMS: dict[str, Callable[[bytes, str], bytes]] = {
    "raw": as_raw,
    "json": as_json,
    "syslog": as_syslog,
    "filter": filtered,
    "udp": as_old_syslog,
}


def main(port: int, path: Path, form: str) -> None:
    """Serve until SIGTERM."""
    from twisted.internet import epollreactor

    epollreactor.install()
    from twisted.internet import protocol, reactor
    from twisted.protocols.basic import LineReceiver

    out = path.open("ab", buffering=1 << 16)
    make = FORMS[form]

    class Lines(LineReceiver):
        delimiter = b"\n"
        transport: Any

        def connectionMade(self) -> None:
            address = self.transport.getPeer()
            self.peer = f"{address.host}:{address.port}"

        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            out.flush()

        def lineReceived(self, line: bytes) -> None:
            out.write(make(line, self.peer))

    class Datagrams(protocol.DatagramProtocol):
        def datagramReceived(self, data: bytes, address: tuple[str, int]) -> None:
            out.write(make(data, f"{address[0]}:{address[1]}"))
            flush()

    waiting = False

    def flush() -> None:
        # Once a turn of the loop: a datagram seldom comes alone.
        nonlocal waiting
        if not waiting:
            waiting = True
            reactor.callLater(0, flushed)

    def flushed() -> None:
        nonlocal waiting
        waiting = False
        out.flush()

    reactor_: Any = reactor
    if form == "udp":
        import socket

        listening = reactor_.listenUDP(port, Datagrams(), interface="127.0.0.1", maxPacketSize=65535)
        listening.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    else:
        reactor_.listenTCP(port, protocol.Factory.forProtocol(Lines), backlog=4096, interface="127.0.0.1")
    reactor_.run()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])

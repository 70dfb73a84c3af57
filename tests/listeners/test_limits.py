"""What connections leave of the files that the process may open."""

from __future__ import annotations

import errno
import os
import resource
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from eventserver.counters import ListenerCounters
from eventserver.listeners import _server
from eventserver.listeners._limits import few_descriptors
from eventserver.listeners._proxy_options import ProxyOptions
from eventserver.listeners.http import HttpListener
from eventserver.listeners.stream import StreamListener
from tests.listeners.fakes import FakeTransport, MemoryReactor, make_context


@pytest.mark.parametrize(
    ("limit", "taken", "few"),
    [
        (65536, 65407, False),
        (65536, 65408, True),
        (256, 191, False),
        (256, 192, True),
        (resource.RLIM_INFINITY, 1 << 20, False),
    ],
)
def test_the_last_descriptors_are_not_for_connections(
    monkeypatch: pytest.MonkeyPatch, limit: int, taken: int, few: bool
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    monkeypatch.setattr(os, "open", lambda *_: taken)
    monkeypatch.setattr(os, "close", lambda descriptor: None)
    assert few_descriptors() is few


def test_where_none_is_left_these_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    assert not few_descriptors()
    monkeypatch.setattr(os, "open", refuse)
    assert few_descriptors()


@pytest.mark.parametrize("listener", ["stream", "http", "proxied"])
def test_a_connection_is_closed_at_once_while_descriptors_are_few(
    monkeypatch: pytest.MonkeyPatch, reactor: MemoryReactor, counters: ListenerCounters, listener: str
) -> None:
    """Also where others are told that they are one too many: that takes a descriptor until it is written."""
    few = [True]
    monkeypatch.setattr(_server, "few_descriptors", lambda: few[0])
    kind = HttpListener if listener == "http" else StreamListener
    more = {"proxy_protocol": ProxyOptions(trusted=("192.0.2.0/24",))} if listener == "proxied" else {}
    served = kind(kind.Options(endpoints=("tcp:5140",), max_connections=2, **more), make_context(reactor, counters))
    served.listen()
    served.startService()
    factory = reactor.tcpServers[0][1]
    address = IPv4Address("TCP", "192.0.2.1", 1)
    assert factory.buildProtocol(address) is None
    assert counters.closed == {"descriptors": 1}
    few[0] = False
    protocol = factory.buildProtocol(address)
    assert protocol is not None
    if listener == "proxied":
        # It has its descriptor: that these are few again when its header comes changes nothing.
        few[0] = True
        protocol.makeConnection(FakeTransport(peerAddress=address))
        protocol.dataReceived(b"PROXY TCP4 198.51.100.1 192.0.2.1 1 2\r\n")
        assert len(served.connections()) == 1
        assert counters.closed == {"descriptors": 1}
        protocol.connectionLost(Failure(ConnectionDone()))

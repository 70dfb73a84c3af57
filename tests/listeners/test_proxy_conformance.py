"""Listeners behind a proxy, under the suite that every listener has to pass."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from eventserver.interfaces import ListenerContext
from eventserver.listeners._proxy_options import ProxyOptions
from eventserver.listeners._udp import PAUSE
from eventserver.listeners.datagram import DatagramListener
from eventserver.listeners.stream import StreamListener
from eventserver.testing.listeners import ListenerConformance, Setting
from tests.listeners.fakes import FakeTransport
from tests.listeners.proxyheaders import DATAGRAM, v2

HERE, THERE = ("192.0.2.7", 51123), ("198.51.100.1", 5140)
PROXY = IPv4Address("TCP", "10.0.0.5", 40000)
TRUSTED = ProxyOptions(trusted=("10.0.0.0/8", "127.0.0.0/8"))


class TestProxiedStreams(ListenerConformance):
    def make(self, context: ListenerContext) -> Any:
        return StreamListener(StreamListener.Options(endpoints=("tcp:5140",), proxy_protocol=TRUSTED), context)

    def send(self, setting: Setting, frames: list[bytes]) -> None:
        protocol = setting.reactor.tcpServers[-1][1].buildProtocol(PROXY)
        protocol.makeConnection(FakeTransport(peerAddress=PROXY))
        protocol.dataReceived(v2(HERE, THERE))
        protocol.dataReceived(b"\n".join(frames) + b"\n")
        protocol.connectionLost(Failure(ConnectionDone()))


class TestProxiedDatagrams(ListenerConformance):
    def make(self, context: ListenerContext) -> Any:
        options = DatagramListener.Options(endpoints=("udp:0:interface=127.0.0.1",), proxy_protocol=TRUSTED)
        return DatagramListener(options, context)

    def send(self, setting: Setting, frames: list[bytes]) -> None:
        port = int(setting.listener.addresses()[0].rpartition(":")[2])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for frame in frames:
                sock.sendto(v2(HERE, THERE, transport=DATAGRAM) + frame, ("127.0.0.1", port))
        setting.reactor.advance(PAUSE)
        for reader in list(setting.reactor.readers):
            reader.doRead()  # type: ignore[attr-defined]  # IReadDescriptor, which the reactor's set does not say

"""The listeners under the suite that every listener has to pass."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from eventserver.interfaces import ListenerContext
from eventserver.listeners._udp import PAUSE
from eventserver.listeners.auto import AutoListener
from eventserver.listeners.datagram import DatagramListener
from eventserver.listeners.lumberjack import LumberjackListener
from eventserver.listeners.relp import RelpListener
from eventserver.listeners.stream import StreamListener
from eventserver.testing.listeners import ListenerConformance, Setting
from tests.listeners.fakes import FakeTransport
from tests.lumberjack_client import LumberjackClient
from tests.relp_client import RelpClient


class TestStreamListener(ListenerConformance):
    def make(self, context: ListenerContext) -> Any:
        return StreamListener(StreamListener.Options(endpoints=("tcp:5140",)), context)

    def send(self, setting: Setting, frames: list[bytes]) -> None:
        protocol = setting.reactor.tcpServers[-1][1].buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
        protocol.makeConnection(FakeTransport(peerAddress=IPv4Address("TCP", "192.0.2.1", 1)))
        protocol.dataReceived(b"\n".join(frames) + b"\n")
        protocol.connectionLost(Failure(ConnectionDone()))


class TestDatagramListener(ListenerConformance):
    def make(self, context: ListenerContext) -> Any:
        return DatagramListener(DatagramListener.Options(endpoints=("udp:0:interface=127.0.0.1",)), context)

    def send(self, setting: Setting, frames: list[bytes]) -> None:
        port = int(setting.listener.addresses()[0].rpartition(":")[2])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for frame in frames:
                sock.sendto(frame, ("127.0.0.1", port))
        setting.reactor.advance(PAUSE)
        for reader in list(setting.reactor.readers):
            reader.doRead()  # type: ignore[attr-defined]  # IReadDescriptor, which the reactor's set does not say


class TestRelpListener(ListenerConformance):
    def make(self, context: ListenerContext) -> Any:
        return RelpListener(RelpListener.Options(endpoints=("tcp:2514",)), context)

    def send(self, setting: Setting, frames: list[bytes]) -> None:
        protocol = setting.reactor.tcpServers[-1][1].buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
        transport = FakeTransport(peerAddress=IPv4Address("TCP", "192.0.2.1", 1))
        protocol.makeConnection(transport)
        client = RelpClient()
        protocol.dataReceived(client.open())
        client.receive(transport.value())
        client.send(*frames)
        protocol.dataReceived(client.take())
        protocol.connectionLost(Failure(ConnectionDone()))


class TestLumberjackListener(ListenerConformance):
    def make(self, context: ListenerContext) -> Any:
        return LumberjackListener(LumberjackListener.Options(endpoints=("tcp:5044",)), context)

    def send(self, setting: Setting, frames: list[bytes]) -> None:
        protocol = setting.reactor.tcpServers[-1][1].buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
        protocol.makeConnection(FakeTransport(peerAddress=IPv4Address("TCP", "192.0.2.1", 1)))
        client = LumberjackClient(len(frames))
        client.send(*frames)
        protocol.dataReceived(client.take())
        protocol.connectionLost(Failure(ConnectionDone()))


class TestAutoListener(TestStreamListener):
    def make(self, context: ListenerContext) -> Any:
        return AutoListener(AutoListener.Options(endpoints=("tcp:5140",), protocols=("lines",)), context)

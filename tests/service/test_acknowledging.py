"""`ack = "memory" | "delivered"`, shown with a listener whose protocol acknowledges."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from eventserver import building
from eventserver.errors import SettingsError, TemporaryFailure
from eventserver.registry import Registry
from eventserver.settings import from_mapping
from eventserver.status import Status
from eventserver.testing import AckListener


class Server:
    """A server with an `ack` listener and a handler that the test finishes call by call."""

    def __init__(self, ack: str | None = None, handlers: dict[str, dict[str, Any]] | None = None, **top: Any) -> None:
        registry = Registry.from_entry_points()
        registry.add("listeners", "ack", AckListener)
        self.calls: list[Deferred[None]] = []
        table: dict[str, Any] = {"type": "ack", "endpoints": ["unix:/nowhere"], "ack_timeout": "30 s"}
        if ack is not None:
            table["ack"] = ack
        given = handlers or {"h": {}}
        settings = from_mapping(
            {
                **top,
                "listener": {"safe": table},
                "handler": {name: {"call": self.call, **keys} for name, keys in given.items()},
            },
            registry=registry,
        )
        self.clock = Clock()
        self.parts = building.build(settings, self.clock)
        self.listener: AckListener = self.parts.listeners[0]
        for delivery in self.parts.deliveries.values():
            delivery.start()

    def call(self, event: Any) -> Deferred[None]:
        self.calls.append(Deferred())
        return self.calls[-1]

    def balanced(self) -> bool:
        status = Status()
        status.parts = self.parts
        return not status.unbalanced()


def test_delivered_is_the_default_and_waits_for_the_handler() -> None:
    server = Server()
    server.listener.receive(b"a")
    server.listener.receive(b"b")
    assert server.listener.acknowledged == []
    server.calls[0].callback(None)
    assert server.listener.acknowledged == [0]
    server.calls[1].callback(None)
    assert server.listener.acknowledged == [0, 1]
    assert not server.clock.getDelayedCalls()
    assert server.balanced()


def test_memory_is_acknowledged_at_once() -> None:
    server = Server("memory")
    server.listener.receive(b"a")
    assert server.listener.acknowledged == [0]
    server.calls[0].callback(None)


def test_every_required_handler_is_waited_for() -> None:
    server = Server(handlers={"one": {}, "two": {}, "extra": {"required_for_ack": False}})
    server.listener.receive(b"a")
    one, two, _extra = server.calls
    one.callback(None)
    assert server.listener.acknowledged == []
    two.callback(None)
    assert server.listener.acknowledged == [0]


def test_an_event_that_failed_is_settled_when_it_is_parked() -> None:
    server = Server()
    server.listener.receive(b"a")
    server.calls[0].errback(ValueError("bad"))
    assert server.listener.acknowledged == [0]
    assert server.balanced()
    server.parts.deliveries["h"].stop()


def test_a_destination_that_is_down_is_not_acknowledged_until_it_is_back() -> None:
    server = Server()
    server.listener.receive(b"a")
    server.calls[0].errback(TemporaryFailure("down"))
    assert server.listener.acknowledged == []
    server.clock.advance(1)
    server.calls[1].callback(None)
    assert server.listener.acknowledged == [0]


def test_what_takes_too_long_is_refused_and_never_acknowledged_later() -> None:
    server = Server(handlers={"h": {"timeout": "60 s"}})
    server.listener.receive(b"a")
    server.clock.advance(30)
    assert server.listener.refused == {0: "ack_timeout"}
    server.calls[0].callback(None)
    assert server.listener.acknowledged == []


def test_a_stop_leaves_the_rest_unacknowledged() -> None:
    server = Server()
    server.listener.receive(b"a")
    server.parts.intake.stop()
    assert server.listener.acknowledged == []
    assert "stopping" in server.listener.refused[0]
    server.calls[0].callback(None)


def test_what_does_not_fit_is_held_and_acknowledged_in_order_when_it_did() -> None:
    server = Server(memory="64 KiB")
    count = 100
    for number in range(count):
        server.listener.receive(b"%d" % number + b"x" * 1000)
    assert server.listener.paused
    while any(not call.called for call in server.calls):
        next(call for call in server.calls if not call.called).callback(None)
        server.clock.advance(0)
    assert server.listener.acknowledged == list(range(count))
    assert not server.listener.paused
    assert server.balanced()


@pytest.mark.parametrize("keys", [{"ack": "durable"}])
def test_durable_without_a_journal_is_a_wrong_setting(keys: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="durable"):
        Server(**keys)


def test_ack_is_refused_where_the_protocol_cannot() -> None:
    with pytest.raises(SettingsError, match=r"listener\.l.*ack"):
        from_mapping({"listener": {"l": {"endpoints": ["tcp:0"], "ack": "delivered"}}})

"""`EventServer` on the real reactor: starting, answering, refusing, draining, reopening."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import pytest_twisted
from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from zope.interface.verify import verifyObject

from eventserver.admin.status import IStatus
from eventserver.errors import SettingsError
from eventserver.event import Event
from eventserver.service import EventServer
from eventserver.subscription import Subscription
from eventserver.testing import HandlerConformance, Harness

from .conftest import Site

pytestmark = pytest.mark.reactors


def shout(event: Event) -> str:
    return event.message.upper()


def test_it_is_a_service_with_a_status() -> None:
    server = EventServer({})
    assert verifyObject(IService, server)
    assert verifyObject(IStatus, server.status)
    assert server.status.ready() == ["the server is new"]


@pytest_twisted.ensureDeferred
async def test_lines_over_tcp_are_answered(site: Site) -> None:
    server = await site.serve({"handler": {"h": {"call": shout}}})
    assert server.status.ready() == []
    client = await site.connect(server)
    client.transport.write(b"hello\r\nwor")
    await client.until(b"HELLO\n")
    client.transport.write(b"ld\n")
    await client.until(b"WORLD\n")
    assert server.status.unbalanced() == []


@pytest_twisted.ensureDeferred
async def test_events_reach_a_file(site: Site, tmp_path: Path) -> None:
    server = await site.serve({"handler": {"f": {"type": "file", "path": str(tmp_path / "{listener}.jsonl")}}})
    async with server.subscribe() as subscription:
        client = await site.connect(server)
        client.transport.write(b"one\ntwo\n")
        for _ in range(2):
            await subscription.get(60)
    await server.stop()
    events = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert [event["message"] for event in events] == ["one", "two"]
    assert list(events[0]) == ["id", "time", "received", "listener", "peer", "type", "message", "fields"]


@pytest_twisted.ensureDeferred
async def test_a_port_in_use_is_named_and_nothing_stays_open(site: Site) -> None:
    first = await site.serve({})
    port = site.port(first)
    second = site.server(
        {
            "listener": {
                "a": {"endpoints": [f"tcp:{port}:interface=127.0.0.1"]},
                "b": {"endpoints": ["tcp:0:interface=127.0.0.1"]},
            }
        }
    )
    with pytest.raises(SettingsError) as caught:
        await second.start()
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith("listener.a: ")
    assert str(port) in caught.value.problems[0]


@pytest_twisted.ensureDeferred
async def test_every_component_that_cannot_start_is_named_at_once(site: Site, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    server = site.server(
        {"handler": {name: {"type": "file", "path": str(tmp_path / "plain" / name / "out")} for name in ("one", "two")}}
    )
    with pytest.raises(SettingsError) as caught:
        await server.start()
    assert [problem.partition(": ")[0] for problem in caught.value.problems] == ["handler.one", "handler.two"]


@pytest_twisted.ensureDeferred
async def test_stop_delivers_what_is_in_memory_and_the_unterminated_tail(site: Site) -> None:
    seen: list[tuple[str, Any]] = []
    gate: Deferred[None] = Deferred()
    arrived: Deferred[None] = Deferred()

    async def slow(event: Event) -> None:
        if not arrived.called:
            arrived.callback(None)
        await gate
        seen.append((event.message, event.context.get("truncated")))

    server = await site.serve({"handler": {"h": {"call": slow}}})
    client = await site.connect(server)
    client.transport.write(b"one\ntwo\ntail")
    await arrived
    stopped = server.stop()
    assert server.status.ready() == ["the server is stopping"]
    gate.callback(None)
    await stopped
    assert seen == [("one", None), ("two", None), ("tail", True)]
    assert server.status.unbalanced() == []


@pytest_twisted.ensureDeferred
async def test_a_drain_ends_in_time_and_the_rest_is_logged_as_lost(site: Site, caplog: Any) -> None:
    def stuck(event: Event) -> Deferred[None]:
        return Deferred()

    server = await site.serve({"drain_timeout": "100 ms", "handler": {"h": {"call": stuck}}})
    subscription = server.subscribe()
    async with subscription:
        client = await site.connect(server)
        client.transport.write(b"one\ntwo\n")
        await subscription.get(60)
        await subscription.get(60)
    assert server._parts is not None
    delivery = server._parts.deliveries["h"]
    assert delivery.lost() == 2
    site.may_lose = True
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_a_handler_that_is_down_shows_in_ready(site: Site) -> None:
    def down(event: Event) -> None:
        raise ConnectionRefusedError("nobody there")

    server = await site.serve({"handler": {"h": {"call": down}}, "drain_timeout": "10 ms"})
    async with server.subscribe() as subscription:
        client = await site.connect(server)
        client.transport.write(b"one\n")
        await subscription.get(60)
    assert server.status.ready() == ["handler h is unwell: ConnectionRefusedError: nobody there"]
    site.may_lose = True


@pytest_twisted.ensureDeferred
async def test_reopen_makes_the_file_again_after_it_was_moved(site: Site, tmp_path: Path) -> None:
    server = await site.serve({"handler": {"f": {"type": "file", "path": str(tmp_path / "log")}}})
    async with server.subscribe() as subscription:
        client = await site.connect(server)
        client.transport.write(b"one\n")
        await subscription.get(60)
        (tmp_path / "log").rename(tmp_path / "log.1")
        server.reopen()
        client.transport.write(b"two\n")
        await subscription.get(60)
    await server.stop()
    assert "one" in (tmp_path / "log.1").read_text()
    assert "two" in (tmp_path / "log").read_text()


@pytest_twisted.ensureDeferred
async def test_under_twisted_a_subscription_is_awaited_like_anything_else(site: Site) -> None:
    server = await site.serve({})
    async with server.subscribe(match='message != "noise"', timeout=60) as subscription:
        client = await site.connect(server)
        client.transport.write(b"a\nnoise\nb\n")
        assert [(await subscription.get()).message for _ in range(2)] == ["a", "b"]
        with pytest.raises(TimeoutError):
            await subscription.get(0.01)
        client.transport.write(b"c\n")
        assert (await subscription.get()).message == "c"


@pytest_twisted.ensureDeferred
async def test_a_subscription_drops_the_oldest_and_counts_them(site: Site) -> None:
    server = await site.serve({})
    async with server.subscribe(max_events=2) as subscription, server.subscribe() as whole:
        client = await site.connect(server)
        client.transport.write(b"a\nb\nc\n")
        for _ in range(3):
            await whole.get(60)
        assert subscription.dropped == 1
        assert [(await subscription.get(60)).message for _ in range(2)] == ["b", "c"]


@pytest_twisted.ensureDeferred
async def test_a_closed_subscription_holds_nothing_in_the_server(site: Site) -> None:
    server = await site.serve({})
    async with server.subscribe() as subscription:
        pass
    assert server._parts is not None
    assert server._parts.deliveries == {}
    assert [event async for event in subscription] == []


@pytest_twisted.ensureDeferred
async def test_a_plain_callback_is_a_handler(site: Site) -> None:
    seen: list[str] = []
    server = site.server({})
    server.add_handler(lambda event: seen.append(event.message), match='startswith(message, "a")')
    await server.start()
    client = await site.connect(server)
    async with server.subscribe() as subscription:
        client.transport.write(b"abc\nxyz\n")
        await subscription.get(60)
        await subscription.get(60)
    assert seen == ["abc"]
    with pytest.raises(RuntimeError):
        server.add_handler(print)


@pytest_twisted.ensureDeferred
async def test_an_event_is_not_lost_with_a_getter_that_is_cancelled(site: Site) -> None:
    server = await site.serve({})
    async with server.subscribe() as subscription, server.subscribe() as other:
        waits = Deferred.fromCoroutine(subscription.get())
        client = await site.connect(server)
        client.transport.write(b"one\n")
        waits.cancel()
        waits.addErrback(lambda failure: None)
        assert (await subscription.get(60)).message == "one"
        assert (await other.get(60)).message == "one"
        assert subscription.dropped == 0


@pytest_twisted.ensureDeferred
async def test_a_subscription_may_be_made_before_the_server_is_started(site: Site) -> None:
    server = site.server({})
    subscription = server.subscribe(timeout=60)
    with pytest.raises(RuntimeError, match="not running"):
        async with subscription:
            pass
    await server.start()
    async with subscription:
        client = await site.connect(server)
        client.transport.write(b"one\n")
        assert (await subscription.get()).message == "one"


@pytest_twisted.ensureDeferred
async def test_a_second_stop_fires_when_the_first_is_done(site: Site) -> None:
    done: list[str] = []
    gate: Deferred[None] = Deferred()

    async def slow(event: Event) -> None:
        await gate
        done.append(event.message)

    server = await site.serve({"handler": {"h": {"call": slow}}})
    async with server.subscribe() as subscription:
        client = await site.connect(server)
        client.transport.write(b"one\n")
        await subscription.get(60)
    first, second = server.stop(), server.stop()
    assert not second.called
    gate.callback(None)
    await second
    assert done == ["one"]
    await first
    assert server.status.state == "stopped"


@pytest_twisted.ensureDeferred
async def test_what_a_listener_held_reaches_every_handler_before_the_stop(site: Site) -> None:
    """While it drains, a slow handler makes room; what goes in then is for the quick one too, which was done."""
    seen: dict[str, list[str]] = {"slow": [], "quick": []}
    gate: Deferred[None] = Deferred()

    async def slow(event: Event) -> None:
        await gate
        seen["slow"].append(event.message)

    async def quick(event: Event) -> None:
        seen["quick"].append(event.message)

    server = await site.serve(
        {"memory": "64 KiB", "handler": {"slow": {"call": slow, "max_lag": "64 KiB"}, "quick": {"call": quick}}}
    )
    lines = [f"{number:01000}" for number in range(150)]
    client = await site.connect(server)
    client.transport.write("".join(f"{line}\n" for line in lines).encode())
    assert server._parts is not None
    intake = server._parts.intake
    while not intake.paused:
        await deferLater(site.reactor, 0)
    stopped = server.stop()
    gate.callback(None)
    await stopped
    assert seen["slow"] == seen["quick"]
    assert len(seen["slow"]) > 50
    assert server.status.unbalanced() == []


def in_a_program(program: Any) -> Any:
    """What a program of one's own returns: in a thread, as the test's own reactor runs in the main thread."""
    results: list[Any] = []
    thread = Thread(target=lambda: results.append(asyncio.run(program())), daemon=True)
    thread.start()
    thread.join(60)
    return results[0]


def test_two_servers_on_one_loop_leave_no_thread_behind(tmp_path: Path) -> None:
    async def program() -> list[int]:
        for name in "ab":
            settings = {
                "listener": {"l": {"endpoints": ["tcp:0:interface=127.0.0.1"]}},
                "handler": {"f": {"type": "file", "path": str(tmp_path / name), "sync": True}},
            }
            async with EventServer(settings) as server, server.subscribe() as subscription:
                port = int(server.addresses()["l"][0].rpartition(":")[2])
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"one\n")
                await subscription.get(60)
                writer.close()
        return [(tmp_path / name).read_text().count("one") for name in "ab"]

    before = {thread for thread in threading.enumerate() if not thread.daemon}
    assert in_a_program(program) == [1, 1]
    assert {thread for thread in threading.enumerate() if not thread.daemon} <= before


def test_a_program_that_is_cancelled_still_stops_its_server_in_order() -> None:
    seen: list[str] = []

    async def slow(event: Event) -> None:
        await asyncio.sleep(0.05)
        seen.append(event.message)

    async def body() -> None:
        settings = {"listener": {"l": {"endpoints": ["tcp:0:interface=127.0.0.1"]}}, "handler": {"h": {"call": slow}}}
        async with EventServer(settings) as server, server.subscribe() as subscription:
            port = int(server.addresses()["l"][0].rpartition(":")[2])
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"one\n")
            await subscription.get(60)
            writer.close()
            await server.stop()

    async def program() -> list[str]:
        task = asyncio.ensure_future(body())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return list(seen)

    assert in_a_program(program) in ([], ["one"])


def test_under_asyncio_run_a_server_is_a_context_manager_again_and_again() -> None:
    """Each `asyncio.run` has a loop of its own; the reactor of the first one is no good for the second."""

    async def program() -> list[str]:
        settings = {"listener": {"l": {"endpoints": ["tcp:0:interface=127.0.0.1"]}}}
        async with EventServer(settings) as server:
            port = int(server.addresses()["l"][0].rpartition(":")[2])
            async with server.subscribe(timeout=0.05) as subscription:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"one\ntwo\n")
                found = [(await subscription.get(60)).message for _ in range(2)]
                found += [event.message async for event in subscription]
                writer.close()
                return found

    assert in_a_program(program) == ["one", "two"]
    assert in_a_program(program) == ["one", "two"]


def test_a_program_that_gives_up_while_its_server_starts_leaves_nothing_open() -> None:
    async def program() -> str:
        server = EventServer({"listener": {"l": {"endpoints": ["tcp:0:interface=127.0.0.1"]}}})
        server.add_handler(lambda event: None, name="h")
        settings = server.settings.handlers["h"]
        slow = replace(settings.handler, component=lambda _, context: slow_to_start(settings.handler.make(context)))
        server.settings = replace(server.settings, handlers={"h": replace(settings, handler=slow)})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(server.__aenter__(), 0.05)
        return server.status.state

    def slow_to_start(handler: Any) -> Any:
        async def start() -> None:
            await asyncio.sleep(60)

        handler.start = start
        return handler

    assert in_a_program(program) == "stopped"


def test_the_log_of_an_embedded_server_goes_to_pythons_logging() -> None:
    """In a program of its own, since Twisted's logging can be begun but once."""
    program = """
import asyncio, logging
from eventserver import EventServer

logging.basicConfig(format="%(name)s %(levelname)s %(message)s")

def broken(event):
    raise ValueError("cannot")

async def main():
    settings = {"listener": {"l": {"endpoints": ["tcp:0:interface=127.0.0.1"]}}, "handler": {"h": {"call": broken}}}
    async with EventServer(settings) as server, server.subscribe() as events:
        _, writer = await asyncio.open_connection("127.0.0.1", int(server.addresses()["l"][0].rpartition(":")[2]))
        writer.write(b"hello\\n")
        await events.get(60)
        writer.close()

asyncio.run(main())
"""
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0, shown.stderr
    assert "handler.h WARNING handler h failed with event" in shown.stderr


def test_decoded_events_are_kept_as_far_as_the_setting_allows() -> None:
    decoded: list[bytes] = []

    def decode(frame: bytes) -> dict[str, Any]:
        decoded.append(frame)
        return {"message": frame.decode()}

    for cache, times in (("0 B", 2), ("1 MiB", 1)):
        decoded.clear()
        handlers = {name: {"call": lambda event: None} for name in "ab"}
        settings = {"decoded_cache": cache, "handler": handlers}
        with Harness({**settings, "listener": {"l": {"endpoints": ["tcp:0"], "decoder": decode}}}) as harness:
            harness.send(b"one\n")
        assert decoded == [b"one"] * times


class TestSubscription(HandlerConformance):
    """A subscription is a handler like any other."""

    def make_handler(self, request: pytest.FixtureRequest) -> Any:
        return Subscription(timeout=None, max_events=10, opened=lambda _: None, closed=lambda _: None)

    def test_its_options_are_documented(self, request: pytest.FixtureRequest) -> None:
        """It has none: it is made by `EventServer.subscribe`."""

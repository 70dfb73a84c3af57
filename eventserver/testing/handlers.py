"""What every handler promises, as tests: subclass `HandlerConformance` and say how to make one.

It needs pytest and eventserver, and no reactor: a handler that waits gets its Deferreds fired by `settle`.
"""

from __future__ import annotations

import copy
import datetime as dt
import typing
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from eventserver import options
from eventserver.awaiting import as_deferred
from eventserver.event import Batch, Event
from eventserver.interfaces import IHandler, IReopen

_TIME = dt.datetime(2025, 3, 1, 12, 0, tzinfo=dt.UTC)


class HandlerConformance:
    """The suite. `make_handler` returns a fresh handler that is not started, whose destination is well."""

    def make_handler(self, request: pytest.FixtureRequest) -> Any:
        """A fresh handler. `request.getfixturevalue("tmp_path")` and the like are at hand."""
        raise NotImplementedError

    def settle(self, deferred: Deferred[Any]) -> None:
        """Make a Deferred fire that waits for time or for the network. By default nothing waits."""

    @pytest.fixture
    def handler(self, request: pytest.FixtureRequest) -> typing.Iterator[Any]:
        """A started handler, which is stopped after the test."""
        handler = self.make_handler(request)
        self.finish(handler.start())
        yield handler
        self.finish(handler.stop())

    def finish(self, result: object) -> None:
        """Wait for what a method returned; raises what it failed with."""
        deferred = as_deferred(result)
        if deferred is None:
            assert result is None, f"start, handle and stop return None or something to await, not {result!r}"
            return
        results: list[object] = []
        deferred.addBoth(results.append)
        if not results:
            self.settle(deferred)
        assert results, "the handler still waits; `settle` has to make it go on"
        if isinstance(results[0], Failure):
            results[0].raiseException()

    def pile(self, handler: Any, count: int) -> list[Any]:
        """A pile of what the handler wants."""
        if handler.wants == "frames":
            frames = [f"message {number}".encode() for number in range(count)]
            return [Batch(id="01BATCH", listener="tests", decoder="text", received=_TIME, peers=[_PEER], frames=frames)]
        return [_event(number, handler.wants_raw) for number in range(count)]

    def test_it_provides_the_interface(self, handler: Any) -> None:
        assert verifyObject(IHandler, handler)
        if hasattr(handler, "reopen"):
            assert verifyObject(IReopen, handler)

    def test_it_says_what_it_wants(self, handler: Any) -> None:
        assert handler.wants in ("frames", "events")
        assert isinstance(handler.wants_raw, bool)
        assert getattr(handler, "concurrency", 1) >= 1

    def test_its_options_are_documented(self, request: pytest.FixtureRequest) -> None:
        """Each option has a description: it becomes the reference page."""
        cls = type(self.make_handler(request)).Options
        assert issubclass(cls, options.Options)
        for name, (_, doc) in options.field_types(cls).items():
            assert doc is not None, f"the option `{name}` has no Doc"
            assert doc.description, f"the option `{name}` has no description"
        assert getattr(cls, "parts", {}).keys() <= options.field_types(cls).keys()

    @pytest.mark.parametrize("count", [1, 100])
    def test_it_takes_a_pile(self, handler: Any, count: int) -> None:
        self.finish(handler.handle(self.pile(handler, count)))

    def test_it_takes_piles_one_after_another(self, handler: Any) -> None:
        for count in (1, 2, 3):
            self.finish(handler.handle(self.pile(handler, count)))

    def test_it_changes_neither_the_pile_nor_its_events(self, handler: Any) -> None:
        """Events are shared: what one handler changed in `fields` or `context`, all others would see."""
        pile = self.pile(handler, 20)
        same = list(pile)
        before = [_plain(item) for item in pile]
        self.finish(handler.handle(pile))
        assert len(pile) == len(same)
        assert all(one is other for one, other in zip(pile, same, strict=True)), "the handler changed the pile"
        assert [_plain(item) for item in pile] == before, "the handler changed an event"

    def test_it_takes_the_same_pile_again(self, handler: Any) -> None:
        """After a failure elsewhere, and after a crash, events come again, with the ids that they had."""
        pile = self.pile(handler, 3)
        self.finish(handler.handle(pile))
        self.finish(handler.handle(pile))

    def test_it_stops_without_having_handled_anything(self, handler: Any) -> None:
        assert handler is not None


_PEER = "192.0.2.7:51123"


def _event(number: int, raw: bool) -> Event:
    message = f"message {number}"
    event = Event(
        f"01BATCH-{number}",
        _TIME,
        _TIME,
        "tests",
        _PEER,
        "text",
        message,
        {"hostname": "host", "structured_data": {"id": {"key": ["value"]}}, "number": number},
        {"labels": {"site": "hq"}},
    )
    return event.replace(raw=message) if raw else event


def _plain(item: Any) -> Any:
    """A deep copy of an event or batch as plain data, to compare with later."""
    return copy.deepcopy({name: getattr(item, name) for name in msgspec.structs.asdict(item)})

"""What every listener has to do, whatever it listens to. Subclass `ListenerConformance` and give it two methods."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Collection
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from eventserver.counters import ListenerCounters
from eventserver.event import Batch
from eventserver.framing.lines import LinesFramer
from eventserver.interfaces import AckLevel, IConnections, IIntake, IListener, IReplyWriter, ListenerContext
from eventserver.options import Options, field_types

_NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@implementer(IIntake)
class _Intake:
    refusal = "full"

    def __init__(self) -> None:
        self.full = False
        self.batches: list[Batch] = []
        self.position = 0

    def put(self, batch: Batch) -> int | None:
        if self.full:
            return None
        self.batches.append(batch)
        self.position += len(batch.frames)
        return self.position

    def watch(
        self,
        level: AckLevel,
        position: int,
        done: Callable[[Failure | None], None],
        handlers: Collection[str] | None = None,
    ) -> None:
        done(None)

    @property
    def frames(self) -> list[bytes]:
        return [frame for batch in self.batches for frame in batch.frames]


@implementer(IConnections)
class _Connections:
    def __init__(self) -> None:
        self.open: dict[int, IReplyWriter] = {}
        self._numbers = itertools.count(1)

    def add(self, writer: IReplyWriter) -> int:
        number = next(self._numbers)
        self.open[number] = writer
        return number

    def remove(self, connection: int) -> None:
        del self.open[connection]


class Setting:
    """A listener under test, started, and what it was given."""

    def __init__(self, make: Callable[[ListenerContext], Any], *, replies: bool = False) -> None:
        ids = itertools.count()
        self.reactor = MemoryReactorClock()
        self.intake = _Intake()
        self.connections = _Connections()
        self.counters = ListenerCounters()
        self.context = ListenerContext(
            name="under_test",
            decoder="some_decoder",
            reactor=self.reactor,
            intake=self.intake,
            connections=self.connections,
            new_framer=lambda: LinesFramer(LinesFramer.Options()),
            new_datagram_framer=None,
            new_id=lambda: f"{next(ids):026}",
            now=lambda: _NOW,
            log=Logger("eventserver.testing"),
            counters=self.counters,
            batch_context={"labels": {"site": "here"}},
            replies=replies,
        )
        self.listener = make(self.context)

    def start(self) -> None:
        """Listen, and run."""
        failed: list[Failure] = []
        self.listener.listen().addErrback(failed.append)
        assert not failed, failed
        self.listener.startService()

    def stop(self) -> None:
        """Stop; time passes until it has."""
        stopped: list[object] = []
        result = self.listener.stopService()
        if result is None:
            return
        result.addBoth(stopped.append)
        for _ in range(120):
            if stopped:
                break
            self.reactor.advance(1)
        assert stopped, "stopService never fired its Deferred"
        assert not isinstance(stopped[0], Failure), stopped[0]


class ListenerConformance:
    """The tests. A subclass says how to make the listener, and how to send to it."""

    def make(self, context: ListenerContext) -> Any:
        """A listener that listens in memory, or on loopback with port 0."""
        raise NotImplementedError

    def send(self, setting: Setting, frames: list[bytes]) -> None:
        """Send these frames (lines of text) as one peer does that then goes away. Returns when they were read."""
        raise NotImplementedError

    @pytest.fixture
    def setting(self) -> Any:
        setting = Setting(self.make)
        yield setting
        assert setting.counters.balanced(), setting.counters

    def test_it_declares_itself(self, setting: Setting) -> None:
        """Interface, options with descriptions, and the schemes of its endpoints."""
        listener = setting.listener
        assert verifyObject(IListener, listener)
        cls = type(listener)
        assert issubclass(cls.Options, Options)
        assert all(meta is not None and meta.description for _, meta in field_types(cls.Options).values())
        assert cls.schemes
        with pytest.raises(ValueError, match="no-such-scheme"):
            cls.check_endpoint("no-such-scheme:1")

    def test_nothing_listens_before_and_after(self, setting: Setting) -> None:
        assert setting.listener.addresses() == []
        setting.start()
        assert setting.listener.addresses()
        assert setting.listener.connections() == []
        setting.stop()
        assert setting.listener.addresses() == []
        assert setting.reactor.getDelayedCalls() == []
        assert not setting.reactor.readers

    def test_it_can_be_started_again(self, setting: Setting) -> None:
        for text in (b"one", b"two"):
            setting.start()
            self.send(setting, [text])
            setting.stop()
        assert setting.intake.frames == [b"one", b"two"]

    def test_frames_arrive_with_what_is_known_of_them(self, setting: Setting) -> None:
        """In order, with peer, names, time, context, and an id for each batch."""
        setting.start()
        sent = [b"frame %d" % number for number in range(100)]
        self.send(setting, sent)
        assert setting.intake.frames == sent
        for batch in setting.intake.batches:
            assert (batch.listener, batch.decoder, batch.received) == ("under_test", "some_decoder", _NOW)
            assert batch.context["labels"] == {"site": "here"}
            assert len(batch.peers) in (1, len(batch.frames))
            assert all(batch.peers)
            assert batch.connection == 0
        assert len({batch.id for batch in setting.intake.batches}) == len(setting.intake.batches)
        assert setting.counters.received == setting.counters.journaled == 100
        assert setting.counters.bytes >= sum(map(len, sent))
        setting.stop()

    def test_what_a_full_intake_refuses_is_kept_or_counted(self, setting: Setting) -> None:
        setting.start()
        setting.intake.full = True
        self.send(setting, [b"a", b"b"])
        assert setting.counters.journaled == 0
        setting.intake.full = False
        setting.listener.resume()
        assert setting.counters.received == 2
        assert setting.intake.frames == ([] if setting.counters.rejected["full"] == 2 else [b"a", b"b"])
        self.send(setting, [b"c"])
        assert setting.intake.frames[-1:] == [b"c"]
        setting.stop()

    def test_a_full_intake_does_not_keep_it_from_stopping(self, setting: Setting) -> None:
        setting.start()
        setting.intake.full = True
        self.send(setting, [b"a", b"b"])
        setting.stop()
        assert setting.counters.received == sum(setting.counters.rejected.values()) == 2

    def test_pause_and_resume_may_come_at_any_time(self, setting: Setting) -> None:
        """Before the start, twice, and after the end."""
        listener = setting.listener
        listener.pause()
        listener.pause()
        setting.start()
        listener.resume()
        listener.resume()
        self.send(setting, [b"a"])
        assert setting.intake.frames == [b"a"]
        listener.pause()
        setting.stop()
        listener.resume()

    def test_connections_can_be_answered_only_while_they_are_known(self) -> None:
        setting = Setting(self.make, replies=True)
        setting.start()
        self.send(setting, [b"a"])
        [batch] = setting.intake.batches
        assert batch.connection_of(0) > 0
        assert setting.connections.open.keys() <= {batch.connection_of(0)}
        setting.stop()
        assert setting.connections.open == {}

"""What every journal and every intake promises, as tests: inherit, and say how to make one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from eventserver.durable import IDurableJournal
from eventserver.event import Batch, size_of
from eventserver.interfaces import Entry, IIntake, IJournal, IReader, Parked
from eventserver.testing.data import RECEIVED, make_batch, make_event


def parked(event_id: str, next_attempt: dt.datetime | None = None, handler: str = "h") -> Parked:
    """A record of a failed event."""
    return Parked(
        handler=handler,
        event=make_event("failed", id=event_id),
        frame=b"failed",
        error="ValueError: no",
        traceback="Traceback ...",
        attempts=1,
        first_attempt=RECEIVED,
        last_attempt=RECEIVED,
        next_attempt=next_attempt,
    )


class JournalConformance:
    """The promises of `IJournal` and `IReader`."""

    def make(self, tmp_path: Any) -> Any:
        """An empty journal of at least 1 MiB."""
        raise NotImplementedError

    def commit(self, journal: Any) -> None:
        """Have committed what was appended. A journal that commits at once needs nothing."""

    @pytest.fixture
    def journal(self, tmp_path: Any) -> Any:
        return self.make(tmp_path)

    def append(self, journal: Any, *lines: bytes, listener: str = "test") -> int:
        batch = make_batch(*lines, listener=listener)
        position: int = journal.append(batch, size_of(batch))
        self.commit(journal)
        return position

    def read(self, reader: Any, max_bytes: int = 1 << 20) -> list[Entry]:
        entries = reader.read(max_bytes)
        if hasattr(entries, "addCallback"):
            found: list[list[Entry]] = []
            entries.addCallback(found.append)
            entries = found[0]
        assert isinstance(entries, list)
        return entries

    def test_it_provides_the_interfaces(self, journal: Any) -> None:
        assert verifyObject(IJournal, journal)
        assert verifyObject(IReader, journal.reader("h"))

    def test_positions_count_frames(self, journal: Any) -> None:
        journal.reader("h")
        assert self.append(journal, b"a", b"b") == 2
        assert self.append(journal, b"c") == 3
        assert journal.head == journal.committed == 3

    def test_a_reader_gets_what_was_committed_once_and_in_order(self, journal: Any) -> None:
        reader = journal.reader("h")
        self.append(journal, b"a", b"b")
        self.append(journal, b"c")
        entries = self.read(reader)
        assert [entry.batch.frames for entry in entries] == [[b"a", b"b"], [b"c"]]
        assert [(entry.first, entry.end) for entry in entries] == [(0, 2), (2, 3)]
        assert self.read(reader) == []

    def test_max_bytes_is_soft_by_one_entry(self, journal: Any) -> None:
        reader = journal.reader("h")
        for _ in range(3):
            self.append(journal, b"x" * 100)
        assert len(self.read(reader, 1)) == 1
        assert len(self.read(reader)) == 2

    def test_the_callback_comes_after_each_commit(self, journal: Any) -> None:
        reader = journal.reader("h")
        seen: list[int] = []
        journal.on_commit(lambda: seen.extend(entry.end for entry in self.read(reader)))
        self.append(journal, b"a")
        self.append(journal, b"b")
        assert seen == [1, 2]

    def test_what_every_cursor_has_passed_is_freed(self, journal: Any) -> None:
        journal.reader("one")
        journal.reader("two")
        end = self.append(journal, b"a")
        assert journal.size > 0
        journal.commit_cursor("one", end)
        assert journal.oldest() == ["two"]
        journal.commit_cursor("two", end)
        assert journal.size == 0
        assert journal.oldest() == []

    def test_a_cursor_may_rest_inside_a_batch_and_never_moves_back(self, journal: Any) -> None:
        reader = journal.reader("h")
        self.append(journal, b"a", b"b", b"c")
        journal.commit_cursor("h", 2)
        assert reader.position == 2
        journal.commit_cursor("h", 1)
        assert reader.position == 2
        assert reader.lag_bytes() > 0
        journal.commit_cursor("h", 3)
        assert reader.lag_bytes() == 0

    def test_expiring_moves_one_cursor_behind_its_oldest_batch(self, journal: Any) -> None:
        lossy, whole = journal.reader("lossy"), journal.reader("whole")
        self.append(journal, b"a", b"b")
        self.append(journal, b"c")
        assert lossy.expire_oldest() == 2
        assert [entry.batch.frames for entry in self.read(lossy)] == [[b"c"]]
        assert whole.position == 0
        assert len(self.read(whole)) == 2

    def test_a_reader_of_some_listeners_moves_over_the_batches_of_others(self, journal: Any) -> None:
        some, every = journal.reader("some", listeners=["a"]), journal.reader("every")
        self.append(journal, b"1", b"2", listener="b")
        assert (some.position, some.skipped, some.lag_bytes()) == (2, 2, 0)
        end = self.append(journal, b"3", listener="a")
        self.append(journal, b"4", listener="b")
        assert (some.position, some.skipped, every.position) == (2, 2, 0)
        assert [entry.batch.frames for entry in self.read(some)] == [[b"3"]]
        assert len(self.read(every)) == 3
        journal.commit_cursor("some", end)
        assert (some.position, some.skipped, some.lag_bytes()) == (4, 3, 0)
        assert journal.oldest() == ["every"]
        journal.commit_cursor("every", 4)
        assert (every.skipped, journal.size) == (0, 0)

    def test_only_gives_an_entry_that_comes_alone_and_is_not_too_large(self, journal: Any) -> None:
        """Or nothing, whenever a journal would have to look: `read` has it then."""
        reader = journal.reader("h")
        assert reader.only(10, 1 << 20) is None
        self.append(journal, b"a", b"b")
        assert reader.only(1, 1 << 20) is None
        assert reader.only(10, 1) is None
        entry = reader.only(10, 1 << 20)
        assert entry is None or entry.batch.frames == [b"a", b"b"]
        assert len(self.read(reader)) == (entry is None)
        self.append(journal, b"c")
        assert reader.only(10, 1 << 20) is None
        assert [entry.batch.frames for entry in self.read(reader)] == [[b"c"]]

    def test_a_passing_reader_reads_like_any_other(self, journal: Any) -> None:
        reader = journal.reader("passing", passing=True)
        assert journal.reader("passing") is reader
        end = self.append(journal, b"a")
        assert [entry.batch.frames for entry in self.read(reader)] == [[b"a"]]
        journal.commit_cursor("passing", end)
        journal.drop_reader("passing")
        assert (journal.size, journal.oldest()) == (0, [])

    def test_each_reader_is_woken_once_there_is_something_for_it(self, journal: Any) -> None:
        woken: list[str] = []
        for name, listeners in (("a", ["a"]), ("b", ["b"]), ("every", None)):
            journal.reader(name, listeners=listeners).ready = lambda name=name: woken.append(name)
        self.append(journal, b"1", listener="a")
        assert sorted(woken) == ["a", "every"]

    def test_what_was_read_and_not_passed_is_not_read_again(self, journal: Any) -> None:
        reader = journal.reader("h")
        self.append(journal, b"a")
        self.append(journal, b"b")
        first = self.read(reader, 1)
        self.append(journal, b"c")
        rest = self.read(reader)
        assert [entry.batch.frames for entry in first + rest] == [[b"a"], [b"b"], [b"c"]]
        journal.commit_cursor("h", 1)
        assert (reader.position, self.read(reader)) == (1, [])
        assert reader.lag_bytes() == sum(entry.size for entry in rest)

    def test_expiring_at_the_head_changes_nothing(self, journal: Any) -> None:
        assert journal.reader("h").expire_oldest() == journal.head

    def test_a_dropped_reader_holds_nothing(self, journal: Any) -> None:
        journal.reader("h")
        self.append(journal, b"a")
        journal.commit_cursor("h", 0, [parked("B-0")])
        journal.drop_reader("h")
        assert journal.size == 0
        journal.reader("h")
        assert journal.parked("h") == []

    def test_parked_and_dead_events_are_kept_until_they_are_settled(self, journal: Any) -> None:
        journal.reader("h")
        journal.commit_cursor("h", 0, [parked("B-0", RECEIVED), parked("B-1"), parked("B-0", handler="h")])
        assert self.failed(journal) == [("B-0", None), ("B-1", None)]
        journal.commit_cursor("h", 0, (), ["B-0"])
        assert self.failed(journal) == [("B-1", None)]
        journal.commit_cursor("h", 0, [parked("B-1", RECEIVED)])
        assert self.failed(journal) == [("B-1", RECEIVED)]

    def failed(self, journal: Any) -> list[tuple[str, Any]]:
        """What is parked and dead; a durable journal tells the two apart."""
        found = list(journal.parked("h"))
        if IDurableJournal.providedBy(journal):
            assert all(one.next_attempt is not None for one in found)
            found += [one for _, one in journal.dead("h")]
        return sorted((one.event.id, one.next_attempt) for one in found)

    def test_info_is_plain_data(self, journal: Any) -> None:
        journal.reader("h")
        self.append(journal, b"a")
        assert journal.info()["cursors"] == {"h": 0}


class IntakeConformance:
    """The promises of `IIntake`. `make` returns an intake of about 10,000 bytes with one handler that is stuck."""

    def make(self) -> tuple[Any, Callable[[], None]]:
        """An intake, and a function by which its handler finishes all that it was given and will be."""
        raise NotImplementedError

    def batch(self, number: int = 0, size: int = 500) -> Batch:
        return make_batch(b"x" * size, id=f"B{number:025}")

    def test_it_provides_the_interface(self) -> None:
        assert verifyObject(IIntake, self.make()[0])

    def test_positions_count_frames(self) -> None:
        intake, finish = self.make()
        assert [intake.put(self.batch(number)) for number in range(3)] == [1, 2, 3]
        finish()

    def test_it_refuses_at_its_bound_and_takes_again_when_there_is_room(self) -> None:
        intake, finish = self.make()
        taken = 0
        while intake.put(self.batch(taken)) is not None:
            taken += 1
            assert taken < 100, "there is no bound"
        finish()
        assert intake.put(self.batch(100)) == taken + 1

    def test_delivered_is_told_once_and_in_order(self) -> None:
        intake, finish = self.make()
        seen: list[Any] = []

        def note(number: int) -> Callable[[Failure | None], None]:
            return lambda failure: seen.append((number, failure))

        positions = [intake.put(self.batch(number)) for number in range(3)]
        for position in reversed(positions):
            intake.watch("delivered", position, note(position))
        assert seen == []
        finish()
        assert seen == [(1, None), (2, None), (3, None)]

    def test_memory_is_told_at_once(self) -> None:
        intake, finish = self.make()
        seen: list[Any] = []
        intake.watch("memory", intake.put(self.batch()), seen.append)
        assert seen == [None]
        finish()

"""The replays of a server: started, listed, cancelled, and taken up again after a restart."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from twisted.logger import Logger

from eventserver.counters import HandlerCounters
from eventserver.delivery import Decoding, Delivery, DeliveryOptions
from eventserver.durable import IDurableJournal
from eventserver.intake import Intake
from eventserver.interfaces import Parked
from eventserver.replaying.counting import Counted, count
from eventserver.replaying.gate import Gate
from eventserver.replaying.reading import MatchingFrames, ReplayJournal
from eventserver.replaying.records import MARK, ReplayFile, ReplayRecord
from eventserver.replaying.requests import (
    Replayable,
    ReplayError,
    ReplayRequest,
    check,
    narrowed,
    options_for,
    range_of,
)
from eventserver.replaying.running import OUTCOMES, Running

#: Seconds between looks at whether a replay is done, besides those when its cursor moves.
INTERVAL = 1.0

_log = Logger(namespace="eventserver.replay")


class Replays:
    """Has handlers called with history. Each replay is a loop of its own, with a durable cursor `HANDLER@replay-ID`.

    One replay a handler at a time: a second one would only make the first one slower. `path` is the file that
    remembers them. The loop's cursor counts for the journal like one with `when_full = "drop_oldest"`: where room is
    needed a replay gives way, and never keeps senders waiting.
    """

    def __init__(
        self,
        journal: IDurableJournal,
        *,
        path: Path,
        decoding: Decoding,
        intake: Intake,
        reactor: Any,
        now: Callable[[], dt.datetime],
        random: Callable[[], float],
        dead_full: Callable[[int], bool] = lambda size: False,
    ) -> None:
        self._journal: Any = journal
        self._file = ReplayFile(path)
        self._decoding = decoding
        self._intake = intake
        self._reactor = reactor
        self._now = now
        self._random = random
        self._dead_full = dead_full
        self._handlers: dict[str, Replayable] = {}
        self._running: dict[str, Running] = {}
        # By handler: a gate stays until no call of its replay runs any more.
        self._gates: dict[str, Gate] = {}
        # What waits for the replay of its handler that runs.
        self._queued: list[ReplayRecord] = []
        self._totals: dict[str, Counter[str]] = {}
        self._stopped = False

    def add_handler(
        self,
        name: str,
        delivery: Delivery,
        options: DeliveryOptions,
        listeners: Sequence[str] | None = None,
        select: Any = None,
    ) -> None:
        """Make a handler known, with what its own loop was made of."""
        self._handlers[name] = Replayable(delivery, options, None if listeners is None else tuple(listeners), select)

    def handlers(self) -> list[str]:
        """The names of the handlers."""
        return sorted(self._handlers)

    # Starting and stopping with the server

    def start(self) -> None:
        """Take up what had not ended. Called when the handlers' own loops have started."""
        self._file.read()
        going = {}
        cursors = self._journal.cursors()
        there = {cursor.name for cursor in cursors}
        for record in self._file.replays.values():
            if record.state == "running" and record.begun and record.cursor not in there:
                # Somebody dropped its cursor, or it waited for its handler too long.
                self._ended(record, "cancelled")
            if record.state == "running" and record.handler in self._handlers:
                going[record.cursor] = record
        for cursor in cursors:
            if MARK in cursor.name and cursor.name not in going and self._has_ended(cursor.name):
                # It ended, and the server before its cursor was dropped.
                self._journal.drop_reader(cursor.name)
        for record in going.values():
            _log.info("replay {id} for handler {handler} goes on", id=record.id, handler=record.handler)
            self._run_in_turn(record)

    def _has_ended(self, cursor: str) -> bool:
        handler, _, id = cursor.rpartition(MARK)
        record = self._file.replays.get(id)
        # One whose handler is gone for now waits for it, as every cursor does.
        return record is None or record.handler != handler or record.state != "running"

    def finish(self) -> list[Delivery]:
        """Let nothing more go; the loops that have a call under way, which may come to its end."""
        for running in self._running.values():
            running.gate.hold()
        return [running.delivery for running in self._running.values() if running.gate.replaying]

    def stop(self) -> None:
        """Call nobody any more; the replays go on when the server is started again."""
        self._stopped = True
        for running in self._running.values():
            running.update()
            self._halt(running)
        if self._running:
            self._running = {}
            self._write()

    # What people ask for

    def all(self) -> list[ReplayRecord]:
        """All replays, those that ended lately among them, in the order in which they were started."""
        for running in self._running.values():
            running.update()
        return list(self._file.replays.values())

    def get(self, id: str) -> ReplayRecord:
        """One replay. Raises `ReplayError` if there is none."""
        if id in self._running:
            self._running[id].update()
        if id not in self._file.replays:
            raise ReplayError(f"there is no replay {id!r}")
        return self._file.replays[id]

    def position(self, record: ReplayRecord) -> int:
        """How far a replay has come."""
        running = self._running.get(record.id)
        return record.reached_in(self._journal) if running is None else record.position(running.delivery.position)

    async def begin(self, request: ReplayRequest) -> ReplayRecord:
        """Start a replay. Raises `ReplayError`, or `OSError` where it cannot be written down."""
        self._replayable(request)
        start, end = await range_of(request, self._journal)
        # Others may have asked meanwhile.
        if request.handler in self._gates:
            raise ReplayError(f"a replay for handler {request.handler!r} is running; wait, or cancel it")
        return self._begin(request.handler, start, end, request.match, request.rate)

    async def count(self, request: ReplayRequest) -> Counted:
        """What a replay would bring, without calling the handler. Raises `ReplayError`."""
        handler = self._replayable(request)
        start, end = await range_of(request, self._journal)
        return await count(
            Counted(start=start, end=end, next=start),
            journal=self._journal,
            decoding=self._decoding,
            listeners=handler.listeners,
            select=narrowed(handler.select, request.match),
            as_frames=handler.delivery.handler.wants == "frames",
            reactor=self._reactor,
        )

    def cancel(self, id: str) -> ReplayRecord:
        """End a replay; what it is handing over now ends as it does when the server stops. Raises `ReplayError`."""
        record = self.get(id)
        if record.state != "running":
            raise ReplayError(f"replay {id!r} has ended ({record.state})")
        running = self._running.get(id)
        if running is None:
            # Its handler is not in the settings any more, or has another replay now.
            if record in self._queued:
                self._queued.remove(record)
            record.reached = self.position(record)
            self._ended(record, "cancelled")
            if any(cursor.name == record.cursor for cursor in self._journal.cursors()):
                self._journal.drop_cursor(record.cursor)
        else:
            self._end(running, "cancelled")
        return record

    def take_back(self, parked: Sequence[Parked]) -> list[str]:
        """Have dead letters tried again that the journal has as parked events now.

        Returns the names of the handlers that are not there to try them: they will when they are.
        """
        by_name: dict[str, list[Parked]] = {}
        for one in parked:
            by_name.setdefault(one.handler, []).append(one)
        return [name for name, records in by_name.items() if not self._taken_back(name, records)]

    def _taken_back(self, name: str, records: Sequence[Parked]) -> bool:
        if name in self._handlers:
            self._handlers[name].delivery.take_back(records)
            return True
        handler, mark, id = name.rpartition(MARK)
        if not mark:
            return False
        if id in self._running and self._running[id].record.cursor == name:
            self._running[id].delivery.take_back(records)
            return True
        # The replay has ended: it is opened again, for these alone.
        record = self._file.reopen(name, self._journal.committed, self._now())
        self._write()
        if handler in self._handlers and record not in self._queued:
            self._run_in_turn(record)
        return handler in self._handlers

    def room_for_dead(self) -> None:
        """There is room for dead letters again: what waits for that goes on."""
        for running in list(self._running.values()):
            running.delivery.room_for_dead()

    def hurry(self) -> None:
        """Have what waits for its destination tried now."""
        for running in list(self._running.values()):
            running.delivery.hurry()

    def totals(self) -> dict[str, Counter[str]]:
        """Since the server was started: by handler, events replayed by outcome (`delivered`, `filtered`, ...)."""
        found = {name: self._totals.get(name, Counter(dict.fromkeys(OUTCOMES, 0))).copy() for name in self._handlers}
        for running in self._running.values():
            found[running.record.handler].update(running.outcomes())
        return found

    # The work

    def _replayable(self, request: ReplayRequest) -> Replayable:
        check(request)
        handler = self._handlers.get(request.handler)
        if handler is None:
            names = ", ".join(sorted(self._handlers)) or "none"
            raise ReplayError(f"there is no handler {request.handler!r}; there are: {names}")
        return handler

    def _begin(self, handler: str, start: int, end: int, match: str | None, rate: float | None) -> ReplayRecord:
        record = ReplayRecord(
            id=self._file.new_id(),
            handler=handler,
            start=start,
            end=end,
            match=match,
            rate=rate,
            started=self._now(),
        )
        self._file.replays[record.id] = record
        try:
            # Before there is a cursor: one that nobody knows of would be dropped.
            self._file.write()
        except OSError:
            del self._file.replays[record.id]
            raise
        _log.info(
            "replay {id} for handler {handler}: positions {start} to {end}",
            id=record.id,
            handler=handler,
            start=start,
            end=end,
        )
        self._run_in_turn(record)
        return record

    def _run_in_turn(self, record: ReplayRecord) -> None:
        if record.handler in self._gates:
            self._queued.append(record)
        else:
            self._run(record)

    def _run(self, record: ReplayRecord) -> None:
        live = self._handlers[record.handler]
        gate = Gate(
            self._reactor,
            idle=lambda: bool(live.delivery.position >= self._journal.committed),
            unwell=lambda: live.delivery.unwell is not None,
            calling=lambda: live.delivery.calling,
            rate=record.rate,
        )
        handler: Any = live.delivery.handler
        frames = None
        select = narrowed(live.select, record.match)
        if handler.wants == "frames":
            # It takes frames as they are, so there is no match of its own.
            if select is not None:
                frames = handler = MatchingFrames(handler, self._decoding.decode, select, self._reactor)
            select = None
        delivery = Delivery(
            record.cursor,
            handler,
            journal=ReplayJournal(self._journal, record.last, record.id, lambda: self._look_soon(record.id)),  # type: ignore[arg-type]
            decoding=self._decoding,
            settings=options_for(live.options, record.rate),
            counters=HandlerCounters(),
            reactor=self._reactor,
            now=self._now,
            random=self._random,
            listeners=live.listeners,
            select=select,
            moved=lambda: self._moved(record.id),
            dead_full=self._dead_full,
            position=record.first,
        )
        running = Running(record, delivery, gate, msgspec.structs.replace(record), frames)
        self._running[record.id] = running
        self._gates[record.handler] = gate
        live.delivery.take_turns(gate.live)
        delivery.take_turns(gate.replay)
        self._intake.add_consumer(delivery)
        delivery.start()
        running.timer = self._reactor.callLater(0, self._look, record.id)
        if not record.begun:
            self._journal.flush().addCallbacks(
                lambda _: self._begun(record),
                lambda failure: _log.failure("the cursor of a replay could not be written", failure),
            )

    def _begun(self, record: ReplayRecord) -> None:
        if record.state == "running":
            record.begun = True
            self._write()

    def _moved(self, id: str) -> None:
        self._intake.moved()
        self._look_soon(id)

    def _look_soon(self, id: str) -> None:
        running = self._running.get(id)
        # Not now: this is called in the middle of a step of its loop.
        if running is not None and running.timer is not None and running.delivery.position >= running.record.last:
            running.cancel_timer()
            running.timer = self._reactor.callLater(0, self._look, id)

    def _look(self, id: str) -> None:
        """End the replay if it is done; called once in a while."""
        running = self._running.get(id)
        if running is None:
            return
        if running.delivery.quiet and not running.delivery.lost():
            self._end(running, "done")
            return
        running.timer = self._reactor.callLater(INTERVAL, self._look, id)

    def _end(self, running: Running, state: Any) -> None:
        record = running.record
        running.update()
        record.reached = self.position(record)
        self._totals.setdefault(record.handler, Counter(dict.fromkeys(OUTCOMES, 0))).update(running.outcomes())
        self._halt(running)
        del self._running[record.id]
        # First what says that it has ended: a cursor that is left behind is dropped at the next start, and a record
        # without its cursor would begin anew.
        self._ended(record, state)
        self._journal.drop_reader(record.cursor)
        _log.info(
            "replay {id} for handler {handler} has ended: {state}", id=record.id, handler=record.handler, state=state
        )

    def _ended(self, record: ReplayRecord, state: Any) -> None:
        record.state, record.ended = state, self._now()
        self._write()

    def _halt(self, running: Running) -> None:
        running.cancel_timer()
        name = running.record.handler
        running.delivery.stop()
        self._intake.remove_consumer(running.delivery.name)

        def free() -> None:
            if self._gates.get(name) is running.gate:
                del self._gates[name]
                self._handlers[name].delivery.take_turns(None)
                following = next((record for record in self._queued if record.handler == name), None)
                if following is not None and not self._stopped:
                    self._queued.remove(following)
                    self._run(following)

        running.gate.close(free)

    def _write(self) -> None:
        try:
            self._file.write()
        except OSError as error:
            _log.error("what replays there are could not be written down: {error}", error=str(error))

"""Parked events and dead letters, and what is to be written of them to `meta.db`.

What is parked is in memory as the bytes that are on disk. Of a dead letter only its head is, once it is on disk: there
may be hundreds of thousands, and its payload is read when somebody asks.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec

from eventserver.event import Event
from eventserver.interfaces import Parked
from eventserver.journal._meta import DEAD, PAYLOAD, Changes, Records
from eventserver.journal._payloads import Steps

KIND = "failed"
#: Payloads that are read in one go.
PIECE = 500
#: Bytes that a dead letter takes in memory besides its names, as measured: they bound how many there may be.
OVERHEAD = 600


class Record(msgspec.Struct, array_like=True):
    """One of them, with its number: the order in which they failed."""

    number: int
    parked: Parked


class Head(msgspec.Struct, array_like=True):
    """What is known of a dead letter without its payload; `size` is that one's bytes."""

    handler: str
    event_id: str
    size: int


class _Kept(msgspec.Struct, gc=False):
    number: int
    handler: str
    event_id: str
    dead: bool
    size: int
    data: bytes | None
    """None for a dead letter whose payload is on disk."""

    @property
    def weight(self) -> int:
        """The bytes that a dead letter counts for: on the disk, and in memory, where its names are twice."""
        return self.size + OVERHEAD + 2 * (len(self.handler) + len(self.event_id))


_encoder = msgspec.msgpack.Encoder(enc_hook=str)
_decoder = msgspec.msgpack.Decoder(Record)
_head_decoder = msgspec.msgpack.Decoder(Head)


class Failed:
    """By handler and id of the event. Whatever changes goes into `changes` until it is taken to be written.

    A dead letter whose payload is gone is logged by `lost(number, handler)` and forgotten.
    """

    def __init__(self, lost: Callable[[int, str], None] = lambda number, handler: None) -> None:
        self.dead_bytes = 0
        self.lost = 0
        """Those that could not be read any more, since the start."""
        self.changes: Changes = {}
        self._lost = lost
        self._next = 1
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._dead: dict[int, _Kept] = {}
        self._numbers: list[int] | None = []  # of `_dead`, in order; None when it has to be made again
        self._counts: dict[str, list[int]] = {}

    def restore(self, records: Records) -> int:
        """Take over what is in `meta.db`; returns how many could not be read."""
        unreadable = 0
        found: list[_Kept] = []
        for (kind, key), data in records.items():
            if kind not in (KIND, DEAD):
                continue
            try:
                found.append(_restored_head(key, data) if kind == DEAD else _restored(data))
            except (msgspec.MsgspecError, ValueError, TypeError):
                unreadable += 1
        self.lost += unreadable
        for kept in sorted(found, key=lambda kept: kept.number):
            self._add(kept)
            self._next = kept.number + 1
            if kept.dead and kept.data is not None:
                # An older version kept it among the parked ones.
                number = str(kept.number)
                self.changes |= {(KIND, number): None, (DEAD, number): _head_of(kept), (PAYLOAD, number): kept.data}
        return unreadable

    def _add(self, kept: _Kept) -> None:
        self._kept[kept.handler, kept.event_id] = kept
        self._counts.setdefault(kept.handler, [0, 0])[kept.dead] += 1
        if kept.dead:
            self.dead_bytes += kept.weight
            self._dead[kept.number] = kept
            self._numbers = None

    def _take_out(self, key: tuple[str, str]) -> _Kept | None:
        kept = self._kept.pop(key, None)
        if kept is None:
            return None
        counts = self._counts[kept.handler]
        counts[kept.dead] -= 1
        if not any(counts):
            del self._counts[kept.handler]
        if kept.dead:
            self.dead_bytes -= kept.weight
            del self._dead[kept.number]
            self._numbers = None
        return kept

    def _remove(self, key: tuple[str, str]) -> _Kept | None:
        kept = self._take_out(key)
        if kept is not None:
            for kind in (DEAD, PAYLOAD) if kept.dead else (KIND,):
                self.changes[kind, str(kept.number)] = None
        return kept

    def _put(self, parked: Parked) -> None:
        number, self._next = self._next, self._next + 1
        data = _encode(Record(number, parked))
        kept = _Kept(number, parked.handler, parked.event.id, parked.next_attempt is None, len(data), data)
        self._add(kept)
        if kept.dead:
            self.changes[DEAD, str(number)] = _head_of(kept)
        self.changes[PAYLOAD if kept.dead else KIND, str(number)] = data

    def written(self, numbers: Collection[str]) -> None:
        """These payloads are on disk."""
        for number in numbers:
            if (kept := self._dead.get(int(number))) is not None:
                kept.data = None

    def keep(self, name: str, parked: Sequence[Parked], settled: Collection[str]) -> None:
        """Write parked and dead events of a handler, and forget settled ones."""
        for event_id in settled:
            self._remove((name, event_id))
        for one in parked:
            self._remove((name, one.event.id))
            self._put(one if one.handler == name else msgspec.structs.replace(one, handler=name))

    def rename(self, old: str, new: str) -> None:
        """Give all of one handler to another; dead letters keep their numbers."""
        for one in self.parked(old):
            self._remove((old, one.event.id))
            self._put(msgspec.structs.replace(one, handler=new))
        for key in [key for key in self._kept if key[0] == old]:
            kept = self._take_out(key)
            if kept is not None:
                # What had that name before may have left the same event.
                self._remove((new, kept.event_id))
                kept.handler = new
                self._add(kept)
                self.changes[DEAD, str(kept.number)] = _head_of(kept)

    def drop(self, name: str, dead: bool) -> None:
        """Forget what is parked for a handler, or its dead letters."""
        for key in [key for key, kept in self._kept.items() if key[0] == name and kept.dead == dead]:
            self._remove(key)

    def count(self, name: str | None, dead: bool) -> int:
        """How many are parked, or dead."""
        if name is not None:
            return self._counts.get(name, [0, 0])[dead]
        return sum(counts[dead] for counts in self._counts.values())

    def counts(self) -> dict[str, list[int]]:
        """By handler, how many are parked and how many are dead."""
        return {name: list(counts) for name, counts in self._counts.items()}

    def parked(self, name: str) -> list[Parked]:
        """What waits for another attempt, oldest first."""
        return [
            _decoder.decode(kept.data).parked
            for kept in self._kept.values()
            if kept.handler == name and not kept.dead and kept.data is not None
        ]

    # Dead letters

    def dead(self, name: str | None, after: int, limit: int) -> Steps[list[tuple[int, Parked]]]:
        """Dead letters with their numbers, oldest first, those behind a number."""
        found: list[tuple[int, Parked]] = []
        if name is not None and not self.count(name, True):
            return found
        while len(found) < limit and (piece := list(islice(self._behind(name, after), min(PIECE, limit - len(found))))):
            after = piece[-1].number
            found += yield from self._with_payload(piece)
        return found

    def _behind(self, name: str | None, after: int) -> Iterator[_Kept]:
        if self._numbers is None:
            self._numbers = sorted(self._dead)
        numbers = self._numbers
        for index in range(bisect_right(numbers, after), len(numbers)):
            kept = self._dead.get(numbers[index])
            if kept is not None and name in (None, kept.handler):
                yield kept

    def _with_payload(self, kepts: Sequence[_Kept]) -> Steps[list[tuple[int, Parked]]]:
        """Those whose payload there is; the others are lost."""
        # It may be written meanwhile, and is out of memory then.
        known = {kept.number: kept.data for kept in kepts}
        payloads = yield [str(number) for number, data in known.items() if data is None]
        found = []
        for kept in kepts:
            if self._dead.get(kept.number) is not kept:
                # Somebody has dropped it, or had it tried again, meanwhile.
                continue
            data = known[kept.number] or payloads.get(str(kept.number))
            try:
                parked = _decoder.decode(data or b"").parked
            except (msgspec.MsgspecError, ValueError, TypeError):
                self._remove((kept.handler, kept.event_id))
                self.lost += 1
                self._lost(kept.number, kept.handler)
                continue
            # Who has it now is in its head.
            found.append((kept.number, msgspec.structs.replace(parked, handler=kept.handler)))
        return found

    def drop_dead(self, numbers: Collection[int]) -> int:
        """Forget dead letters; returns how many there were."""
        doomed = self._chosen(numbers)
        for kept in doomed:
            self._remove((kept.handler, kept.event_id))
        return len(doomed)

    def _chosen(self, numbers: Collection[int]) -> list[_Kept]:
        return [self._dead[number] for number in sorted(set(numbers)) if number in self._dead]

    def retry_dead(self, numbers: Collection[int], now: dt.datetime) -> Steps[list[Parked]]:
        """Make parked events of dead letters, due now and with no attempts so far.

        Where the disk fails nothing has changed: nobody would try those again that had been made parked events by then.
        """
        chosen = self._chosen(numbers)
        found: list[tuple[int, Parked]] = []
        for index in range(0, len(chosen), PIECE):
            found += yield from self._with_payload(chosen[index : index + PIECE])
        retried = []
        for number, parked in found:
            if (kept := self._dead.get(number)) is not None:
                self._remove((kept.handler, kept.event_id))
                retried.append(msgspec.structs.replace(parked, handler=kept.handler, attempts=0, next_attempt=now))
        for parked in retried:
            self._put(parked)
        return retried


def _restored(data: bytes) -> _Kept:
    record = _decoder.decode(data)
    one = record.parked
    return _Kept(record.number, one.handler, one.event.id, one.next_attempt is None, len(data), data)


def _restored_head(key: str, data: bytes) -> _Kept:
    head = _head_decoder.decode(data)
    return _Kept(int(key), head.handler, head.event_id, True, head.size, None)


def _head_of(kept: _Kept) -> bytes:
    return _encoder.encode(Head(kept.handler, kept.event_id, kept.size))


def _encode(record: Record) -> bytes:
    try:
        return _checked(_encoder.encode(record))
    except (OverflowError, ValueError, TypeError, RecursionError):
        # A decoder of the user's may put anything into an event; its JSON form is what can be kept of it.
        parked = record.parked
        return _encoder.encode(Record(record.number, msgspec.structs.replace(parked, event=_plain(parked.event))))


def _checked(data: bytes) -> bytes:
    _decoder.decode(data)
    return data


def _plain(event: Event) -> Event:
    return event.replace(fields=_plain_value(event.fields), context=_plain_value(event.context))


def _plain_value(value: Any) -> Any:
    """Something like it that msgpack can say: large numbers as text, what JSON cannot say either as its type's name."""
    if isinstance(value, dict):
        return {str(key): _plain_value(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain_value(one) for one in value]
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return str(value)
    try:
        msgspec.msgpack.decode(msgspec.msgpack.encode(value))
    except Exception:
        return type(value).__name__
    return value

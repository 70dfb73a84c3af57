"""Parked events and dead letters: in memory as the bytes that are in `meta.db`, and what is to be written of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import msgspec

from eventserver.event import Event
from eventserver.interfaces import Parked
from eventserver.journal._meta import Changes, Records

KIND = "failed"


class Record(msgspec.Struct, array_like=True):
    """One of them, with its number: the order in which they failed."""

    number: int
    parked: Parked


class _Kept(msgspec.Struct):
    number: int
    handler: str
    event_id: str
    dead: bool
    data: bytes


_encoder = msgspec.msgpack.Encoder(enc_hook=str)
_decoder = msgspec.msgpack.Decoder(Record)


class Failed:
    """By handler and id of the event. Whatever changes goes into `changes` until it is taken to be written."""

    def __init__(self) -> None:
        self.dead_bytes = 0
        self.changes: Changes = {}
        self._next = 1
        self._kept: dict[tuple[str, str], _Kept] = {}

    def restore(self, records: Records) -> int:
        """Take over what is in `meta.db`; returns how many could not be read."""
        unreadable = 0
        found: list[_Kept] = []
        for (kind, _), data in records.items():
            if kind != KIND:
                continue
            try:
                record = _decoder.decode(data)
            except (msgspec.MsgspecError, ValueError, TypeError):
                unreadable += 1
                continue
            one = record.parked
            found.append(_Kept(record.number, one.handler, one.event.id, one.next_attempt is None, data))
        for kept in sorted(found, key=lambda kept: kept.number):
            self._add(kept)
            self._next = kept.number + 1
        return unreadable

    def _add(self, kept: _Kept) -> None:
        self._kept[kept.handler, kept.event_id] = kept
        if kept.dead:
            self.dead_bytes += len(kept.data)

    def _remove(self, key: tuple[str, str]) -> _Kept | None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.changes[KIND, str(kept.number)] = None
            if kept.dead:
                self.dead_bytes -= len(kept.data)
        return kept

    def _put(self, parked: Parked) -> None:
        number, self._next = self._next, self._next + 1
        data = _encode(Record(number, parked))
        self._add(_Kept(number, parked.handler, parked.event.id, parked.next_attempt is None, data))
        self.changes[KIND, str(number)] = data

    def keep(self, name: str, parked: Sequence[Parked], settled: Collection[str]) -> None:
        """Write parked and dead events of a handler, and forget settled ones."""
        for event_id in settled:
            self._remove((name, event_id))
        for one in parked:
            self._remove((name, one.event.id))
            self._put(one if one.handler == name else msgspec.structs.replace(one, handler=name))

    def rename(self, old: str, new: str) -> None:
        """Give all of one handler to another."""
        for record in list(self._records(old, None)):
            self._remove((old, record.parked.event.id))
            self._put(msgspec.structs.replace(record.parked, handler=new))

    def drop(self, name: str, dead: bool) -> None:
        """Forget what is parked for a handler, or its dead letters."""
        for key in [key for key, kept in self._kept.items() if key[0] == name and kept.dead == dead]:
            self._remove(key)

    def count(self, name: str | None, dead: bool) -> int:
        """How many are parked, or dead."""
        return sum(kept.dead == dead and name in (None, kept.handler) for kept in self._kept.values())

    def counts(self) -> dict[str, list[int]]:
        """By handler, how many are parked and how many are dead."""
        found: dict[str, list[int]] = {}
        for kept in self._kept.values():
            found.setdefault(kept.handler, [0, 0])[kept.dead] += 1
        return found

    def _records(self, name: str | None, dead: bool | None) -> Iterator[Record]:
        for kept in self._kept.values():
            if name in (None, kept.handler) and dead in (None, kept.dead):
                yield _decoder.decode(kept.data)

    def parked(self, name: str) -> list[Parked]:
        """What waits for another attempt, oldest first."""
        return [record.parked for record in self._records(name, False)]

    def dead(self, name: str | None, after: int, limit: int) -> list[tuple[int, Parked]]:
        """Dead letters with their numbers, oldest first, those behind a number."""
        found: list[tuple[int, Parked]] = []
        for kept in self._kept.values():
            if kept.dead and kept.number > after and name in (None, kept.handler):
                if len(found) >= limit:
                    break
                found.append((kept.number, _decoder.decode(kept.data).parked))
        return found

    def _dead_keys(self, numbers: Collection[int]) -> list[tuple[str, str]]:
        wanted = set(numbers)
        return [key for key, kept in self._kept.items() if kept.dead and kept.number in wanted]

    def drop_dead(self, numbers: Collection[int]) -> int:
        """Forget dead letters; returns how many there were."""
        keys = self._dead_keys(numbers)
        for key in keys:
            self._remove(key)
        return len(keys)

    def retry_dead(self, numbers: Collection[int], now: dt.datetime) -> list[Parked]:
        """Make parked events of dead letters, due now and with no attempts so far."""
        retried = []
        for key in self._dead_keys(numbers):
            kept = self._remove(key)
            if kept is not None:
                parked = msgspec.structs.replace(_decoder.decode(kept.data).parked, attempts=0, next_attempt=now)
                self._put(parked)
                retried.append(parked)
        return retried


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

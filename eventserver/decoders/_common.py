"""What all decoders share: ids, peers and contexts by frame, and the one option that each of them has."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from itertools import repeat
from operator import add
from typing import Annotated, Any

import msgspec

from eventserver import options
from eventserver.event import Batch, Event, frame_index, undecodable
from eventserver.options import Doc

_suffixes: list[str] = []


class _NoFields(dict[str, Any]):
    """Nothing, for good: what one adds would be among the fields of all other events."""

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError("events are shared, so their fields are read-only; use event.replace(fields={...})")

    __setitem__ = __ior__ = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """A copy is a dictionary as any."""
        return dict, ()


#: The fields of every event that has none: to make an empty dictionary for each takes a fifth of the time of an event.
NO_FIELDS: dict[str, Any] = _NoFields()


class DecoderOptions(options.Options, frozen=True, kw_only=True):
    """The options of every decoder.

    They stand beside the listener's own settings, whose `type` is the kind of listener: hence `event_type`.
    """

    event_type: Annotated[str, Doc("The `type` of the events; empty: the decoder's name.", "access_log")] = ""


def suffixes(batch: Batch) -> list[str]:
    """At least as many ends of event ids as the batch has frames: `"-0"`, `"-1"`, ..., or from its `offset` on.

    Most often one shared list, grown on demand; never change it.
    """
    end = batch.offset + len(batch.frames)
    if len(_suffixes) < end:
        _suffixes.extend([f"-{number}" for number in range(len(_suffixes), end)])
    return _suffixes[batch.offset : end] if batch.offset else _suffixes


def peers(batch: Batch) -> Iterable[str]:
    """The peer of each frame, in order; endless where one peer sent them all."""
    return batch.peers if len(batch.peers) > 1 else repeat(batch.peers[0])


def contexts(batch: Batch) -> Iterable[dict[str, Any]]:
    """The context of each frame, in order; the batch's own, endless, where no frame has marks."""
    if not batch.marks:
        return repeat(batch.context)
    return [batch.context_of(frame) for frame in range(len(batch.frames))]


def events_of(
    batch: Batch,
    ends: Iterable[str],
    times: Iterable[dt.datetime],
    kinds: Iterable[str],
    messages: Iterable[str],
    fields: Iterable[dict[str, Any]],
    *,
    peers: Iterable[str],
    contexts: Iterable[dict[str, Any]],
) -> list[Event]:
    """Events, column by column: event by event takes longer. `ends` are those of the ids; one column is not endless."""
    ids, received, listener = map(add, repeat(batch.id), ends), repeat(batch.received), repeat(batch.listener)
    return list(map(Event, ids, times, received, listener, peers, kinds, messages, fields, contexts))


def undecodable_element(batch: Batch, event: Event, reason: str, element: dict[str, Any]) -> Event:
    """The event for a JSON object that was read as `event`, but is not what it should be; `element` is the object.

    The first one of a frame has the bytes of the frame. Each of the others has its own JSON: with all of an array in
    each event of its elements, 64 KiB would become gigabytes.
    """
    if "." not in event.id.rpartition("-")[2]:
        return undecodable(batch, frame_index(event.id) - batch.offset, reason).replace(id=event.id)
    text = msgspec.json.encode(element).decode()
    return event.replace(time=batch.received, type="undecodable", message=text, fields={"error": reason}, raw=text)

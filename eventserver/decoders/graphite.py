"""Graphite: the plaintext protocol, and with `protocol = "pickle"` carbon's pickle protocol.

Plaintext: a datapoint is a line, `path value timestamp` with white space between. A frame may be several lines, as
datagrams are. Pickle: a frame is a list of `(path, (timestamp, value))`; see `_graphite_pickle.py`.

| field | what |
|---|---|
| `name` | the path without its tags |
| `value` | a number (a double, as Graphite keeps it); with `nan = "keep"` null, for NaN |
| `tags` | `{tag: value}`, where the path has tags |
| `error` | why its tags could not be read; `name` is the whole path then, as it is for carbon |

`message` is the path and the value. `time` is the time stamp, in seconds since 1970 with or without a fraction, or
`received` where that is -1.

- NaN, and None in a pickle, say that there is no value: they give no event, unless `nan = "keep"`. An empty line gives
  none either.
- A datapoint that cannot be read is undecodable; an infinite value is such, since no JSON could carry it on. Where a
  frame has several datapoints, the others are events, and one undecodable event after them stands for all that cannot
  be read: it says how many, and what is wrong with the first.
- So is what is left of a line that was cut short: half a time stamp is a wrong one.

Sources: Graphite's documentation, "Feeding In Your Data" and "Graphite Tag Support"; carbon 1.1, carbon/protocols.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Annotated, Literal

from zope.interface import implementer

from eventserver.decoders._common import DecoderOptions, peers, suffixes
from eventserver.decoders._graphite_pickle import NotPlainData
from eventserver.decoders._graphite_points import Point, Points, Times
from eventserver.event import Batch, Event, undecodable
from eventserver.interfaces import IDecoder
from eventserver.options import Doc

#: How a pickle of protocol 2 and later begins, and no text does.
_PICKLE = b"\x80"
#: What programs on Windows write at the start of a file.
_BOM = "\ufeff"


class GraphiteOptions(DecoderOptions, frozen=True, kw_only=True):
    """The options of the decoder `graphite`."""

    protocol: Annotated[
        Literal["plaintext", "pickle"],
        Doc(
            'What a frame is: lines of text; or a pickle, which `framing = "length"` cuts out. Pickles are read as '
            "data: nothing in them is ever executed.",
            "pickle",
        ),
    ] = "plaintext"
    nan: Annotated[
        Literal["drop", "keep"],
        Doc("What a NaN gives: no event, as with carbon; or an event whose `value` is null.", "keep"),
    ] = "drop"
    max_tags: Annotated[
        int, Doc("Tags that a path may have; one with more is taken for a name without tags.", 100, ge=0)
    ] = 100
    max_datapoints: Annotated[
        int,
        Doc(
            "Datapoints in one pickle; their paths may have 256 characters on the average. A larger one is "
            "undecodable.",
            20000,
            ge=1,
            le=1000000,
        ),
    ] = 20000


@implementer(IDecoder)
class GraphiteDecoder:
    """One event a datapoint. The module's documentation says what it becomes."""

    Options = GraphiteOptions

    def __init__(self, options: GraphiteOptions | None = None) -> None:
        options = options or GraphiteOptions()
        self._type = options.event_type or "graphite"
        self._pickle = options.protocol == "pickle"
        self._points = Points(
            keep_nan=options.nan == "keep", max_tags=options.max_tags, max_datapoints=options.max_datapoints
        )

    def decode(self, batch: Batch) -> list[Event]:
        """The events of the batch. Never raises."""
        frames = batch.frames
        times = Times(batch.received)
        if self._pickle:
            return [event for frame in range(len(frames)) for event in self._of_pickle(batch, frame, times)]
        if not batch.marks:
            try:
                block = b"\n".join(frames).decode()
            except UnicodeDecodeError:
                texts = []
            else:
                texts = block.split("\n")
                if _BOM in block:
                    texts = [text.removeprefix(_BOM) for text in texts]
            if len(texts) == len(frames):
                return self._of_texts(batch, texts, times)
        return [event for frame in range(len(frames)) for event in self._of_lines(batch, frame, times)]

    def _of_texts(self, batch: Batch, texts: list[str], times: Times) -> list[Event]:
        """The events of frames that are one line each and have no marks."""
        batch_id, received, listener, kind = batch.id, batch.received, batch.listener, self._type
        context, fields_of = batch.context, self._points.fields
        events: list[Event] = []
        add = events.append
        for frame, (suffix, peer, text) in enumerate(zip(suffixes(batch), peers(batch), texts, strict=False)):
            try:
                # A fourth part is one too many: a ValueError, too.
                path, number, stamp = text.split(None, 3)
                value = float(number)
                time = times[stamp]
                if not isfinite(value):
                    raise ValueError
            except ValueError:
                events += self._events(batch, frame, [self._points.of_text(text, times)], "line")
                continue
            fields = fields_of(path, value) if ";" in path or path[-1] == "}" else {"name": path, "value": value}
            add(Event(batch_id + suffix, time, received, listener, peer, kind, f"{path} {number}", fields, context))
        return events

    def _of_lines(self, batch: Batch, frame: int, times: Times) -> list[Event]:
        """The events of a frame that may be several lines, and may be cut."""
        data = batch.frames[frame]
        if data.startswith(_PICKLE):
            return [undecodable(batch, frame, 'a pickle: write `protocol = "pickle"` and `framing = "length"`')]
        lines = data.removeprefix(_BOM.encode()).split(b"\n")
        # What follows the last LF: most often nothing.
        last = lines.pop()
        points = [self._points.of_bytes(line, times) for line in lines]
        if last.strip():
            cut = "truncated" in batch.marks.get(frame, ())
            points.append("it was cut short" if cut else self._points.of_bytes(last, times))
        return self._events(batch, frame, points, "line")

    def _of_pickle(self, batch: Batch, frame: int, times: Times) -> list[Event]:
        """The events of a frame that is a pickle."""
        try:
            points = self._points.of_pickle(batch.frames[frame], times)
        except NotPlainData as error:
            hint = ", since it is longer than `max_frame`" if "truncated" in batch.marks.get(frame, ()) else ""
            return [undecodable(batch, frame, f"{error}{hint}")]
        return self._events(batch, frame, points, "datapoint")

    def _events(self, batch: Batch, frame: int, points: Sequence[Point], what: str) -> list[Event]:
        """The events of the datapoints of a frame, and one for all that could not be read."""
        first_id, peer, context = batch.id_of(frame), batch.peer_of(frame), batch.context_of(frame)
        received, listener, kind = batch.received, batch.listener, self._type
        events: list[Event] = []
        wrong = [(number, point) for number, point in enumerate(points, 1) if isinstance(point, str)]
        for point in points:
            if isinstance(point, tuple):
                message, time, fields = point
                event_id = f"{first_id}.{len(events)}" if events else first_id
                events.append(Event(event_id, time, received, listener, peer, kind, message, fields, context))
        if wrong:
            number, reason = wrong[0]
            if len(points) > 1:
                reason = f"{len(wrong)} of {len(points)} {what}s cannot be read; {what} {number}: {reason}"
            event = undecodable(batch, frame, reason)
            events.append(event.replace(id=f"{first_id}.{len(events)}") if events else event)
        return events

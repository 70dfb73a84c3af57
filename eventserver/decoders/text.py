"""Any frame as an event: its message is the frame's text."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from typing import Annotated

from zope.interface import alsoProvides, implementer

from eventserver.decoders._common import NO_FIELDS, DecoderOptions, contexts, events_of, peers, suffixes
from eventserver.decoders._json_lines import escaped_with, numbers, same_for_all, source_of, to_json, weave
from eventserver.decoders._texts import Texts, encoding_problem
from eventserver.event import Batch, Event, with_raw
from eventserver.interfaces import IDecoder, IJsonLines
from eventserver.options import Doc


class TextOptions(DecoderOptions, frozen=True, kw_only=True):
    """The options of the decoder `text`."""

    encoding: Annotated[str, Doc("The encoding of the text, by its name in Python.", "latin-1")] = "utf-8"

    def problems(self) -> Iterable[tuple[str, str]]:
        """An encoding that Python does not know."""
        problem = encoding_problem(self.encoding)
        return [("encoding", problem)] if problem else []


@implementer(IDecoder)
class TextDecoder:
    """One event a frame, an empty one included; text is never undecodable.

    `message` is the frame as text, `time` is `received`, `fields` is empty. Bytes that the encoding does not have
    become U+FFFD, and the event then carries the frame's bytes in `raw_base64` (`raw`, where they happen to be UTF-8
    and the encoding is another). Of a frame marked `truncated`, a character cut in two at its end is left out:
    the mark already says that something is missing.
    """

    Options = TextOptions

    def __init__(self, options: TextOptions | None = None) -> None:
        options = options or TextOptions()
        self._type = options.event_type or "text"
        self._texts = Texts(options.encoding)
        if self._texts.utf_8:
            alsoProvides(self, IJsonLines)

    def decode(self, batch: Batch) -> list[Event]:
        """One event a frame. Never raises."""
        if not batch.frames:
            return []
        texts, damaged = self._texts.read(batch)
        times, kinds, fields = repeat(batch.received), repeat(self._type), repeat(NO_FIELDS)
        events = events_of(
            batch, suffixes(batch), times, kinds, texts, fields, peers=peers(batch), contexts=contexts(batch)
        )
        for index in damaged:
            events[index] = with_raw(events[index], batch.frames[index])
        return events

    def json_lines(self, batch: Batch) -> bytes | None:
        """The JSON lines of the events; None where a frame is marked or is not UTF-8. Only for that encoding."""
        if batch.marks:
            return None
        if len(batch.frames) == 1:
            return self._json_line(batch)
        before_time, behind_time, end = same_for_all(batch, self._type)
        texts = escaped_with(batch.frames, b'","fields":{}' + end)
        if texts is None:
            return None
        time = before_time + to_json(batch.received)
        columns = (time + behind_time,) if isinstance(behind_time, bytes) else (time, behind_time)
        start = f'{{"id":"{batch.id}-'.encode()
        return weave(len(texts), start, numbers(batch), *columns, texts)

    def _json_line(self, batch: Batch) -> bytes | None:
        """What `json_lines` gives for a single frame, as most batches of a server that is not busy are."""
        try:
            text = to_json(batch.frames[0].decode())
        except UnicodeDecodeError:
            return None
        received = to_json(batch.received)
        source = source_of(batch.listener, batch.peers[0], self._type)
        end = b',"context":%b}\n' % to_json(batch.context) if batch.context else b"}\n"
        return b'{"id":"%b-%d","time":%b,"received":%b%b%b,"fields":{}%b' % (
            batch.id.encode(),
            batch.offset,
            received,
            received,
            source,
            text,
            end,
        )

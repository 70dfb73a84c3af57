"""Syslog lines as JSON: what is remembered of them, and how they are put together."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from typing import Any

from eventserver.decoders._json_lines import escaped, numbers, same_for_all, to_json, weave
from eventserver.decoders._rfc5424 import StructuredData
from eventserver.decoders._syslog_columns import Columns
from eventserver.event import Batch


class MakesJson:
    """The parts of a line as JSON. A head begins behind the message's text, data ends with the fields' brace."""

    nil = b"}"

    def times(self, times: list[dt.datetime]) -> list[bytes]:
        """Texts with their quotes."""
        return to_json(times)[1:-1].split(b",")

    def time(self, time: dt.datetime) -> bytes:
        """As above."""
        return to_json(time)

    def head(self, fields: dict[str, Any]) -> bytes:
        """The fields without the brace that ends them."""
        return b'","fields":' + to_json(fields)[:-1]

    def data(self, data: StructuredData) -> bytes:
        """The last field, and the brace that ends the fields."""
        return b',"structured_data":%b}' % to_json(data)

    def whole(self, head: bytes, data: bytes) -> bytes:
        """As `head`."""
        return head + data[:-1]


def json_lines(batch: Batch, kind: str, columns: Columns[bytes, bytes, bytes], with_raw: Collection[int]) -> bytes:
    """The lines of the events of that type; `with_raw`: the rows whose events have the bytes of their frames."""
    times, heads, data, messages = columns
    before_time, behind_time, _ = same_for_all(batch, kind)
    # What ends a line and begins the next one is one part.
    start = b'{"id":%b-' % to_json(batch.id)[:-1]
    ids = numbers(batch)
    ids[0] = start + ids[0]
    ends = [_end(batch.context) + start] * len(ids)
    for row in {*with_raw, *batch.marks}:
        ends[row] = _end(batch.context_of(row), batch.frames[row] if row in with_raw else None) + start
    ends[-1] = ends[-1][: -len(start)]
    texts = escaped(messages)
    if texts is None:
        texts = [to_json(message.decode())[1:-1] for message in messages]
    return weave(len(ids), ids, before_time, times, behind_time, texts, heads, data, ends)


def _end(context: dict[str, Any], raw: bytes | None = None) -> bytes:
    """What stands behind the fields of an event."""
    end = b',"context":' + to_json(context) if context else b""
    if raw is not None:
        try:
            end += b',"raw":' + to_json(raw.decode())
        except UnicodeDecodeError:
            end += b',"raw_base64":' + to_json(raw)
    return end + b"}\n"

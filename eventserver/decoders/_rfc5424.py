"""RFC 5424 by its full grammar: header, structured data, message. The fast path in `syslog.py` falls back on this."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, NamedTuple

from eventserver.decoders._timestamps import read_iso

#: SD-ID and PARAM-NAME, read generously: any character but those that end them (section 6.3.2 allows 32 of ASCII).
_ELEMENT = re.compile(r"\[([^\s=\]\"]+)")
#: One SD-PARAM. The quantifiers are possessive: a value without its closing quote fails in linear time.
_PARAM = re.compile(r' +([^\s=\]"]+)="([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
_END = re.compile(r" *\]")
#: Only these three are escapes; a backslash before anything else is a backslash (section 6.3.3).
_ESCAPE = re.compile(r'\\(["\\\]])')

StructuredData = dict[str, dict[str, Any]]


class Parsed(NamedTuple):
    """One frame of syslog, read.

    `time` is None where the frame names none that can be read. `error`: what was wrong; `message` is then the line.
    """

    time: dt.datetime | None
    message: str
    fields: dict[str, Any]
    error: str | None = None


def read_structured_data(text: str, position: int = 0) -> tuple[StructuredData, int]:
    """The elements that begin at a `[`, and where they end. Raises `ValueError` that says what is wrong.

    `{sd_id: {name: value}}`; a name that one element repeats has the list of its values, and an SD-ID that comes
    twice (which section 6.3.2 forbids) has the parameters of both.
    """
    data: StructuredData = {}
    while text.startswith("[", position):
        element = _ELEMENT.match(text, position)
        if element is None:
            raise ValueError("structured data: an element has no name")
        params = data.setdefault(element[1], {})
        position = element.end()
        while param := _PARAM.match(text, position):
            _add(params, param[1], param[2])
            position = param.end()
        end = _END.match(text, position)
        if end is None:
            raise ValueError(f"structured data: element {element[1][:40]!r} is not closed")
        position = end.end()
    return data, position


def _add(params: dict[str, Any], name: str, value: str) -> None:
    if "\\" in value:
        value = _ESCAPE.sub(r"\1", value)
    if name not in params:
        params[name] = value
    elif isinstance(params[name], list):
        params[name].append(value)
    else:
        params[name] = [params[name], value]


def whole_structured_data(text: str) -> StructuredData | None:
    """The elements that the text consists of; None if it is anything else."""
    try:
        data, end = read_structured_data(text)
    except ValueError:
        return None
    return data if data and end == len(text) else None


def header_fields(fields: dict[str, Any], hostname: str, app_name: str, procid: str, msgid: str) -> dict[str, Any]:
    """`fields` with the header's four names added, nil values (`-`) left out. Returns `fields`."""
    if hostname != "-":
        fields["hostname"] = hostname
    if app_name != "-":
        fields["app_name"] = app_name
    if procid != "-":
        fields["procid"] = procid
    if msgid != "-":
        fields["msgid"] = msgid
    return fields


def parse(line: str, start: int, fields: dict[str, Any], zone: dt.tzinfo) -> Parsed:
    """Reads a line whose TIMESTAMP begins at `start`; `fields` has the priority and is filled. Never raises.

    A time stamp without an offset, which section 6.2.3 does not allow, is taken as of `zone`.

    Names longer than section 6 allows are taken as they are. What cannot be read is told in `error`, the message is
    then the whole line, and `fields` has what was read before.
    """
    parts = line[start:].split(" ", 5)
    if len(parts) < 6:
        return Parsed(None, line, fields, "RFC 5424: the header ends early")
    stamp, *names, rest = parts
    if "" in names:
        return Parsed(None, line, fields, "RFC 5424: a header field is empty")
    header_fields(fields, *names)
    time = None
    try:
        if stamp != "-":
            time = _time(stamp, zone)
        message = _content(rest, fields)
    except ValueError as error:
        return Parsed(time, line, fields, f"RFC 5424: {error}")
    return Parsed(time, message, fields)


def _time(stamp: str, zone: dt.tzinfo) -> dt.datetime:
    try:
        return read_iso(stamp, zone)
    except ValueError:
        raise ValueError(f"timestamp: {stamp[:40]!r} cannot be read") from None


def _content(rest: str, fields: dict[str, Any]) -> str:
    """The message behind the structured data, which goes into `fields`. Raises `ValueError`."""
    if rest == "-" or rest.startswith("- "):
        end = 1
    elif rest.startswith("["):
        fields["structured_data"], end = read_structured_data(rest)
        if rest[end : end + 1] not in ("", " "):
            fields.pop("structured_data")
            raise ValueError("structured data: no space behind it")
    else:
        raise ValueError('structured data: neither "-" nor "["')
    return without_bom(rest[end + 1 :])


def without_bom(message: str) -> str:
    """The message without the byte order mark that says it is UTF-8 (section 6.4)."""
    return message[1:] if message.startswith("\ufeff") else message

"""DogStatsD's events (`_e{`) and service checks (`_sc`). Source: Datadog's datagram format."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, NamedTuple

from eventserver.decoders._severity import SEVERITIES
from eventserver.decoders._statsd_lines import SERVICE_CHECK, add_common, read_second

_HEAD = re.compile(rb"_e\{([0-9]{1,9}),([0-9]{1,9})\}:")
_ALERTS = {"error": 3, "warning": 4, "info": 6, "success": 6}
#: The states of a service check by number, with the severity that each has.
_STATES = (("ok", 6), ("warning", 4), ("critical", 2), ("unknown", 4))
_EVENT_PARTS = {
    b"h:": "hostname",
    b"k:": "aggregation_key",
    b"p:": "priority",
    b"s:": "source_type",
    b"t:": "alert_type",
}
#: What clients put behind a service check's message, although that should be the last.
_COMMON = (b"#", b"c:", b"e:", b"card:")


class Found(NamedTuple):
    """What an event or a service check says."""

    message: str
    fields: dict[str, Any]
    time: dt.datetime | None


def read_event(line: bytes) -> Found | str:
    """`_e{TITLE LENGTH,TEXT LENGTH}:TITLE|TEXT|...`, lengths in bytes; a text says what is wrong."""
    head = _HEAD.match(line)
    if head is None:
        return "no lengths: _e{TITLE,TEXT}: is needed"
    start, middle = head.end(), head.end() + int(head[1])
    end = middle + 1 + int(head[2])
    if line[middle : middle + 1] != b"|" or end > len(line) or line[end : end + 1] not in (b"", b"|"):
        return "the lengths are not those of title and text"
    fields: dict[str, Any] = {"title": _unescaped(line[start:middle])}
    time = None
    for part in line[end + 1 :].split(b"|"):
        if part[:2] == b"d:":
            time = read_second(part[2:])
        elif name := _EVENT_PARTS.get(part[:2]):
            fields[name] = _text(part[2:])
        else:
            add_common(part, fields)
    # The agent's default where it is missing.
    _add_severity(fields, _ALERTS.get(fields.setdefault("alert_type", "info"), 6))
    return Found(_unescaped(line[middle + 1 : end]), fields, time)


def read_service_check(line: bytes) -> Found | str:
    """`_sc|NAME|STATUS|...`, with the message behind `m:`; a text says what is wrong."""
    name, _, rest = line.removeprefix(SERVICE_CHECK).partition(b"|")
    status, *parts = rest.split(b"|")
    if not name or status not in (b"0", b"1", b"2", b"3"):
        return "a name and a status from 0 to 3 are needed"
    state, severity = _STATES[int(status)]
    fields: dict[str, Any] = {"name": _text(name), "status": state, "status_code": int(status)}
    message: list[bytes] = []
    time = None
    for part in parts:
        if part[:2] == b"m:":
            message = [part[2:]]
        elif part[:2] == b"d:":
            time = read_second(part[2:])
        elif part[:2] == b"h:":
            fields["hostname"] = _text(part[2:])
        elif part.startswith(_COMMON) or not message:
            add_common(part, fields)
        else:
            # The message comes last, and its bars are not escaped.
            message.append(part)
    _add_severity(fields, severity)
    return Found(_unescaped(b"|".join(message)).replace("m\\:", "m:"), fields, time)


def _add_severity(fields: dict[str, Any], code: int) -> None:
    fields["severity"] = SEVERITIES[code]
    fields["severity_code"] = code


def _unescaped(data: bytes) -> str:
    return _text(data).replace("\\n", "\n")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")

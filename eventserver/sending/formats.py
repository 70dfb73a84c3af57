"""The formats of events: a text, and where it comes from, as the bytes that a decoder reads.

A line of JSON whose value is an object is taken as it is by the formats that are JSON objects; any other becomes their
message.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from eventserver._syslog_output import SEVERITIES

_FACILITY_USER = 1
_CEF_SPECIAL = re.compile(r"[\\=\r\n]")
_INFLUX_SPECIAL = re.compile(r"[,= ]")
_METRICS = ("count:1|c", "timer:{n}|ms", "gauge:{n}|g", "users:user{n}|s")


class Origin(NamedTuple):
    """Who sends: `run` tells the events of one run from those of others."""

    hostname: str
    app_name: str
    procid: int
    run: str
    severity: int = 6


class Message(NamedTuple):
    """One event: `number` is its place among those that were made up, None for one that somebody gave."""

    text: str
    number: int | None
    seconds: float


class Moment:
    """A time in the forms that formats need, each made when it is asked for: many events share one."""

    __slots__ = ("_bsd", "_rfc3339", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._rfc3339 = self._bsd = ""

    @property
    def nanoseconds(self) -> int:
        """Since 1970, to the microsecond: a float says no more."""
        return round(self.seconds * 1e6) * 1000

    @property
    def rfc3339(self) -> str:
        """UTC with microseconds."""
        if not self._rfc3339:
            self._rfc3339 = dt.datetime.fromtimestamp(self.seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return self._rfc3339

    @property
    def bsd(self) -> str:
        """`Mmm dd hh:mm:ss` in the local time zone (RFC 3164, section 4.1.2), whatever the locale."""
        if not self._bsd:
            local = time.localtime(self.seconds)
            month = "JanFebMarAprMayJunJulAugSepOctNovDec"[3 * local.tm_mon - 3 : 3 * local.tm_mon]
            self._bsd = f"{month} {local.tm_mday:2} {local.tm_hour:02}:{local.tm_min:02}:{local.tm_sec:02}"
        return self._bsd


Render = Callable[[Origin, str, int | None, Moment], bytes]


class Format(NamedTuple):
    """A format's name, what it is, and how an event is written in it. `media` is that of a request with many."""

    name: str
    meaning: str
    render: Render
    media: str = "application/x-ndjson"


def _text(origin: Origin, text: str, number: int | None, moment: Moment) -> bytes:
    return text.encode(errors="surrogateescape")


def _utf8(text: str) -> bytes:
    """As UTF-8; bytes that were none become U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="surrogateescape").decode(errors="replace").encode()


def _syslog(origin: Origin, text: str, number: int | None, moment: Moment) -> bytes:
    # RFC 5612 reserves this enterprise number for examples.
    data = "-" if number is None else f'[send@32473 run="{origin.run}" number="{number}"]'
    priority = _FACILITY_USER * 8 + origin.severity
    head = f"<{priority}>1 {moment.rfc3339} {origin.hostname} {origin.app_name} {origin.procid} - {data} "
    return head.encode() + _text(origin, text, number, moment)


def _rfc3164(origin: Origin, text: str, number: int | None, moment: Moment) -> bytes:
    priority = _FACILITY_USER * 8 + origin.severity
    head = f"<{priority}>{moment.bsd} {origin.hostname} {origin.app_name}[{origin.procid}]: "
    return head.encode() + _text(origin, text, number, moment)


def as_object(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is; else None."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _numbered(origin: Origin, number: int | None) -> dict[str, Any]:
    return {} if number is None else {"run": origin.run, "number": number}


def record_of(origin: Origin, text: str, number: int | None) -> dict[str, Any]:
    """What a log shipper would have read: for the protocols that carry records."""
    found = as_object(text) if number is None else None
    return found if found is not None else _message_of(origin, text, number)


def _message_of(origin: Origin, text: str, number: int | None) -> dict[str, Any]:
    return {
        "message": _utf8(text).decode(),
        "hostname": origin.hostname,
        "app_name": origin.app_name,
        "severity": SEVERITIES[origin.severity],
        **_numbered(origin, number),
    }


def _packed(more: dict[str, Any], origin: Origin, text: str, number: int | None) -> bytes:
    """A record in MessagePack; an object that MessagePack cannot hold is its message, as any other text is."""
    try:
        return msgspec.msgpack.encode(more | record_of(origin, text, number))
    except (OverflowError, UnicodeEncodeError, RecursionError):  # over 64 bits, half a surrogate pair, too deep
        return msgspec.msgpack.encode(more | _message_of(origin, text, number))


def _json(origin: Origin, text: str, number: int | None, moment: Moment) -> bytes:
    if number is None and as_object(text) is not None:
        return _utf8(text)
    return msgspec.json.encode({"time": moment.rfc3339, **record_of(origin, text, number)})


def _beats(origin: Origin, text: str, number: int | None, moment: Moment) -> bytes:
    if number is None and as_object(text) is not None:
        return _utf8(text)
    return msgspec.json.encode({"@timestamp": moment.rfc3339, **record_of(origin, text, number)})


def _entry(origin: Origin, text: str, number: int | None, moment: Moment) -> bytes:
    """`[EventTime, record]` (Forward v1): ext type 0 with seconds and nanoseconds, 32 bits each."""
    nanoseconds = moment.nanoseconds
    stamp = (nanoseconds // 10**9).to_bytes(4, "big") + (nanoseconds % 10**9).to_bytes(4, "big")
    return b"\x92" + msgspec.msgpack.encode(msgspec.msgpack.Ext(0, stamp)) + _packed({}, origin, text, number)


def _msgpack(origin: Origin, text: str, number: int | None, moment: Moment) -> bytes:
    return _packed({"time": moment.rfc3339}, origin, text, number)


def _gelf(origin: Origin, text: str, number: int | None, moment: Moment) -> bytes:
    if number is None and as_object(text) is not None:
        return _utf8(text)
    found = {
        "version": "1.1",
        "host": origin.hostname,
        "short_message": _utf8(text).decode(),
        "timestamp": round(moment.seconds, 6),
        "level": origin.severity,
        "_app_name": origin.app_name,
    }
    return msgspec.json.encode(found | {f"_{key}": value for key, value in _numbered(origin, number).items()})


def _cloudevents(origin: Origin, text: str, number: int | None, moment: Moment) -> bytes:
    if number is None and as_object(text) is not None:
        return _utf8(text)
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": f"{origin.run}-{number}" if number is not None else f"{origin.run}-{time.monotonic_ns()}",
            "source": f"/{origin.hostname}/{origin.app_name}",
            "type": "eventserver.send",
            "time": moment.rfc3339,
            "data": _utf8(text).decode(),
        }
    )


def _logfmt(origin: Origin, text: str, number: int | None, moment: Moment) -> bytes:
    number_text = "" if number is None else f" run={origin.run} number={number}"
    quoted = msgspec.json.encode(_utf8(text).decode())
    head = f"time={moment.rfc3339} level={SEVERITIES[origin.severity]} host={origin.hostname}{number_text} msg="
    return head.encode() + quoted


def _cef(origin: Origin, text: str, number: int | None, moment: Moment) -> bytes:
    counted = "" if number is None else f"externalId={number} "
    said = _CEF_SPECIAL.sub(lambda one: {"\r": "\\r", "\n": "\\n"}.get(one[0], f"\\{one[0]}"), text)
    head = f"CEF:0|eventserver|send|1|100|message|{10 - origin.severity}|"
    return _utf8(f"{head}rt={int(moment.seconds * 1000)} dvchost={origin.hostname} {counted}msg={said}")


def _leef(origin: Origin, text: str, number: int | None, moment: Moment) -> bytes:
    counted = "" if number is None else f"number={number}\t"
    said = text.replace("\t", " ").replace("\n", " ")
    head = "LEEF:1.0|eventserver|send|1|100|"
    return _utf8(f"{head}devTime={int(moment.seconds * 1000)}\tsrcHost={origin.hostname}\t{counted}msg={said}")


def _influx(origin: Origin, text: str, number: int | None, moment: Moment) -> bytes:
    said = text.replace("\\", "\\\\").replace('"', '\\"')
    host = _INFLUX_SPECIAL.sub(lambda one: f"\\{one[0]}", origin.hostname)
    counted = "" if number is None else f"number={number}i,"
    return _utf8(f'eventserver_send,host={host} {counted}message="{said}" {moment.nanoseconds}')


def _csv(origin: Origin, text: str, number: int | None, moment: Moment) -> bytes:
    said = text.replace('"', '""')
    return _utf8(f'{moment.rfc3339},{origin.hostname},{"" if number is None else number},"{said}"')


def _statsd(origin: Origin, text: str, number: int | None, moment: Moment) -> bytes:
    if number is None:
        return _utf8(text)
    return f"eventserver.send.{_METRICS[number % 4].format(n=number % 1000)}".encode()


def _graphite(origin: Origin, text: str, number: int | None, moment: Moment) -> bytes:
    if number is None:
        return _utf8(text)
    return f"eventserver.send.value{number % 100} {number} {int(moment.seconds)}".encode()


_ALL = (
    Format("text", "the message, and nothing else; lines as they are", _text),
    Format("syslog", "syslog as in RFC 5424", _syslog),
    Format("rfc3164", "syslog as it was before", _rfc3164),
    Format("json", "a JSON object", _json),
    Format("gelf", "GELF 1.1", _gelf, "application/json"),
    Format("cloudevents", "CloudEvents 1.0 in JSON", _cloudevents, "application/cloudevents-batch+json"),
    Format("logfmt", "logfmt: key=value", _logfmt),
    Format("cef", "ArcSight's Common Event Format", _cef),
    Format("leef", "QRadar's LEEF 1.0", _leef),
    Format("influx", "InfluxDB's line protocol", _influx),
    Format("csv", "time, host, number and message", _csv),
    Format("msgpack", "a MessagePack map", _msgpack, "application/msgpack"),
    Format("statsd", "statsd metrics; lines as they are", _statsd),
    Format("graphite", "Graphite's plaintext; lines as they are", _graphite),
)
#: The formats by the names that people use.
FORMATS = {one.name: one for one in _ALL}
#: Formats of protocols that carry records of their own kind, and nothing else.
RECORDS = {
    "fluent": Format("json", "a record", _entry),
    "lumberjack": Format("json", "a record", _beats),
    "lumberjack1": Format("json", "a record", _beats),
}
_USUAL = {"plain": "text", "relp": "syslog", "http": "json", "graphite-pickle": "graphite"}
#: What cannot be said in any other words.
_ONLY = ("statsd", "graphite", "graphite-pickle", "gelf")


def format_of(protocol: str, name: str | None) -> Format:
    """The format of a protocol's events, as named or the usual one. Raises `ValueError` for one it cannot carry."""
    if protocol in RECORDS:
        if name not in (None, "json"):
            raise ValueError(f"{protocol} carries records: its format is `json`")
        return RECORDS[protocol]
    usual = _USUAL.get(protocol, protocol)
    if name is not None and name not in FORMATS:
        raise ValueError(f"there is no format `{name}`; there are " + ", ".join(FORMATS))
    if protocol in _ONLY and name not in (None, usual, "text"):
        raise ValueError(f"{protocol} carries nothing else than `{usual}`, and `text` that is that already")
    return FORMATS[name or usual]

"""What is sent: lines in variants that differ as real ones do, and what an event made of each has to hold.

Every line has a number behind `seq=`, and the same number as the microseconds of its time stamp where it has one; the
load generator writes both. All lines of a payload have the same size.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

SEQ = "seq=0000000000"
MICROS = ".000000"
NOWHERE = 2**32 - 1
LOCAL = [f"local{number}" for number in range(8)]
FACILITIES = ["kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"]
FACILITIES += ["ntp", "audit", "alert", "clock", *LOCAL]
#: Those that are sent: the names of 12 to 15 are not agreed upon.
SENT_FACILITIES = [*range(12), *range(16, 24)]
SEVERITIES = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"]
APPS = ("sshd", "nginx", "postgres", "kernel", "evntslog", "app")
WORDS = (
    "session opened for user root",
    "GET /index.html HTTP/1.1 200 512",
    "link is up, 1000 Mbps, full duplex",
    'value "temperature" out of range',
    "connection from 192.0.2.17 port 51123",
    "checkpoint complete: wrote 178 buffers",
    "unable to open C:\\temp\\x.log",
    "retrying in 5 seconds",
)


@dataclass(frozen=True, slots=True)
class Variant:
    """A line with a number of zeros, and the event that it has to become."""

    text: bytes
    wanted: Mapping[str, Any]
    #: Structured data as it stands in the line: some servers are asked for no more.
    structured_data: str = ""

    @property
    def micros(self) -> int:
        """Where the six digits of its time stamp are, or NOWHERE."""
        at = self.text.find(MICROS.encode() + b"Z")
        return NOWHERE if at < 0 else at + 1

    def line(self, number: int) -> bytes:
        """The line as it is sent with this number."""
        text = self.text.replace(SEQ.encode(), b"seq=%010d" % number, 1)
        return text.replace(MICROS.encode() + b"Z", b".%06dZ" % (number % 1_000_000), 1)

    def event(self, number: int) -> dict[str, Any]:
        """`message`, `time` (where the line has one), `type` and `fields` of its event."""
        event = dict(self.wanted)
        event["message"] = event["message"].replace(SEQ, f"seq={number:010d}")
        if MICROS in event.get("time", ""):
            event["time"] = event["time"].replace(MICROS, f".{number % 1_000_000:06d}")
        return event


@dataclass(frozen=True)
class Payload:
    """The variants in turn; `keep` has a 1 for each of them that belongs into the output (empty: all do)."""

    variants: tuple[Variant, ...]
    keep: str = ""
    #: What goes round each line on the wire.
    before: bytes = b""
    after: bytes = b"\n"
    #: Bytes of one line, without what is round it.
    size: int = field(init=False)

    def __post_init__(self) -> None:
        sizes = {len(variant.text) for variant in self.variants}
        assert len(sizes) == 1, sizes
        object.__setattr__(self, "size", sizes.pop())

    def variant(self, number: int) -> Variant:
        """The variant of the line with this number."""
        return self.variants[number % len(self.variants)]

    def kept(self, lines: int) -> int:
        """How many of the first `lines` lines belong into the output."""
        if not self.keep:
            return lines
        rounds, rest = divmod(lines, len(self.keep))
        return rounds * self.keep.count("1") + self.keep[:rest].count("1")

    def write(self, path: Path) -> None:
        """The file of templates that the load generator reads."""
        with path.open("wb") as file:
            for variant in self.variants:
                micros = variant.micros if variant.micros == NOWHERE else variant.micros + len(self.before)
                text = self.before + variant.text + self.after
                file.write(struct.pack("<II", len(text), micros) + text)


def _padded(text: str, size: int) -> str:
    """Made longer to `size` bytes with words, never shorter."""
    assert len(text) <= size, (len(text), size)
    filler = " lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore" * 200
    return text + filler[: size - len(text) - 1] + "." * (len(text) < size)


def _an_hour_ago() -> datetime:
    """Time stamps are of the recent past: a date without a year shall not be taken for one of last year."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)


def lines(size: int = 80, variants: int = 64) -> Payload:
    """Plain lines; some hold quotes or backslashes, which JSON has to escape."""
    made = []
    for number in range(variants):
        words = WORDS[number % len(WORDS)] if size >= 56 else ""
        text = _padded(f"{SEQ} {words}", size)
        made.append(Variant(text.encode(), {"type": "text", "message": text, "fields": {}}))
    return Payload(tuple(made))


def rfc5424(*, counted: bool = False, size: int = 180) -> Payload:
    """Syslog as RFC 5424 has it; time stamp, host, process and structured data vary."""
    made = []
    began = _an_hour_ago()
    for number in range(360):
        facility, severity = SENT_FACILITIES[number % 20], number % 8
        stamp = (began + timedelta(seconds=number)).strftime("%Y-%m-%dT%H:%M:%S") + MICROS + "Z"
        host, app, process = f"web{number % 18}.example.com", APPS[number % len(APPS)], str(1000 + number % 50)
        parameters = {"iut": "3", "eventSource": "app", "eventID": str(1000 + number)}
        data = "[ex@32473 " + " ".join(f'{name}="{value}"' for name, value in parameters.items()) + "]"
        head = f"<{facility * 8 + severity}>1 {stamp} {host} {app} {process} ID47 {data} "
        message = _padded(f"{SEQ} an event", size - len(head))
        fields = {
            "facility": FACILITIES[facility],
            "facility_code": facility,
            "severity": SEVERITIES[severity],
            "severity_code": severity,
            "hostname": host,
            "app_name": app,
            "procid": process,
            "msgid": "ID47",
            "structured_data": {"ex@32473": parameters},
        }
        wanted = {"type": "syslog", "time": stamp, "message": message, "fields": fields}
        made.append(Variant((head + message).encode(), wanted, data))
    if counted:
        return Payload(tuple(made), before=b"%d " % size, after=b"")
    return Payload(tuple(made))


def rfc3164(size: int = 136) -> Payload:
    """Syslog as RFC 3164 has it, one message a datagram."""
    made = []
    began = _an_hour_ago()
    for number in range(240):
        facility, severity = SENT_FACILITIES[number % 20], number % 8
        time = began + timedelta(seconds=number)
        host, app, process = f"web{number % 18}", APPS[number % len(APPS)], str(1000 + number % 50)
        stamp = f"{time:%b} {time.day:2} {time:%H:%M:%S}"
        head = f"<{facility * 8 + severity}>{stamp} {host} {app}[{process}]: "
        message = _padded(f"{SEQ} {WORDS[number % len(WORDS)]}", size - len(head))
        fields = {
            "facility": FACILITIES[facility],
            "facility_code": facility,
            "severity": SEVERITIES[severity],
            "severity_code": severity,
            "hostname": host,
            "app_name": app,
            "procid": process,
        }
        wanted = {"type": "syslog", "time": time.isoformat(), "message": message, "fields": fields}
        made.append(Variant((head + message).encode(), wanted))
    return Payload(tuple(made), after=b"")


def json_lines(size: int = 200) -> Payload:
    """JSON objects; every other one has a status of 500 or more, and these shall be kept."""
    made = []
    began = _an_hour_ago()
    for number in range(240):
        stamp = (began + timedelta(seconds=number)).strftime("%Y-%m-%dT%H:%M:%S") + MICROS + "Z"
        status = 500 + number % 4 if number % 2 else 200 + number % 7
        fields: dict[str, Any] = {
            "level": "error" if status >= 500 else "info",
            "status": status,
            "method": ("GET", "POST", "PUT")[number % 3],
            "path": f"/items/{100 + number}",
            "bytes": 1000 + number * 7,
            "duration": 10 + number % 90 + 0.5,
            "host": f"web{number % 20}",
            "user": f"u{number % 50}",
        }
        whole = {"time": stamp, "message": SEQ, **fields}
        short = len(json.dumps(whole, separators=(",", ":")))
        message = _padded(SEQ, len(SEQ) + size - short)
        text = json.dumps({**whole, "message": message}, separators=(",", ":"))
        wanted = {"type": "json", "time": stamp, "message": message, "fields": {**fields, "site": "hq"}}
        made.append(Variant(text.encode(), wanted))
    return Payload(tuple(made), keep="01" * 120)

"""Times that are written as text in lines of many kinds: by RFC 3339, as a number since 1970, or by a format."""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache

from eventserver.decoders._timestamps import UTC, YearRule, read_iso, read_value, to_utc, zone_of

#: No time is longer than this, in characters: what is longer is not looked at, and nothing of it is remembered.
LONGEST = 64
#: The most times that are remembered.
_REMEMBERED = 4096

#: A number since 1970: of nine digits at least, so that a duration is not taken for one.
_NUMBER = re.compile(r"\d{9,19}(\.\d{1,9})?", re.ASCII)
#: `Jan 2 2026 03:04:05.125 UTC`, all of it behind the day optional but the time: as CEF and LEEF write it.
_MONTH_FIRST = re.compile(
    r"([A-Z][a-z]{2}) {1,2}(\d\d?) (?:(\d{4}) )?(\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(?: (\S{1,32}))?", re.ASCII
)
_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: number for number, name in enumerate(_NAMES, 1)}
_OFFSET = re.compile(r"(?:GMT|UTC)?([+-]\d\d):?(\d\d)", re.ASCII)


def format_problem(time_format: str) -> str | None:
    """What is wrong with a format of Python's `strptime`; None if times can be read by it."""
    if "%Y" not in time_format and "%y" not in time_format:
        return 'the format has no year; write one such as "%d/%b/%Y:%H:%M:%S %z"'
    if len(time_format) > LONGEST:
        return f"a format has at most {LONGEST} characters"
    try:
        dt.datetime.strptime("", time_format)
    except re.error:
        return "the format has something twice"
    except ValueError as error:
        if "does not match" not in str(error):
            return f"{error}"
    return None


class TextTimes:
    """Reads times from texts; remembers them, since neighbours have the same. Never raises."""

    def __init__(self, time_format: str = "", time_zone: str = "UTC") -> None:
        """`time_format` is one of `strptime`; without it RFC 3339, or a number since 1970 (see `read_value`).

        `time_zone` is that of times without an offset.
        """
        self._format = time_format
        self._zone = zone_of(time_zone)
        self._cached = lru_cache(_REMEMBERED)(self._read)

    def read(self, text: str) -> dt.datetime | None:
        """The time in UTC; None if it cannot be read."""
        return self._cached(text) if 0 < len(text) <= LONGEST else None

    def _read(self, text: str) -> dt.datetime | None:
        if self._format:
            return by_format(text, self._format, self._zone)
        number = _NUMBER.fullmatch(text)
        if number is not None:
            return read_value(float(text) if number[1] else int(text))
        begin, _, zone = text.rpartition(" ")
        try:
            return read_iso(begin) if zone in ("UTC", "GMT") else read_iso(text, self._zone)
        except ValueError:
            return None


def by_format(text: str, time_format: str, zone: dt.tzinfo) -> dt.datetime | None:
    """The time that a text is by a format of `strptime`, in UTC; None if it is none. Both texts are bounded."""
    try:
        return to_utc(dt.datetime.strptime(text, time_format), zone)
    except (ValueError, OverflowError, re.error):
        return None


class DeviceTimes:
    """Reads times as CEF and LEEF have them: milliseconds since 1970, or `Jan 02 2026 03:04:05.125 UTC`.

    Year, fraction and zone may be missing. Other forms are read as `TextTimes` does. Never raises.
    """

    def __init__(self, time_zone: str = "UTC") -> None:
        self._years = YearRule("auto", zone_of(time_zone))
        self._plain = TextTimes(time_zone=time_zone)
        self._day: dt.date | None = None
        self._cached = lru_cache(_REMEMBERED)(self._read)

    def begin(self, received: dt.datetime) -> None:
        """When what follows was received, which settles the year of times without one."""
        if received.date() != self._day:
            self._day = received.date()
            self._years.begin(self._day)
            self._cached.cache_clear()

    def read(self, text: str) -> dt.datetime | None:
        """The time in UTC; None if it cannot be read."""
        return self._cached(text) if 0 < len(text) <= LONGEST else None

    def _read(self, text: str) -> dt.datetime | None:
        found = _MONTH_FIRST.fullmatch(text)
        if found is None:
            return self._plain.read(text)
        month, day, year, hms, fraction, zone = found.groups()
        if zone and zone.upper() in ("AM", "PM"):
            return None  # no zone, and to guess would be twelve hours wrong
        try:
            return self._years.time(
                _MONTHS[month],
                int(day),
                hms,
                int((fraction or "").ljust(6, "0")),
                int(year) if year else None,
                zone_named(zone) if zone else None,
            )
        except (KeyError, ValueError, OverflowError):
            return None


def zone_named(name: str) -> dt.tzinfo | None:
    """The zone that is meant; None for letters that could be several (`CST`): then it is that of the settings."""
    if name in ("UTC", "GMT", "Z"):
        return UTC
    offset = _OFFSET.fullmatch(name)
    if offset is None:
        return None
    minutes = int(offset[2]) if offset[1][0] == "+" else -int(offset[2])
    return dt.timezone(dt.timedelta(hours=int(offset[1]), minutes=minutes))

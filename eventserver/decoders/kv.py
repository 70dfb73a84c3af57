"""Pairs of name and value with words between them, as firewalls and devices write them.

`date=2026-01-02 time=03:04:05 devname="FG-1" action=deny`, or with other separators `temperature:21.5;humidity:40`.

- Values may be in double quotes, with backslashes as in JSON, or in single quotes, as they are.
- Words that are no pair are the message, with single spaces between them; if there are none, it is looked for by name.
- A priority of syslog at the start, as firewalls send it without the rest of a header (`<189>date=...`), gives
  `facility` and `facility_code`; and, where no level does, `severity` and `severity_code`.
- Where there are `date` and `time` (and perhaps `tz`), and no `time_key` is set, they are the time together.
- A name twice: the last value wins. No pair at all, or more than `max_keys`: undecodable. Only white space or NUL: no
  event.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from zope.interface import implementer

from eventserver.decoders._named import NamedDecoder, NamedOptions
from eventserver.decoders._pairs import pairs_pattern, unescaped
from eventserver.decoders._severity import priority_fields, read_priority
from eventserver.interfaces import IDecoder
from eventserver.options import Doc

#: The longest `<PRI>`.
_PRIORITY = 5


class KvOptions(NamedOptions, frozen=True, kw_only=True):
    """The options of the decoder `kv`."""

    pair_separator: Annotated[
        str, Doc('What stands between two pairs; " " is any white space.', ";", min_length=1, max_length=8)
    ] = " "
    value_separator: Annotated[
        str, Doc("What stands between a name and its value.", ":", min_length=1, max_length=8)
    ] = "="

    def problems(self) -> Iterable[tuple[str, str]]:
        """What cannot be told apart."""
        yield from super().problems()
        if not self.value_separator.strip():
            yield "value_separator", 'white space alone cannot be told from that of a value; write one such as "="'
        elif self.pair_separator.strip() and (
            self.pair_separator in self.value_separator or self.value_separator in self.pair_separator
        ):
            yield "value_separator", "it cannot be told from `pair_separator`"
        for key in ("pair_separator", "value_separator"):
            if {'"', "'", "\\"} & set(getattr(self, key)):
                yield key, "quotes and backslashes cannot separate anything"


@implementer(IDecoder)
class KvDecoder(NamedDecoder):
    """One event for each line of pairs."""

    Options = KvOptions

    def __init__(self, options: KvOptions | None = None) -> None:
        options = options or KvOptions()
        super().__init__(options, "kv")
        self._find = pairs_pattern(options.pair_separator, options.value_separator).findall
        self._joins_times = not options.time_key

    def values(self, text: str) -> tuple[str, dict[str, Any]] | None:
        """See `NamedDecoder.values`."""
        text = text.strip(" \t\r\n\0")
        if not text:
            return None
        fields: dict[str, Any] = {}
        words: list[str] = []
        priority = None
        if text[0] == "<" and (end := text.find(">", 0, _PRIORITY) + 1):
            priority = read_priority(text[:end])
            text = text if priority is None else text[end:]
        for name, equals, quoted, single, plain in self._find(text):
            if equals:
                fields[name.rstrip()] = unescaped(quoted) or single or plain.rstrip()
            elif name:
                words.append(name.rstrip())
        if not fields:
            raise ValueError("there is no pair of name and value in it")
        if self._joins_times and "date" in fields and "time" in fields:
            self._join_time(fields)
        if priority is not None:
            self._add_priority(priority, fields)
        return " ".join(words), fields

    def _add_priority(self, priority: int, fields: dict[str, Any]) -> None:
        """Add what a priority says and the pairs do not."""
        found = priority_fields(priority)
        # A level that can be read has the last word, after this.
        if "severity" in fields or "severity_code" in fields:
            del found["severity"], found["severity_code"]
        for key, value in found.items():
            fields.setdefault(key, value)

    def _join_time(self, fields: dict[str, Any]) -> None:
        """Make one time of date, time of day and offset, if that can be read."""
        whole = f"{fields['date']}T{fields['time']}"
        for text in (whole + fields.get("tz", ""), whole):
            if self._times.read(text) is not None:
                fields["time"] = text
                del fields["date"]
                return

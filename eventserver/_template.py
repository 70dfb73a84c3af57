"""Templates over events: `"{time:%Y-%m-%d} {hostname} {fields[app_name]} {message}"`.

For the template encoder (values are escaped for text) and for the file handler's paths (values are escaped for
a path): the caller passes the function that makes a value harmless. A template is compiled once; rendering never
raises, and nothing in a template reaches an attribute or calls anything.

- `{id} {time} {received} {listener} {peer} {type} {message} {context} {fields}` are the event's; any other
  `{name}` is `fields[name]`.
- `{fields[app-name]}`, `{context[labels][site]}`: an entry of a table, by its key.
- `{time:%Y-%m-%d}`, `{received:%H}`: a time in UTC, in the words of `strftime` (a fixed set of them).
- `{{` and `}}` are braces. What is missing is `-`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import Any

import msgspec

from eventserver.event import Event

#: What stands for a value that is missing.
MISSING = "-"

#: The attributes of an event that expressions and templates can name.
EVENT_NAMES = frozenset({"id", "time", "received", "listener", "peer", "type", "message", "context", "fields"})

_PART = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]|[^{}]+")
_PLACE = re.compile(r"\{([^\W\d]\w*)((?:\[[^\[\]]+\])*)(?::(.*))?\}", re.DOTALL)
_KEY = re.compile(r"\[([^\[\]]+)\]")
#: The directives of strftime that are known; none gives anything but letters and digits, so none can leave a path.
_DIRECTIVE = re.compile(r"%([YmdHMSfjyGVuwUWbBaApI%])|%.?", re.DOTALL)
_DATE_ONLY = frozenset("YmdjyGVuwUWbBaA%")
#: How many times a format remembers.
CACHED = 1024

_JSON = msgspec.json.Encoder()
Part = Callable[[Event], str]


class Template:
    """A compiled template. `quote` makes the text of each value harmless; the template's own text stays as it is.

    `names` are the names that the template looks at: attributes of the event, and names of fields. Raises `ValueError`
    with a sentence that names the place and what would be right.
    """

    def __init__(self, text: str, quote: Callable[[str], str]) -> None:
        self.text = text
        self._quote = quote
        self._parts: list[Part] = []
        self._names: set[str] = set()
        # The template as Python's `%` wants it: the own text with `%` doubled, `%s` for each value.
        self._form = "".join([self._compile(match) for match in _PART.finditer(text)])
        self.names = frozenset(self._names)

    def render(self, event: Event) -> str:
        """The template's text with the event's values in it. Never raises."""
        return self._form % tuple([part(event) for part in self._parts])

    def _compile(self, match: re.Match[str]) -> str:
        part = match[0]
        if part in ("{{", "}}"):
            return part[0]
        if part in ("{", "}"):
            raise ValueError(f"`{part}` at column {match.start() + 1} stands alone; write `{part * 2}` for a brace")
        if not part.startswith("{"):
            return part.replace("%", "%%")
        place = _PLACE.fullmatch(part)
        if place is None:
            raise ValueError(
                f"`{part}` at column {match.start() + 1} is not understood; "
                "write `{name}`, `{fields[name]}` or `{time:%Y-%m-%d}`"
            )
        self._parts.append(self._place(part, place[1], _KEY.findall(place[2]), place[3]))
        return "%s"

    def _place(self, part: str, name: str, keys: list[str], form: str | None) -> Part:
        self._names.add(name)
        if form is not None:
            if name not in ("time", "received") or keys:
                raise ValueError(f"`{part}` has a format, and only `time` and `received` take one")
            return _Formatted(name, check_form(form))
        if name not in EVENT_NAMES:
            name, keys = "fields", [name, *keys]
        if keys and name not in ("fields", "context"):
            raise ValueError(f"`{part}` asks for a key, and `{name}` is not a table")
        return _looked_up(name, keys, self._quote) if keys else _attribute(name, self._quote)


def check_form(form: str) -> str:
    """The format of a time, if all of its directives are known. Raises `ValueError` with a sentence."""
    for match in _DIRECTIVE.finditer(form):
        if match[1] is None:
            raise ValueError(f"`{match[0]}` in a time's format is not known; write `%Y %m %d %H %M %S` or the like")
    try:
        dt.datetime(2000, 1, 1, tzinfo=dt.UTC).strftime(form)
    except ValueError as error:  # A lone surrogate or a NUL.
        raise ValueError(f"the time's format {form!r} cannot be used: {error}") from None
    return form


def text_of(value: object) -> str:
    """A value as text: texts as they are, times in RFC 3339 with `Z`, others as JSON. Never raises."""
    if isinstance(value, str):
        return value
    if value is None:
        return MISSING
    try:
        text = _JSON.encode(value).decode()
        return text.strip('"') if isinstance(value, dt.datetime) else text
    except Exception:
        return f"({type(value).__name__})"


def _attribute(name: str, quote: Callable[[str], str]) -> Part:
    def part(event: Event) -> str:
        return quote(text_of(getattr(event, name)))

    return part


def _looked_up(name: str, keys: list[str], quote: Callable[[str], str]) -> Part:
    def part(event: Event) -> str:
        value: Any = getattr(event, name)
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return MISSING if value is None else quote(text_of(value))

    return part


class _Formatted:
    """A time of the event in the words of strftime.

    The result is not quoted: it comes from the template, and `{time:%Y/%m/%d}` is three folders on purpose. Events come
    in order of time, mostly, so a small memory saves most of strftime's 1.5 µs.
    """

    def __init__(self, name: str, form: str) -> None:
        self._name = name
        self._form = form
        self._date_only = {match[1] for match in _DIRECTIVE.finditer(form)} <= _DATE_ONLY
        self.known: dict[object, str] = {}

    def __call__(self, event: Event) -> str:
        try:
            time = getattr(event, self._name)
            key = time.toordinal() if self._date_only else time
            return self.known.get(key) or self._remember(key, time)
        except Exception:  # Some other object where a time should be.
            return MISSING

    def _remember(self, key: object, time: dt.datetime) -> str:
        if len(self.known) >= CACHED:
            self.known.clear()
        text = self.known[key] = time.strftime(self._form)
        return text

r"""Lines of any kind, by a regular expression with named groups: `(?P<user>\S+) from (?P<address>\S+)`.

- Each group that took part is a field, by its name. Groups without a name are only groups.
- `pattern` may be a list: the first one that is found counts. It is looked for anywhere; `^` and `$` bind it
  to the ends.
- The time, the message and the level are found by their names, as in `logfmt`. Without a group for the message, it is
  the line.
- A line in which no pattern is found is undecodable; one of white space or NUL is no event.

Patterns are those of `match` (see `eventserver._patterns`): of RE2, and none that could take long on some lines. With
the extra `re2` all of RE2 may be used. Without it, some patterns are refused, and lines over 4,096 characters are
undecodable.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from zope.interface import implementer

from eventserver._patterns import compile_groups
from eventserver.decoders._named import NamedDecoder, NamedOptions
from eventserver.interfaces import IDecoder
from eventserver.options import Doc


class RegexOptions(NamedOptions, frozen=True, kw_only=True):
    """The options of the decoder `regex`."""

    pattern: Annotated[
        str | list[str],
        Doc("A regular expression with named groups, or a list of them.", r"^(?P<name>\w+)=(?P<value>\d+)"),
    ]

    @property
    def patterns(self) -> list[str]:
        """The patterns, as a list."""
        return [self.pattern] if isinstance(self.pattern, str) else self.pattern

    def problems(self) -> Iterable[tuple[str, str]]:
        """Patterns that cannot be used."""
        yield from super().problems()
        if not self.patterns:
            yield "pattern", "the list is empty"
        for pattern in self.patterns:
            try:
                if not compile_groups(pattern).names:
                    yield "pattern", f"{pattern!r} has no named group, such as (?P<user>\\S+)"
            except ValueError as error:
                yield "pattern", f"{pattern!r}: {error}"


@implementer(IDecoder)
class RegexDecoder(NamedDecoder):
    """One event for each line in which a pattern is found."""

    Options = RegexOptions

    def __init__(self, options: RegexOptions) -> None:
        """Raises `ValueError` for patterns that `RegexOptions.problems` names."""
        super().__init__(options, "regex")
        self._patterns = [compile_groups(pattern) for pattern in options.patterns]

    def values(self, text: str) -> tuple[str, dict[str, Any]] | None:
        """See `NamedDecoder.values`."""
        text = text.rstrip("\r\n\0")
        if not text.strip():
            return None
        for pattern in self._patterns:
            found = pattern.find(text)
            if found is not None:
                fields = {name: value for name, value in found.items() if value is not None}
                return "" if any(key in fields for key in self._message_keys) else text, fields
        raise ValueError("no pattern is found in it")

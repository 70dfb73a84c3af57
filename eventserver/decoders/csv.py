"""Comma-separated values (RFC 4180): one record a frame.

- `columns` names the values; what it does not name is `column_1`, `column_2`, ... by its place. Values that are missing
  at the end are left out.
- A record that says the columns' names themselves is a header, and gives no event; nor does one of white space or NUL.
- A value with the separator, a quote or the end of a line in it stands in quotes, and a quote inside is doubled. In a
  value without quotes around it, a quote is a letter. A quote that is not closed, one that is closed within a value,
  and more than `max_keys` values are undecodable.
- A record over several lines needs a framing that keeps it together, such as `multiline` or `octet`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import Annotated, Any

from zope.interface import implementer

from eventserver.decoders._named import NamedDecoder, NamedOptions
from eventserver.interfaces import IDecoder
from eventserver.options import Doc


class CsvOptions(NamedOptions, frozen=True, kw_only=True):
    """The options of the decoder `csv`."""

    columns: Annotated[
        list[str], Doc("The names of the values, in order; one that is empty leaves its value out.", ["time", "host"])
    ] = []  # noqa: RUF012  # msgspec copies it
    separator: Annotated[str, Doc("What stands between two values: one character.", "\t")] = ","
    quote: Annotated[str, Doc("What stands around a value, if it needs it: one character.", "'")] = '"'

    def problems(self) -> Iterable[tuple[str, str]]:
        """Names that come twice, and characters that cannot separate."""
        yield from super().problems()
        named = [name for name in self.columns if name]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            yield "columns", f"`{twice[0]}` is there twice"
        for key in ("separator", "quote"):
            if len(getattr(self, key)) != 1:
                yield key, "it is one character"
            elif getattr(self, key) in "\r\n\0":
                yield key, "the end of a line cannot separate values"
        if self.separator == self.quote:
            yield "quote", "it is the separator already"


@implementer(IDecoder)
class CsvDecoder(NamedDecoder):
    """One event for each record."""

    Options = CsvOptions

    def __init__(self, options: CsvOptions | None = None) -> None:
        options = options or CsvOptions()
        super().__init__(options, "csv")
        self._columns = options.columns
        self._names = list(options.columns)
        self._separator = options.separator
        self._quote = options.quote

    def values(self, text: str) -> tuple[str, dict[str, Any]] | None:
        """See `NamedDecoder.values`."""
        text = text.rstrip("\r\n\0")
        if not text.strip():
            return None
        if self._quote in text:
            found = self._quoted(text)
        elif "\n" in text or "\r" in text:
            raise ValueError("CSV: the end of a line that is not within quotes")
        else:
            found = text.split(self._separator)
        if len(found) > self._max_keys:
            raise ValueError(f"more than {self._max_keys} values")
        if found == self._columns:
            return None
        names = self._names
        while len(names) < len(found):
            names.append(f"column_{len(names) + 1}")
        fields = dict(zip(names, found, strict=False))
        fields.pop("", None)
        return "", fields

    def _quoted(self, text: str) -> list[str]:
        """The values of a record with quotes. One reader for each record: none may take in the next one."""
        try:
            # Split where lines may end, as the reader expects it.
            [found] = csv.reader(
                text.splitlines(keepends=True) if "\n" in text or "\r" in text else [text],
                delimiter=self._separator,
                quotechar=self._quote,
                strict=True,
            )
        except csv.Error as error:
            raise ValueError(f"CSV: {error}") from None
        except ValueError:
            raise ValueError("CSV: the end of a line that is not within quotes") from None
        return found

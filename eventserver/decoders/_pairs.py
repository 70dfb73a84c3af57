r"""Pairs of name and value in a line, cut by one regular expression.

All repeats end at a letter that they cannot match, so a line is read in time proportional to its length, whatever it
holds. (Possessive repeats of groups would say so, but Python 3.11.2, Debian 12's, gets those wrong.)
"""

from __future__ import annotations

import re

import msgspec

#: The end of a value in quotes: white space, or the end of the line.
_SPACE = r"\x00-\x20"
_NO_MORE = rf"(?![^{_SPACE}])"

_decode = msgspec.json.Decoder(str).decode
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {'"': '"', "'": "'", "\\": "\\", "n": "\n", "t": "\t", "r": "\r"}


def _quoted(end: str) -> str:
    """A text in double quotes, with backslashes; what is not closed goes to the end of the line."""
    return rf'"([^"\\]*+(?:\\.[^"\\]*+)*)(?:"{end}|\\?\Z)'


def _single(end: str) -> str:
    """A text in single quotes."""
    return rf"'([^']*+)'{end}"


#: Name, `=` or nothing, the value from quotes, the value without, and what is no pair.
LOGFMT = re.compile(
    rf'([^{_SPACE}="]++)(?:(=)(?:{_quoted(_NO_MORE)}|([^{_SPACE}]*+)))?|([^{_SPACE}]++)', re.DOTALL
)  # fmt: skip


def pairs_pattern(pair_separator: str, value_separator: str) -> re.Pattern[str]:
    """A pattern whose matches are pairs, and words that are none.

    Its groups: the name, the separator or nothing, and the value from double quotes, from single quotes, or from none.
    A word without a separator is in the place of the name. `pair_separator` may be `" "`: any white space.
    """
    equals = re.escape(value_separator)
    if not pair_separator.strip():
        name = rf"(?:(?!{equals})[^{_SPACE}])+|{equals}[^{_SPACE}]*+"
        value = rf"{_quoted(_NO_MORE)}|{_single(_NO_MORE)}|([^{_SPACE}]*+)"
        return re.compile(rf"({name})(?:({equals})(?:{value}))?", re.DOTALL)
    comma = re.escape(pair_separator)
    end = rf"[ \t]*+(?={comma}|\Z)"
    name = rf"(?:(?!{comma}|{equals}).)*"
    value = rf"{_quoted(end)}|{_single(end)}|((?:(?!{comma}).)*)"
    return re.compile(rf"[ \t]*+({name})(?:({equals})[ \t]*+(?:{value}))?(?:{comma}|\Z)", re.DOTALL)


def unescaped(text: str) -> str:
    r"""A text from within double quotes, with what its backslashes mean: as in JSON; others stay as they are."""
    if "\\" not in text:
        return text
    try:
        return _decode(f'"{text}"'.encode())
    except ValueError:
        return _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[0]), text)

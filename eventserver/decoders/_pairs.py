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
#: What Go's `strconv.Quote` writes, and JSON does not know, such as `\x1b` and `\U000e0001`. Its `\a` and `\v` are left
#: out: BEL and VT are rarer than `C:\apps` and `C:\var`.
_GO_CODE = r"x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U00(?:0[0-9A-Fa-f]|10)[0-9A-Fa-f]{4}"
_GO_TEXT = re.compile(rf"""[^\\]*+(?:\\(?:[bfnrt\\"']|{_GO_CODE})[^\\]*+)*""", re.DOTALL)
_GO_ESCAPE = re.compile(r"\\(?:x(..)|u(....)|U(.{8})|(.))", re.DOTALL)
_GO_ESCAPES = _ESCAPES | {"b": "\b", "f": "\f"}


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


def unescaped(text: str, *, go: bool = False) -> str:
    r"""A text from within double quotes, with what its backslashes mean: as in JSON; others stay as they are.

    With `go` as in Go, too, where all of the text can be read so.
    """
    if "\\" not in text:
        return text
    try:
        return _decode(f'"{text}"'.encode())
    except ValueError:
        if go and _GO_TEXT.fullmatch(text):
            return _GO_ESCAPE.sub(_go_character, text)
        return _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[0]), text)


def _go_character(found: re.Match[str]) -> str:
    byte, four, eight, letter = found.groups()
    if letter:
        return _GO_ESCAPES[letter]
    code = int(byte or four or eight, 16)
    # A byte from 80 on is one that was not UTF-8, a surrogate is no character.
    return "\ufffd" if (byte and code > 0x7F) or 0xD800 <= code <= 0xDFFF else chr(code)

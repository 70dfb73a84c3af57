"""Text from peers, made harmless for terminals, text files, our own log, and names of files.

Everything here takes any `str`, lone surrogates included, and never raises.
"""

from __future__ import annotations

import re

# C0, DEL and C1 (they hold ESC, CSI and the line ends), U+2028 and U+2029 (line ends), the bidirectional controls
# (they make text look like another text), and lone surrogates (they cannot be encoded).
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_NOT_IN_PATH = re.compile(rb"[^A-Za-z0-9._-]")


def escape_text(text: str) -> str:
    r"""The text as one line that can neither move a cursor nor change how its neighbours read.

    Control characters become `\xNN`, others `\uNNNN`. A backslash stays as it is: the result is for people, and the
    text `\x0a` cannot be told from an escaped line feed. Who needs the exact text takes JSON or raw output.
    """
    # isprintable() is false for every character of _UNSAFE (Unicode categories Cc, Cf, Cs, Zl, Zp) and takes
    # some 30 ns; the pattern decides about the rest, such as U+00A0.
    if text.isprintable():
        return text
    return _UNSAFE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def escape_path(text: str, limit: int = 64) -> str:
    """The text as one component of a path: never empty, never with a leading dot, at most `limit` bytes long.

    `[A-Za-z0-9._-]` stay, except that a leading dot becomes `%2E`; each other byte of the UTF-8 form becomes `%XX`.
    No escape is cut in half. An empty text is `_`. Different texts give different results until they are cut.
    """
    data = text.encode("utf-8", "surrogatepass")[:limit]
    escaped = "%2E" + _percent(data[1:]) if data.startswith(b".") else _percent(data)
    if len(escaped) > limit:
        escaped = escaped[:limit]
        start = escaped.rfind("%", max(0, limit - 2))
        escaped = escaped[:start] if start >= 0 else escaped
    return escaped or "_"


def _percent(data: bytes) -> str:
    return _NOT_IN_PATH.sub(lambda match: b"%%%02X" % match[0][0], data).decode("ascii")

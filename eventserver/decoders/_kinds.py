"""Which decoder a frame is for, by its first bytes; for JSON, by its keys as well. Pure.

| begins with | decoder |
|---|---|
| `<`, one to three digits, `>` | `syslog` (RFC 5424 and RFC 3164, section 4.1.1: a priority) |
| `{` and `"` or `}`, white space between them; `"short_message"` and `"host"` or `"version"` somewhere | `gelf` |
| the same, with `"specversion"` somewhere | `cloudevents` (CloudEvents 1.0, section 3.1: required) |
| the same, with neither | `json` |
| `[` and `{`, white space between them | `json`, or `cloudevents` as above |
| anything else | `text` |

A byte order mark of UTF-8 before JSON is passed over, as its decoders do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_PRIORITY = re.compile(rb"<[0-9]{1,3}>")
_OBJECT = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:\{\s*[\"}]|\[\s*\{)")
#: First bytes of frames that need a closer look; all others are text.
_MARKS = frozenset(b"<{[ \t\r\n\xef")


def is_gelf(text: bytes) -> bool:
    """Whether the text of an object is a GELF message: it has the keys that only GELF has."""
    return b'"short_message"' in text and (b'"version"' in text or b'"host"' in text)


def kind_of(frame: bytes) -> str:
    """The decoder for a frame."""
    if not frame or frame[0] not in _MARKS:
        return "text"
    if frame[0] == 0x3C:
        return "syslog" if _PRIORITY.match(frame) else "text"
    if not _OBJECT.match(frame):
        return "text"
    if is_gelf(frame) and frame.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
        return "gelf"
    return "cloudevents" if b'"specversion"' in frame else "json"


def kind_of_all(frames: Sequence[bytes]) -> str | None:
    """The decoder for a batch of frames; None if they are not for one and the same."""
    found = set(map(kind_of, frames))
    return found.pop() if len(found) == 1 else None


def runs(frames: Sequence[bytes]) -> list[tuple[str, int, int]]:
    """The frames in runs for one decoder each: its name, the index of the first frame, and that behind the last."""
    found: list[tuple[str, int, int]] = []
    begin, before = 0, ""
    for index, kind in enumerate(map(kind_of, frames)):
        if kind != before:
            if before:
                found.append((before, begin, index))
            begin, before = index, kind
    if before:
        found.append((before, begin, len(frames)))
    return found

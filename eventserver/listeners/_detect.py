"""Which protocol a stream speaks, by its first bytes. Sans-I/O, and never an exception.

| begins with | protocol |
|---|---|
| 22, 3 | `tls`: a handshake record (RFC 8446, section 5.1) |
| `1 open ` | `relp`: a client's first command (librelp, doc/relp.md) |
| `1` or `2`, `W` or `C`, 0 | `lumberjack`: a window or a compressed frame, below 16 Mi (logstash-input-beats) |
| a MessagePack array of two to four that begins with a text or bytes, or nil | `fluent` (Forward, version 1) |
| a word, a target and `HTTP/` and a version, in one line | `http` (RFC 9112, section 3) |
| an object with GELF's keys | `gelf` |
| `<`, one to three digits, `>`; or one to seven digits, SP, `<` | `syslog`, in lines or counted (RFC 6587) |
| `{` and `"` or `}`, or `[` and `{`, white space between them | `json` |
| anything else | `lines` |
"""

from __future__ import annotations

import re
from collections.abc import Collection

from eventserver.decoders._kinds import is_gelf

#: Every protocol that can be told apart on a stream, TLS apart.
PROTOCOLS = ("relp", "fluent", "lumberjack", "http", "gelf", "syslog", "json", "lines")
#: Where only a line can tell, so many bytes of it are looked at; and so many until an object has its first key.
MOST = 8192
#: So many of an object: the keys of GELF may stand behind a long text. What has not ended by then is JSON.
MOST_OF_OBJECT = 65536

_FALLBACKS = {"gelf": "json", "json": "lines", "syslog": "lines"}
_RELP = b"1 open "
_COUNTED = re.compile(rb"[1-9][0-9]{0,6} <")
_COUNTED_BEGINNING = re.compile(rb"[1-9][0-9]{0,6} ?")
_PRIORITY = re.compile(rb"<[0-9]{1,3}>")
_PRIORITY_BEGINNING = re.compile(rb"<[0-9]{0,3}")
_METHODS = re.compile(rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI) ")
_METHOD_NAMES = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"CONNECT ", b"OPTIONS ", b"TRACE ", b"PATCH ",
                 b"PRI ")  # fmt: skip
_REQUEST = re.compile(rb"[A-Z]+ [^\s]+ HTTP/[0-9]\.[0-9]\r?\n")
#: Where the first message of a stream of objects ends: as the framer `gelf` finds it.
_END = re.compile(rb"\0|\}\r?\n")
_NO_OBJECT = re.compile(rb"\{\s*[^\s\"}]")
_NO_KEY = re.compile(rb"\{\s*\Z")
#: Bytes before those that are new which may belong to an end: "}" and CR.
_TAIL = 2
_ARRAY = re.compile(rb"\[\s*\{")
_ARRAY_BEGINNING = re.compile(rb"\[\s*")
#: First bytes of texts and bytes in MessagePack: fixstr, str 8 to 32, bin 8 to 32.
_TAGS = frozenset((*range(0xA0, 0xC0), 0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB))


def detect(data: bytes, *, whole: bool = False, seen: int = 0) -> str | None:
    """The protocol of a stream that begins with these bytes (at least one); None if that takes more of them.

    With `whole` no more will come, or have come for too long: then there is always an answer. Of the first `seen` bytes
    the answer was None: they need not be searched again.
    """
    first = data[0]
    if first == 0x7B:
        return _object(data, whole, seen)
    if first == 0x5B:
        found = "json" if _ARRAY.match(data) else None if _ARRAY_BEGINNING.fullmatch(data) else "lines"
    elif first == 0x3C:
        found = "syslog" if _PRIORITY.match(data) else None if _PRIORITY_BEGINNING.fullmatch(data) else "lines"
    elif 0x30 <= first <= 0x39:
        found = _digits(data)
    elif first == 0x16:
        found = None if len(data) < 2 else "tls" if data[1] == 3 else "lines"
    elif first >= 0x80:
        found = _packed(data)
    elif 0x43 <= first <= 0x54:
        found = _request(data)
    else:
        found = "lines"
    if found is None and (whole or len(data) > MOST):
        return "lines"
    return found


def choose(found: str, allowed: Collection[str]) -> str | None:
    """The allowed protocol for what was found; None if there is none.

    Objects and syslog are lines too, so they are read as such where they are not allowed themselves.
    """
    name: str | None = found
    while name is not None and name not in allowed:
        name = _FALLBACKS.get(name)
    return name


def _object(data: bytes, whole: bool, seen: int) -> str | None:
    if seen <= MOST and (_NO_OBJECT.match(data, 0, MOST) or (len(data) > MOST and _NO_KEY.match(data, 0, MOST))):
        return "lines"
    end = _END.search(data, max(0, seen - _TAIL), MOST_OF_OBJECT)
    if end is None and not whole and len(data) < MOST_OF_OBJECT:
        return None
    return "gelf" if is_gelf(data[: end.end() if end is not None else MOST_OF_OBJECT]) else "json"


def _digits(data: bytes) -> str | None:
    if data[:1] in b"12" and data[1:2] in (b"W", b"C"):
        return None if len(data) < 3 else "lines" if data[2] else "lumberjack"
    if data.startswith(_RELP):
        return "relp"
    if _COUNTED.match(data):
        return "syslog"
    undecided = _RELP.startswith(data) or _COUNTED_BEGINNING.fullmatch(data)
    return None if undecided else "lines"


def _packed(data: bytes) -> str | None:
    first = data[0]
    if first == 0xC0:
        return "fluent"
    if first == 0xDC:
        head, begin = data[1:3], 3
        if not b"\0\2".startswith(head[:1]) or (len(head) == 2 and not 2 <= head[1] <= 4):
            return "lines"
    elif 0x92 <= first <= 0x94:
        begin = 1
    else:
        return "lines"
    if len(data) <= begin:
        return None
    return "fluent" if data[begin] in _TAGS else "lines"


def _request(data: bytes) -> str | None:
    if not _METHODS.match(data):
        return None if any(name.startswith(data) for name in _METHOD_NAMES) else "lines"
    if b"\n" not in data:
        return None
    return "http" if _REQUEST.match(data) else "lines"

"""The words that programs use for how serious a line is, as syslog's severities (RFC 5424 section 6.2.1)."""

from __future__ import annotations

from eventserver.decoders._severity import SEVERITIES

_OTHERS = {
    "fatal": "crit",
    "critical": "crit",
    "panic": "crit",
    "severe": "err",
    "error": "err",
    "eror": "err",
    "warn": "warning",
    "information": "info",
    "informational": "info",
    "verbose": "debug",
    "fine": "debug",
    "trace": "debug",
    "dbug": "debug",
    "emergency": "emerg",
}

_CODES = {word: code for code, word in enumerate(SEVERITIES)}
_CODES |= {word: _CODES[severity] for word, severity in _OTHERS.items()}
_LONGEST = max(map(len, _CODES))


def severity_of(word: str) -> tuple[str, int] | None:
    """The keyword and the number, 0 to 7, of the severity that a word means; None if it is none that is known."""
    code = _CODES.get(word.lower()) if len(word) <= _LONGEST else None
    return None if code is None else (SEVERITIES[code], code)

"""Priorities of syslog: facility and severity by number and keyword (RFC 5424 section 6.2.1).

The severities' keywords are those of `syslog.conf` and of RFC 5427's managed objects, in their short form; the
facilities' keywords are those of `syslog.h`, and `ntp`, `audit`, `alert`, `clock` for 12 to 15, which it leaves free.
"""

from __future__ import annotations

from typing import Any

SEVERITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")

FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("ntp", "audit", "alert", "clock"),
    *("local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"),
)

#: The largest priority: facility 23, severity 7.
MAX_PRIORITY = 191

#: What RFC 3164 section 4.3.3 takes for a message without a readable priority: user.notice.
DEFAULT_PRIORITY = 13


def priority_fields(priority: int) -> dict[str, Any]:
    """The four fields that a priority from 0 to 191 gives; a new dictionary."""
    facility, severity = divmod(priority, 8)
    return {
        "facility": FACILITIES[facility],
        "facility_code": facility,
        "severity": SEVERITIES[severity],
        "severity_code": severity,
    }


def read_priority(text: str) -> int | None:
    """The number in `<0>` to `<191>`, at most three digits; None if it is not one."""
    digits = text[1:-1]
    if text[:1] != "<" or text[-1:] != ">" or not 1 <= len(digits) <= 3:
        return None
    if not (digits.isascii() and digits.isdigit()):
        return None
    priority = int(digits)
    return priority if priority <= MAX_PRIORITY else None

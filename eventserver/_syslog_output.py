"""Events as RFC 5424 messages: what the syslog encoder and nothing else needs."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from eventserver._escaping import escape_text
from eventserver._plain import as_text
from eventserver.event import Event

#: Keywords of RFC 5424, section 6.2.1, as every decoder writes them, by their codes.
SEVERITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("ntp", "audit", "alert", "clock"),
    *("local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"),
)

_NOT_PRINTUSASCII = re.compile(r"[^!-~]")
_NOT_SD_NAME = re.compile(r'[^!-~]|[="\]]')
_SD_SPECIAL = re.compile(r'["\\\]]')


def code(value: Any, keyword: Any, keywords: tuple[str, ...], default: int) -> int:
    """The code of a facility or severity: its field if it is one, else its keyword's, else the default."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(keywords):
        return value
    return keywords.index(keyword) if isinstance(keyword, str) and keyword in keywords else default


def timestamp(time: Any) -> str:
    """TIMESTAMP (section 6.2.3): UTC with up to six digits of a second; NILVALUE for a time without a zone."""
    if not isinstance(time, dt.datetime) or time.tzinfo is None:
        return "-"
    text = time.isoformat()
    return f"{text if text.endswith('+00:00') else time.astimezone(dt.UTC).isoformat()}"[:-6] + "Z"


def word(value: Any, limit: int) -> str:
    """A header field of printable ASCII (section 6): other characters become `_`, what is too long is cut."""
    if value is None or value == "":
        return "-"
    text = (value if isinstance(value, str) else as_text(value))[:limit]
    if text.isascii() and text.isprintable() and " " not in text:
        return text
    return _NOT_PRINTUSASCII.sub("_", text)


def host_of(event: Event) -> str:
    """HOSTNAME: the field, else the peer's address."""
    hostname = event.fields.get("hostname")
    if hostname:
        return word(hostname, 255)
    peer = event.peer
    if peer.startswith("["):
        peer = peer[1:].partition("]")[0]
    elif peer.count(":") == 1:
        peer = "" if peer.startswith("unix:") else peer.partition(":")[0]
    return word(peer, 255)


def structured_data(value: Any) -> str:
    """STRUCTURED-DATA (section 6.3) of `{id: {name: value or list of values}}`; NILVALUE for anything else."""
    if not isinstance(value, dict) or not value:
        return "-"
    elements: dict[str, str] = {}
    for sd_id, parameters in value.items():
        # An SD-ID stands once in a message (section 6.3.2): names that become alike by replacing keep the first.
        elements.setdefault(_sd_name(sd_id), _parameters(parameters))
    return "".join(f"[{name}{parameters}]" for name, parameters in elements.items())


def _parameters(parameters: Any) -> str:
    if not isinstance(parameters, dict):
        return ""
    return "".join(
        f' {_sd_name(name)}="{_sd_value(value)}"'
        for name, values in parameters.items()
        for value in (values if isinstance(values, (list, tuple)) else (values,))
    )


def _sd_name(name: Any) -> str:
    return _NOT_SD_NAME.sub("_", (name if isinstance(name, str) else as_text(name))[:32]) or "_"


def _sd_value(value: Any) -> str:
    text = value if isinstance(value, str) else as_text(value)
    return _SD_SPECIAL.sub(lambda match: "\\" + match[0], escape_text(text))

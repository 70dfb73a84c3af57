"""Who may reach the admin endpoint: nothing beyond this machine gets in without a token."""

from __future__ import annotations

import ipaddress
import math
import re
from typing import NamedTuple

#: The fewest bits of a token: `openssl rand -hex 16` prints 32 hexadecimal digits with 4 bits each.
MIN_TOKEN = 128
_HEX = re.compile(r"[0-9a-f]*|[0-9A-F]*")
_KINDS = ("tcp", "tcp6", "ssl", "unix", "systemd")
_EXAMPLE = '"tcp:9514:interface=127.0.0.1"'


class Endpoint(NamedTuple):
    """What an endpoint's text says: its kind, its interface (empty: all), and whether it stays on this machine."""

    kind: str
    interface: str
    local: bool


def parse_endpoint(text: str) -> Endpoint:
    """Reads as much of an endpoint's text as matters here; Twisted reads the rest."""
    kind, *arguments = (re.sub(r"\\(.)", r"\1", part) for part in re.split(r"(?<!\\):", text))
    named = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    positional = [argument for argument in arguments if "=" not in argument]
    # `tcp:PORT:INTERFACE` is another way to write `interface=`.
    interface = named.get("interface", positional[1] if len(positional) > 1 and kind != "unix" else "")
    return Endpoint(kind, interface, kind == "unix" or (kind != "systemd" and _is_loopback(interface)))


def _is_loopback(interface: str) -> bool:
    if interface == "localhost":
        return True
    try:
        return ipaddress.ip_address(interface).is_loopback
    except ValueError:
        return False


def bits_of(token: str) -> float:
    """The bits that a token has if its characters were drawn at random: 4 each for hexadecimal digits, ..."""
    letters = 16 if _HEX.fullmatch(token) else 62 if token.isalnum() else 94
    return len(token.encode()) * math.log2(letters)


def problems_of_admin(endpoint: str, token: str | None) -> list[tuple[str, str]]:
    """What is wrong with the admin endpoint: pairs of key and sentence.

    A unix socket and a loopback address need no token. Any other address does, and so does an inherited socket
    (`systemd:`), whose address is not known here.
    """
    found: list[tuple[str, str]] = []
    parsed = parse_endpoint(endpoint)
    if parsed.kind not in _KINDS or ":" not in endpoint:
        found.append(("endpoint", f'{endpoint!r} is no endpoint for HTTP; write {_EXAMPLE} or "unix:/PATH"'))
    elif not parsed.local and not token:
        found.append(("token", f"is missing: {endpoint!r} can be reached from other machines; or use {_EXAMPLE}"))
    if token is not None and bits_of(token) < MIN_TOKEN:
        found.append(("token", f"is too short: {MIN_TOKEN} bits are needed, such as `openssl rand -hex 16` prints"))
    if token is not None and re.search(r"[^!-~]", token):
        found.append(("token", "has characters that a header cannot carry: use printable ASCII without spaces"))
    return found

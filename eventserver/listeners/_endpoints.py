r"""Endpoint strings, such as `tcp:5140:interface=127.0.0.1`, taken apart.

The syntax is Twisted's: parts divided by colons, positional ones first, then `key=value`; a backslash takes the
next character as it is. One thing is added: an IPv6 address after `interface=` may be written plainly
(`udp:514:interface=::1:...`), since no positional part can follow a key.

Twisted's schemes are `tcp:`, `tcp6:`, `unix:` and `systemd:`, and those of installed endpoint plugins. Ours are `tls:`
(the certificate is an option of the listener), `udp:`, `unix-datagram:` and `systemd-datagram:`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.plugin import getPlugins

from eventserver.errors import EventServerError

Kind = Literal["stream", "datagram"]


class CannotListen(EventServerError, OSError):
    """An endpoint could not be opened; the message names it, and says why."""


class _Scheme(NamedTuple):
    kind: Kind
    positional: str | None
    keys: tuple[str, ...]
    example: str


_SCHEMES = {
    "tcp": _Scheme("stream", "port", ("interface", "backlog"), "tcp:5140:interface=127.0.0.1"),
    "tcp6": _Scheme("stream", "port", ("interface", "backlog"), "tcp6:5140"),
    "tls": _Scheme("stream", "port", ("interface", "backlog"), "tls:6514"),
    "unix": _Scheme("stream", "address", ("mode", "backlog", "lockfile"), "unix:/run/es.sock:mode=660"),
    "systemd": _Scheme("stream", "domain", ("index", "name"), "systemd:domain=INET:index=0"),
    "udp": _Scheme("datagram", "port", ("interface",), "udp:5140:interface=127.0.0.1"),
    "unix-datagram": _Scheme("datagram", "address", ("mode",), "unix-datagram:/run/es.sock:mode=660"),
    "systemd-datagram": _Scheme("datagram", None, ("domain", "index", "name"), "systemd-datagram:name=syslog"),
}

#: The schemes of each kind of listener. Stream listeners know those of Twisted's plugins besides.
STREAM_SCHEMES = tuple(name for name, scheme in _SCHEMES.items() if scheme.kind == "stream")
DATAGRAM_SCHEMES = tuple(name for name, scheme in _SCHEMES.items() if scheme.kind == "datagram")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint: `args` are its parts by name, checked; `port` and `path` the one of them that the scheme has."""

    text: str
    kind: Kind
    scheme: str
    args: Mapping[str, str] = field(default_factory=dict)

    @property
    def port(self) -> int:
        """The port, 0 for any free one. Only where the scheme has a port."""
        return int(self.args["port"])

    @property
    def path(self) -> str:
        """The path of the socket file. Only where the scheme has one."""
        return self.args["address"]

    @property
    def interface(self) -> str:
        """The address to bind to; empty for the scheme's default."""
        return self.args.get("interface", "")

    @property
    def mode(self) -> int:
        """The permissions of the socket file."""
        return int(self.args.get("mode", "666"), 8)


def parse_endpoint(text: str) -> Endpoint:
    """The endpoint that a text names. Raises `ValueError` with a sentence that says what would be right."""
    name, *parts = _split(text)
    scheme = _SCHEMES.get(name[0])
    if scheme is None or len(name) > 1:
        if _has_plugin(name[0]) and name[0] != "haproxy":
            return Endpoint(text, "stream", name[0])
        raise ValueError(_unknown(text, name[0]))
    args: dict[str, str] = {}
    for key, value in _named(text, scheme, parts):
        if key in args:
            raise ValueError(f"`{text}` names its {key} twice")
        args[key] = value
    _check(text, name[0], scheme, args)
    return Endpoint(text, scheme.kind, name[0], args)


def check_endpoint(text: str, kind: Kind) -> None:
    """Raises `ValueError` with a sentence if the text is no endpoint of that kind."""
    if parse_endpoint(text).kind != kind:
        other = "datagrams; use a datagram listener" if kind == "stream" else "streams; use a stream listener"
        raise ValueError(f"`{text}` is for {other}")


def _split(text: str) -> list[list[str]]:
    """The parts between colons, each cut at its first `=` (as Twisted does), backslashes undone."""
    parts = [[""]]
    characters = iter(text)
    for character in characters:
        if character == ":":
            parts.append([""])
        elif character == "=" and len(parts[-1]) == 1:
            parts[-1].append("")
        else:
            parts[-1][-1] += next(characters, "") if character == "\\" else character
    return parts


def _named(text: str, scheme: _Scheme, parts: list[list[str]]) -> Iterator[tuple[str, str]]:
    """The parts with their names; those of a plainly written IPv6 address are put together again."""
    keys = (*scheme.keys, *([scheme.positional] if scheme.positional else []))
    while parts:
        part = parts.pop(0)
        key = part[0] if len(part) == 2 else scheme.positional
        if key == "interface" and len(part) == 2:
            while parts and len(parts[0]) == 1:
                part[1] += ":" + parts.pop(0)[0]
        elif key is None:
            raise ValueError(f"`{text}` has a part too many; right would be `{scheme.example}`")
        if key not in keys:
            raise ValueError(f"`{text}`: unknown part `{key}`; there are " + ", ".join(f"`{k}`" for k in keys))
        yield key, part[-1].removeprefix("[").removesuffix("]") if key == "interface" else part[-1]


def _check(text: str, name: str, scheme: _Scheme, args: dict[str, str]) -> None:
    right = f"right would be `{scheme.example}`"
    if scheme.positional == "port" and not (
        re.fullmatch("[0-9]{1,5}", args.get("port", "")) and int(args["port"]) < 65536
    ):
        raise ValueError(f"`{text}` needs a port from 0 to 65535; {right}")
    if scheme.positional == "address" and not args.get("address"):
        raise ValueError(f"`{text}` needs a path; {right}")
    if "mode" in args and not re.fullmatch("[0-7]{3,4}", args["mode"]):
        raise ValueError(f"`{text}`: mode is an octal number, such as 660")
    for key in ("backlog", "index", "lockfile"):
        if key in args and not re.fullmatch("[0-9]{1,9}", args[key]):
            raise ValueError(f"`{text}`: {key} is a whole number")
    if name.startswith("systemd"):
        if ("index" in args) == ("name" in args):
            raise ValueError(f"`{text}` needs either `index=` or `name=`; {right}")
        if args.get("domain", "INET") not in ("INET", "INET6", "UNIX"):
            raise ValueError(f"`{text}`: domain is INET, INET6 or UNIX")


def _has_plugin(scheme: str) -> bool:
    """Whether an installed plugin of Twisted's brings this kind of stream endpoint."""
    return any(plugin.prefix == scheme for plugin in getPlugins(IStreamServerEndpointStringParser))


def _unknown(text: str, scheme: str) -> str:
    if scheme == "ssl":
        return "`ssl:` is written `tls:PORT`; the certificate goes into `tls = {cert = ..., key = ...}`"
    if scheme == "haproxy":
        # Twisted's would believe every peer what it says of itself.
        return '`haproxy:tcp:PORT` is written `tcp:PORT`, with `proxy_protocol = {trusted = ["10.0.0.0/8"]}`'
    if scheme.isdecimal():
        return f"`{text}` has no scheme; right would be `tcp:{scheme}` or `udp:{scheme}`"
    near = difflib.get_close_matches(scheme, _SCHEMES, n=1)
    hint = f"did you mean `{near[0]}:`?" if near else "there are " + ", ".join(f"`{name}:`" for name in _SCHEMES)
    return f"`{text}` begins with no scheme that is known; {hint}"

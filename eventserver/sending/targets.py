"""Where to send to, and in which protocol: reading `--to`."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from eventserver.handlers._destinations import Destination, parse_destination

Transport = Literal["tcp", "tls", "udp", "unix", "unix-datagram"]
DATAGRAMS = ("udp", "unix-datagram")
PATHS = ("unix", "unix-datagram")
#: unix(7): `sun_path` has 108 bytes, with the NUL at its end.
_MAX_PATH = 107


class _Way(NamedTuple):
    """A protocol over a transport; `http` where requests carry it."""

    protocol: str
    transport: Transport
    http: bool = False


#: What `--to` may begin with. The first of each protocol is the usual one.
SCHEMES = {
    "tcp": _Way("plain", "tcp"),
    "tls": _Way("plain", "tls"),
    "udp": _Way("plain", "udp"),
    "unix": _Way("plain", "unix"),
    "unix-datagram": _Way("plain", "unix-datagram"),
    "relp": _Way("relp", "tcp"),
    "relp+tls": _Way("relp", "tls"),
    "http": _Way("http", "tcp", True),
    "https": _Way("http", "tls", True),
    "fluent": _Way("fluent", "tcp"),
    "fluent+tls": _Way("fluent", "tls"),
    "fluent+unix": _Way("fluent", "unix"),
    "lumberjack": _Way("lumberjack", "tcp"),
    "lumberjack+tls": _Way("lumberjack", "tls"),
    "lumberjack1": _Way("lumberjack1", "tcp"),
    "lumberjack1+tls": _Way("lumberjack1", "tls"),
    "gelf": _Way("gelf", "udp"),
    "gelf+tcp": _Way("gelf", "tcp"),
    "gelf+tls": _Way("gelf", "tls"),
    "gelf+http": _Way("gelf", "tcp", True),
    "gelf+https": _Way("gelf", "tls", True),
    "statsd": _Way("statsd", "udp"),
    "statsd+tcp": _Way("statsd", "tcp"),
    "statsd+unix-datagram": _Way("statsd", "unix-datagram"),
    "statsd+unix": _Way("statsd", "unix"),
    "graphite": _Way("graphite", "tcp"),
    "graphite+tls": _Way("graphite", "tls"),
    "graphite+udp": _Way("graphite", "udp"),
    "graphite+pickle": _Way("graphite-pickle", "tcp"),
}
_HTTP_PORTS = {"tcp": 80, "tls": 443}
#: Where requests go if the target names no path.
_PATHS = {"http": "/", "gelf": "/gelf"}


@dataclass(frozen=True, slots=True)
class Target:
    """A place and how to speak to it. `path` is that of requests, with its query; empty without HTTP."""

    text: str
    protocol: str
    destination: Destination
    path: str = ""

    @property
    def datagrams(self) -> bool:
        """Whether there is no connection."""
        return self.destination.kind in DATAGRAMS

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken."""
        return self.destination.kind == "tls"

    @property
    def http(self) -> bool:
        """Whether events travel in requests."""
        return bool(self.path)


def parse_target(text: str) -> Target:
    """`SCHEME:HOST:PORT`, `SCHEME:/PATH` for unix sockets, or a URL for HTTP. Raises `ValueError` with a sentence."""
    scheme, colon, rest = text.partition(":")
    way = SCHEMES.get(scheme)
    if way is None or not colon:
        near = difflib.get_close_matches(scheme, SCHEMES, n=1)
        hint = f"did you mean `{near[0]}:`?" if near else "it begins with one of " + ", ".join(SCHEMES)
        raise ValueError(f"`{text}` is no target; {hint}")
    if way.http:
        return _url(text, way, rest)
    try:
        destination = parse_destination(f"{way.transport}:{rest}")
    except ValueError:
        raise ValueError(f"`{text}` is no target; right would be {_right(scheme, way)}") from None
    if destination.kind in PATHS and len(os.fsencode(destination.host)) > _MAX_PATH:
        raise ValueError(f"`{text}` is no target; the path of a socket has at most {_MAX_PATH} bytes")
    return Target(text, way.protocol, destination)


def _right(scheme: str, way: _Way) -> str:
    return f"`{scheme}:/run/es.sock`" if way.transport.startswith("unix") else f"`{scheme}:localhost:5140`"


def _url(text: str, way: _Way, rest: str) -> Target:
    try:
        url = urlsplit(f"http:{rest}")
        host, port = url.hostname, url.port or _HTTP_PORTS[way.transport]
    except ValueError:
        host = None
    if (
        not host
        or not rest.startswith("//")
        or url.username is not None
        or not text.isascii()
        or not text.isprintable()
    ):
        scheme = text.partition(":")[0]
        raise ValueError(f"`{text}` is no URL; right would be `{scheme}://localhost:8080{_PATHS[way.protocol]}`")
    path = (url.path or _PATHS[way.protocol]) + (f"?{url.query}" if url.query else "")
    return Target(text, way.protocol, Destination(way.transport, host, port), path.replace(" ", "%20"))

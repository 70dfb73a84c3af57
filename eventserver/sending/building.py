"""From options to a run: which session, which datagrams, which endpoint."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Literal

from eventserver.decompression import zstandard
from eventserver.framing.counted import LengthFramer, NetstringFramer, OctetFramer
from eventserver.framing.lines import LinesFramer, NulFramer
from eventserver.handlers._destinations import make_endpoint
from eventserver.handlers._tls_client import TlsOptions
from eventserver.sending.datagrams import CHUNK, GelfDatagrams, alone
from eventserver.sending.fluent import Fluent, Login, Mode
from eventserver.sending.formats import Format
from eventserver.sending.http import Http
from eventserver.sending.lumberjack import Lumberjack
from eventserver.sending.packets import PacketLink
from eventserver.sending.parcels import Session
from eventserver.sending.plain import Pickles, Plain, length_prefixed
from eventserver.sending.relp import Relp
from eventserver.sending.running import Link, Run
from eventserver.sending.streams import StreamLink
from eventserver.sending.targets import Target

Compress = Literal["gzip", "zlib", "zstd"]

#: How payloads are told apart on a stream.
FRAMINGS: dict[str, Callable[[], Callable[[bytes], bytes]]] = {
    "lines": lambda: LinesFramer(LinesFramer.Options()).wrap,
    "octet": lambda: OctetFramer(OctetFramer.Options()).wrap,
    "nul": lambda: NulFramer(NulFramer.Options()).wrap,
    "netstring": lambda: NetstringFramer(NetstringFramer.Options()).wrap,
    "length": lambda: LengthFramer(LengthFramer.Options()).wrap,
}
#: Events in a request, chunk or window, unless somebody says otherwise.
_BATCHES = {"http": 100, "fluent": 1000, "lumberjack": 1000, "lumberjack1": 1000, "graphite-pickle": 500}
_USUAL_BATCH = 1000
#: What each protocol can pack with.
_COMPRESSIONS: dict[str, tuple[str, ...]] = {
    "http": ("gzip",),
    "fluent": ("gzip", "zstd"),
    "lumberjack": ("zlib",),
    "lumberjack1": ("zlib",),
    "gelf": ("gzip", "zlib"),
}


@dataclass(frozen=True, kw_only=True)
class Ways:
    """How the protocols are spoken, where there is a choice. None: as is usual for the protocol."""

    framing: str | None = None
    batch: int | None = None
    window: int = 1000
    compress: Compress | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    token: str | None = None
    tag: str = "eventserver.send"
    mode: Mode = "packed"
    shared_key: str | None = None
    user: str = ""
    password: str = ""
    chunk: int = CHUNK
    join: int = 0
    tls: TlsOptions = field(default_factory=TlsOptions)
    connect_timeout: float = 10.0

    def problems(self, target: Target) -> Iterator[str]:
        """What of this the target cannot do."""
        protocol = target.protocol
        framed = protocol in ("plain", "gelf") and not (target.datagrams or target.http)
        if self.framing is not None and not framed:
            yield "--framing is for plain streams: tcp, tls, unix, gelf+tcp and gelf+tls"
        if self.framing not in (None, *FRAMINGS):
            yield f"there is no framing `{self.framing}`; there are " + ", ".join(FRAMINGS)
        if self.compress is not None and self.compress not in _compressions(target):
            names = " or ".join(_compressions(target)) or "nothing"
            yield f"{target.text} can be packed with {names}"
        if self.compress is not None and protocol == "fluent" and self.mode != "packed":
            yield "only the mode `packed` can be compressed"
        if (self.headers or self.token is not None) and not target.http:
            yield "--header and --token are for HTTP"
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token):
            yield "--token: a token is printable ASCII, in one line"
        if (self.shared_key is not None or self.user) and protocol != "fluent":
            yield "--shared-key and --user are for fluent"
        if self.user and self.shared_key is None:
            yield "--user needs --shared-key"
        if self.join and not (target.datagrams and protocol in ("statsd", "graphite", "plain")):
            yield "--join is for datagrams of statsd, graphite and lines"
        if self.tls != TlsOptions() and not target.secure:
            yield "--ca, --cert, --key, --server-name and --insecure are for targets with TLS"
        yield from (sentence for _, sentence in self.tls.problems())


def _compressions(target: Target) -> tuple[str, ...]:
    if target.protocol == "gelf" and not (target.datagrams or target.http):
        return ()
    if target.http:
        return ("gzip",)
    return _COMPRESSIONS.get(target.protocol, ())


def batch_of(target: Target, format: Format, ways: Ways) -> int:
    """Events that are sent together at most."""
    if target.http and (target.protocol == "gelf" or format.name == "msgpack"):
        return 1
    batch = ways.batch or _BATCHES.get(target.protocol, _USUAL_BATCH)
    return min(batch, ways.window) if target.protocol == "relp" else batch


def make_links(
    count: int, target: Target, format: Format, ways: Ways, run: Run, reactor: Any,
    random_bytes: Callable[[int], bytes], hostname: str,
) -> list[Link]:  # fmt: skip
    """`count` connections, or sockets. Raises `ValueError`, with a sentence, for what cannot be used."""
    if target.datagrams:
        gelf = GelfDatagrams(ways.compress, random_bytes, ways.chunk)
        pack = gelf if target.protocol == "gelf" else alone
        return [PacketLink(target.destination, pack, run.load, run, reactor, join=ways.join) for _ in range(count)]
    endpoint = make_endpoint(target.destination, ways.tls, ways.connect_timeout, reactor)
    make = functools.partial(make_session, target, format, ways, random_bytes, hostname)
    make()  # what is wrong shows here
    return [
        StreamLink(endpoint, target.secure, make, run.load, run, reactor, ways.connect_timeout) for _ in range(count)
    ]


def make_session(
    target: Target, format: Format, ways: Ways, random_bytes: Callable[[int], bytes], hostname: str
) -> Session:
    """What one connection says. Raises `ValueError`."""
    protocol = target.protocol
    if target.http:
        media = "application/json" if protocol == "gelf" else format.media
        return Http(_host(target), target.path, media, _headers(ways), ways.compress)
    if protocol == "relp":
        return Relp(ways.window, f"eventserver,{version('eventserver')},none")
    if protocol == "fluent":
        login = None
        if ways.shared_key is not None:
            login = Login(ways.shared_key, ways.user, ways.password, hostname, random_bytes(16))
        return Fluent(ways.tag, ways.mode, ways.compress, _pack(ways.compress), login)
    if protocol.startswith("lumberjack"):
        return Lumberjack(1 if protocol == "lumberjack1" else 2, ways.compress)
    if protocol == "graphite-pickle":
        return Pickles()
    if protocol == "statsd" and target.destination.kind == "unix":
        return Plain(length_prefixed)
    return Plain(FRAMINGS[ways.framing or _framing(target, format)]())


def _framing(target: Target, format: Format) -> str:
    """What receivers of a format expect."""
    if target.protocol == "gelf":
        return "nul"
    if format.name == "msgpack":
        return "length"
    # RFC 5425, section 4.3, has nothing else for syslog over TLS.
    return "octet" if format.name == "syslog" and target.secure else "lines"


def _host(target: Target) -> str:
    host, port = target.destination.host, target.destination.port
    host = f"[{host}]" if ":" in host else host
    return host if port == (443 if target.secure else 80) else f"{host}:{port}"


def _headers(ways: Ways) -> dict[str, str]:
    token = {} if ways.token is None else {"Authorization": f"Bearer {ways.token}"}
    return token | dict(ways.headers)


def _pack(compress: str | None) -> Callable[[bytes], bytes] | None:
    if compress != "zstd":
        return None
    module = zstandard()
    if module is None:
        raise ValueError("zstd needs the package zstandard: pip install 'eventserver[zstd]'")
    compressor = module.ZstdCompressor()

    def pack(data: bytes) -> bytes:
        packed: bytes = compressor.compress(data)
        return packed

    return pack

"""The settings of a listener that finds out what its peers speak."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec

from eventserver.listeners._detect import PROTOCOLS
from eventserver.listeners._fluent_options import FluentOptions
from eventserver.listeners._http_options import HttpOptions
from eventserver.listeners._lumberjack_options import LumberjackOptions
from eventserver.listeners._relp_options import RelpOptions
from eventserver.listeners._stream_options import StreamOptions
from eventserver.options import Doc, Duration, Secret, Size, field_types

#: The least `max_frame` of HTTP and Forward, their own default: HTTP would refuse a larger event for ever.
_REQUEST = Size(1 << 20)
#: What concerns the ports, which are this listener's.
_OURS = ("endpoints", "optional_endpoints", "proxy_protocol")
_DEFAULTS = {field.name: field.default for field in msgspec.structs.fields(StreamOptions)}


class AutoOptions(StreamOptions, frozen=True, kw_only=True):
    """The settings of a listener that finds out what its peers speak.

    Whatever else a protocol has settings for is as it is by default; who needs another value gives the protocol a
    listener of its own.
    """

    protocols: Annotated[
        tuple[Literal["relp", "fluent", "lumberjack", "http", "gelf", "syslog", "json", "lines"], ...],
        Doc(
            "What peers may speak. Syslog, GELF and JSON are cut as lines where only those are allowed; the "
            "connection of a peer that speaks anything else is cut.",
            ["relp", "syslog"],
        ),
    ] = PROTOCOLS  # type: ignore[assignment]  # the same words
    detect_timeout: Annotated[
        Duration,
        Doc(
            "How long a peer that has begun to speak may leave it open what it speaks; then it is what it looks like.",
            "2 s",
            ge=1,
        ),
    ] = Duration(5)
    max_frame: Annotated[
        Size,
        Doc(
            "The largest event that is kept whole; over HTTP and Forward it is 1 MiB, unless this is more.",
            "64 KiB",
            ge=1,
            le=16 << 20,
        ),
    ] = Size(64 << 10)
    oversize: Annotated[
        Literal["truncate", "drop", "close"],
        Doc(
            "What becomes of a line over `max_frame`: its head is kept and marked, it is refused, or the connection is "
            "closed.",
            "drop",
        ),
    ] = "truncate"
    token: Annotated[
        Secret | None,
        Doc("What senders over HTTP have to name as `Authorization: Bearer TOKEN`.", "file:/etc/eventserver/token"),
    ] = None
    shared_key: Annotated[
        Secret | None,
        Doc(
            "With it, senders of the Forward protocol have to show in a handshake that they know the same key. As the "
            "server speaks first then, a peer that says nothing for `detect_timeout` is taken for one of them.",
            "file:/etc/eventserver/key",
        ),
    ] = None

    def problems(self) -> Iterable[tuple[str, str]]:
        """Those of every stream listener, of the protocols' own settings, and secrets that nobody is asked for."""
        yield from super().problems()
        if not self.protocols:
            yield "protocols", "is empty: then nobody could say anything"
        own = set(field_types(StreamOptions))
        for name, key, options in (("http", "token", self.http()), ("fluent", "shared_key", self.fluent())):
            if getattr(self, key) is not None and name not in self.protocols:
                yield key, f"is for `{name}`, which is not among `protocols`"
            yield from (problem for problem in options.problems() if problem[0] not in own)

    def http(self) -> HttpOptions:
        """The settings of HTTP."""
        return HttpOptions(token=self.token, max_frame=max(self.max_frame, _REQUEST), **self.common())

    def fluent(self) -> FluentOptions:
        """The settings of the Forward protocol."""
        return FluentOptions(shared_key=self.shared_key, max_frame=max(self.max_frame, _REQUEST), **self.common())

    def relp(self) -> RelpOptions:
        """The settings of RELP."""
        return RelpOptions(max_frame=self.max_frame, **self.common())

    def lumberjack(self) -> LumberjackOptions:
        """The settings of Lumberjack."""
        return LumberjackOptions(max_frame=self.max_frame, **self.common())

    def common(self) -> dict[str, Any]:
        """What was set here and every protocol has; what was not set is the protocol's own default."""
        values = {name: getattr(self, name) for name, default in _DEFAULTS.items() if getattr(self, name) != default}
        return {key: value for key, value in values.items() if key not in _OURS} | {"tls": self.tls}

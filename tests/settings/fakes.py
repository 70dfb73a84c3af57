"""Components that are only their options, and a registry of them."""

# ruff: noqa: RUF012  # msgspec copies the defaults of its structs

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

from eventserver import options
from eventserver.options import Doc, Duration, Secret, Size
from eventserver.registry import Registry
from eventserver.steps import Drop, Set


class Made:
    """The base of the fakes: keeps what it was made with."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments


class Stream(Made):
    """Streams."""

    class Options(options.Options, frozen=True, kw_only=True):
        endpoints: list[str] = []
        optional_endpoints: list[str] = []
        max_connections: Annotated[int, Doc("Connections.", 100, ge=1)] = 100
        idle_timeout: Duration = Duration(0)


class Datagram(Made):
    """Datagrams."""

    class Options(options.Options, frozen=True, kw_only=True):
        endpoints: list[str] = []
        receive_buffer: Size = Size(4 << 20)
        max_frame: Size = Size(65536)


class Acking(Made):
    """Acknowledges."""

    ack_levels: ClassVar[tuple[str, ...]] = ("memory", "delivered", "durable")

    class Options(options.Options, frozen=True, kw_only=True):
        endpoints: list[str] = []


class Lines(Made):
    """Lines."""

    class Options(options.Options, frozen=True, kw_only=True):
        max_frame: Size = Size(65536)
        delimiter: str = "\n"


class Octet(Made):
    """Counted."""

    class Options(options.Options, frozen=True, kw_only=True):
        max_frame: Size = Size(65536)


class Text(Made):
    """Text."""

    class Options(options.Options, frozen=True, kw_only=True):
        encoding: str = "utf-8"


class Syslog(Made):
    """Syslog."""

    class Options(options.Options, frozen=True, kw_only=True):
        time_zone: str = "UTC"


class Json(Made):
    """JSON."""

    class Options(options.Options, frozen=True, kw_only=True):
        pretty: bool = False


class Template(Made):
    """A template."""

    class Options(options.Options, frozen=True, kw_only=True):
        template: str


class Console(Made):
    """Prints."""

    parts: ClassVar[dict[str, str]] = {"encoder": "eventserver.encoders"}

    class Options(options.Options, frozen=True, kw_only=True):
        encoder: str = "json"


class File(Made):
    """Writes."""

    class Options(options.Options, frozen=True, kw_only=True):
        path: str
        rotate: bool = False


class Sender(Made):
    """Sends."""

    class Login(options.Options, frozen=True, kw_only=True):
        user: str
        password: Secret | None = None

    class Options(options.Options, frozen=True, kw_only=True):
        servers: list[str] = []
        tokens: list[Secret] = []
        token: Secret | None = None
        headers: dict[str, Secret] = {}
        tls: bool = False
        weight: float = 1.0
        login: Sender.Login | None = None
        either: str | list[str] = ""
        low: int = 0
        high: int = 10

        def problems(self) -> Iterable[tuple[str, str]]:
            if self.low > self.high:
                yield "low", "is above `high`"


class Python(Made):
    """Calls."""

    class Options(options.Options, frozen=True, kw_only=True):
        call: str
        replies: bool | None = None


def fake_registry() -> Registry:
    """A registry of the fakes, under the names of the real ones."""
    registry = Registry()
    for kind, components in {
        "listeners": {"stream": Stream, "datagram": Datagram, "acking": Acking},
        "framers": {"lines": Lines, "auto": Lines, "octet": Octet},
        "decoders": {"text": Text, "syslog": Syslog},
        "encoders": {"json": Json, "template": Template},
        "steps": {"drop": Drop, "set": Set},
        "handlers": {"console": Console, "file": File, "sender": Sender, "python": Python},
    }.items():
        for name, component in components.items():
            registry.add(kind, name, component)
    return registry

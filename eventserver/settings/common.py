"""The keys that every listener and every handler table knows, and the tables beside them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from eventserver import options
from eventserver.admin.access import problems_of_admin
from eventserver.delivery.options import RetryOptions
from eventserver.listeners._endpoints import parse_endpoint
from eventserver.options import Doc, Duration, Secret, Size

__all__ = [
    "AdminOptions",
    "HandlerOptions",
    "JournalOptions",
    "ListenerOptions",
    "PileOptions",
    "RetryOptions",
    "ServerOptions",
]


class ServerOptions(options.Options, frozen=True, kw_only=True):
    """What concerns the whole server; these keys stand at the top of the file, before the first table."""

    memory: Annotated[
        Size,
        Doc("The bound of the frames that are kept in memory while handlers work on them.", "64 MiB", ge=65536),
    ] = Size(64 << 20)
    dead_letters: Annotated[
        Size, Doc("The bound of the failed events that are kept in memory; the oldest dead ones go first.", "16 MiB")
    ] = Size(16 << 20)
    decoded_cache: Annotated[
        Size,
        Doc(
            "How many bytes of frames are kept decoded for handlers that come later; the events take about nine times"
            " as much.",
            "1 MiB",
        ),
    ] = Size(1 << 20)
    drain_timeout: Annotated[
        Duration,
        Doc(
            "How long a stopping server goes on delivering what it holds in memory; then it logs the number lost. With"
            " a journal: how long it waits for calls that run, and for the disk; handlers go on when it runs again.",
            "10 s",
        ),
    ] = Duration(10)


class ListenerOptions(options.Options, frozen=True, kw_only=True):
    """The keys of every `[listener.NAME]`, whatever its type, framing and decoder."""

    type: Annotated[
        str | None,
        Doc('What speaks with the peers. By default "stream" or "datagram", by each endpoint.', "stream"),
    ] = None
    endpoints: Annotated[
        list[str],
        Doc("Where to listen, in Twisted's endpoint syntax.", ["udp:5140", "tcp:5140", "unix:/run/es.sock"]),
    ] = []  # noqa: RUF012  # msgspec copies it
    framing: Annotated[
        str | None,
        Doc(
            'How a stream is cut into frames. By default "auto" with the decoders "syslog" and "auto", "gelf" with '
            '"gelf", "msgpack" with "msgpack", "length" with the pickles of "graphite", else "lines".',
            "octet",
        ),
    ] = None
    datagram_framing: Annotated[
        str | None,
        Doc("How each datagram is cut into frames. By default a datagram is one frame.", "lines"),
    ] = None
    decoder: Annotated[
        str,
        Doc(
            "What frames are turned into events with: a decoder's name, or `module:function`. By default what the "
            'type of listener names, "text" if it names none.',
            "syslog",
        ),
    ] = "text"
    multiline: Annotated[
        dict[str, Any] | None,
        Doc("Joins lines that belong together into one frame; a table of the options below.", {"start": r"^\S"}),
    ] = None
    labels: Annotated[
        dict[str, str],
        Doc("Words of yours that go into the `context` of every event, under `labels`.", {"site": "hq"}),
    ] = {}  # noqa: RUF012  # msgspec copies it
    ack: Annotated[
        Literal["memory", "durable", "delivered"] | None,
        Doc(
            "When an event is acknowledged to its sender, where the protocol can do that: once it is in memory, "
            'on disk, or with all handlers. By default "durable" with a journal, "delivered" without.',
            "delivered",
        ),
    ] = None
    ack_timeout: Annotated[
        Duration, Doc("How long an acknowledgement may take before the sender is told that it failed.", "30 s")
    ] = Duration(30)


class PileOptions(options.Options, frozen=True, kw_only=True):
    """How much a handler is given with one call."""

    max_events: Annotated[int, Doc("The most events of one call.", 1000, ge=1)] = 1000
    max_bytes: Annotated[Size, Doc("The most bytes of one call, soft by one frame.", "1 MiB", ge=1)] = Size(1 << 20)


class HandlerOptions(options.Options, frozen=True, kw_only=True):
    """The keys of every `[handler.NAME]`, whatever its type."""

    type: Annotated[
        str | None, Doc('What is done with the events. A handler with `call` is of type "python".', "file")
    ] = None
    listeners: Annotated[
        list[str] | None, Doc("The names of the listeners whose events it gets. By default all.", ["syslog"])
    ] = None
    match: Annotated[
        str | None, Doc("The events that it gets: an expression. By default all.", "severity_code <= 3")
    ] = None
    steps: Annotated[
        list[dict[str, Any]],
        Doc("What is done with the events before the handler gets them, in order.", [{"drop": 'message == ""'}]),
    ] = []  # noqa: RUF012  # msgspec copies it
    retry: Annotated[RetryOptions, Doc("How events that it failed on are tried again.", {"max_attempts": 3})] = (
        RetryOptions()
    )
    read_from: Annotated[
        str,
        Doc(
            'Where a new handler begins: "beginning", "end" or a time (RFC 3339). Without a journal on disk there is'
            " nothing before the start, so all are the same. A handler that the journal knows goes on where it was.",
            "beginning",
        ),
    ] = "end"
    when_full: Annotated[
        Literal["block", "drop_oldest"],
        Doc(
            "What happens when it is `max_lag` behind: the listeners wait, or it loses its oldest frames.",
            "drop_oldest",
        ),
    ] = "block"
    max_lag: Annotated[
        Size | None,
        Doc(
            "How far it may fall behind before `when_full` applies. By default half of `memory`, or of the journal's"
            " `max_bytes`.",
            "16 MiB",
        ),
    ] = None
    batch: Annotated[PileOptions, Doc("How much it is given with one call.", {"max_events": 100})] = PileOptions()
    timeout: Annotated[Duration, Doc("How long one call may take.", "30 s", ge=0.001)] = Duration(30)
    concurrency: Annotated[
        int | None,
        Doc(
            "Calls that may run at once, each for senders of its own. By default 1, and 64 for a Python "
            "`async def` function that takes one event.",
            16,
            ge=1,
        ),
    ] = None
    ordered: Annotated[
        bool, Doc("Whether an event that failed holds up those behind it, instead of waiting apart.", True)
    ] = False
    raw: Annotated[bool, Doc("Whether events carry the bytes that they were read from.", True)] = False
    required_for_ack: Annotated[
        bool, Doc("Whether listeners that acknowledge what is delivered wait for this handler.", False)
    ] = True

    def problems(self) -> Iterable[tuple[str, str]]:
        """`read_from` is one of two words or a time."""
        if self.read_from not in ("beginning", "end") and read_time(self.read_from) is None:
            yield (
                "read_from",
                f'{self.read_from!r} is neither "beginning", "end" nor a time such as 2026-05-01T12:00:00Z',
            )


def read_time(value: str | dt.datetime) -> dt.datetime | None:
    """A time with its zone, in UTC, from RFC 3339; None if it is none."""
    if isinstance(value, str):
        try:
            value = dt.datetime.fromisoformat(value)
        except ValueError:
            return None
    return value.astimezone(dt.UTC) if value.tzinfo is not None else None


class JournalOptions(options.Options, frozen=True, kw_only=True):
    """The `[journal]` table: frames are kept on disk. Without the table they are kept in memory.

    What was acknowledged survives the process, the system and the power then, and handlers resume where they were.
    """

    path: Annotated[
        str,
        Doc("The folder; made if it is not there. One server at a time uses it.", "/var/lib/eventserver", min_length=1),
    ]
    max_bytes: Annotated[
        Size,
        Doc(
            "The bound of what is kept. What all handlers have passed goes first; then senders have to wait, or"
            " handlers lose what is oldest (`when_full`).",
            "2 GiB",
            ge=1 << 20,
        ),
    ] = Size(2 << 30)
    retention: Annotated[
        Duration,
        Doc(
            "How long frames are kept for `eventserver replay` after all handlers have passed them, as far as there is"
            " room; and how long those of a handler that is not in the settings any more.",
            "24 h",
        ),
    ] = Duration(24 * 3600)
    dead_letters: Annotated[
        Size,
        Doc(
            "The bound of the events that were given up. Each counts for what it takes on the disk and some 600 bytes"
            " that it takes in memory. Where it is reached, a handler that has to give one up waits until there is"
            " room: see `eventserver deadletters`.",
            "256 MiB",
            ge=1 << 16,
        ),
    ] = Size(256 << 20)
    key_window: Annotated[
        Duration,
        Doc("How long what senders name their events with is remembered, to recognise what they repeat.", "24 h"),
    ] = Duration(24 * 3600)
    max_keys: Annotated[int, Doc("How many such names are remembered at most; the oldest go first.", ge=1)] = 100_000


class AdminOptions(options.Options, frozen=True, kw_only=True):
    """The `[admin]` table: health, metrics and the control API over HTTP. Without the table there is no such server."""

    endpoint: Annotated[
        str,
        Doc(
            "Where `/live`, `/ready`, `/metrics` and, with a journal, the control API (`/v1`) are served.",
            "tcp:9514:interface=127.0.0.1",
            "unix:/run/eventserver/admin.sock",
        ),
    ]
    token: Annotated[
        Secret | None,
        Doc(
            "What a client has to send as `Authorization: Bearer TOKEN`, for all but `/live`. Required where other "
            "machines reach the endpoint; it has at least 128 bits, as `openssl rand -hex 16` prints.",
            "file:/etc/eventserver/admin.token",
        ),
    ] = None

    def problems(self) -> Iterable[tuple[str, str]]:
        """An endpoint that is none, and one beyond this machine without a token."""
        yield from problems_of_admin(self.endpoint, self.token)
        if self.endpoint.startswith(("tcp", "unix:", "systemd:")):
            try:
                parse_endpoint(self.endpoint)
            except ValueError as error:
                yield "endpoint", str(error)

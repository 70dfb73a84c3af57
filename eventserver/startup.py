"""The first words of a server: where it listens, what it does with events, and what to try."""

from __future__ import annotations

from collections.abc import Mapping

from eventserver.journaling import Found
from eventserver.settings import Settings

#: By decoder, a line that it reads. Those with patterns, columns or separators of their own have none.
_LINES = {
    "text": "hello from nc",
    "auto": "hello from nc",
    "json": '{"message":"hello from nc"}',
    "logfmt": 'msg="hello from nc"',
    "statsd": "hello.from.nc:1|c",
    "graphite": "hello.from.nc 1 -1",
    "influx": "hello,from=nc value=1",
}


def start_up_lines(settings: Settings, addresses: Mapping[str, list[str]], found: Found | None = None) -> list[str]:
    """The lines for the log once the server is ready, the last ones two commands to try.

    `found` is what a journal on disk had at the start.
    """
    lines = [f"admin: {place}" for place in addresses.get("admin", [])]
    for handler in settings.handlers.values():
        origin = ", ".join(handler.listeners) if handler.listeners is not None else "all listeners"
        lines.append(f"handler {handler.name} ({handler.handler.name}) gets events from {origin}")
    lines += _journal_lines(settings, found)
    return lines + [f"try: {command}" for command in commands_to_try(settings, addresses)]


def _journal_lines(settings: Settings, found: Found | None) -> list[str]:
    journal = settings.journal
    if journal is None or found is None:
        return [f"frames are kept in memory, at most {settings.server.memory}: they are lost if the process dies"]
    had = [f"{found.backlog} frames wait for handlers"] if found.backlog else ["no frames wait for handlers"]
    had += [f"{found.dead} dead letters"] if found.dead else []
    lines = [f"frames are kept in the journal {journal.path}, at most {journal.max_bytes}: {', '.join(had)}"]
    return lines + [
        f"the journal keeps frames and events for handler {cursor.name}, which is not in the settings, for"
        f" {journal.retention}: `eventserver journal cursors` renames or drops it"
        for cursor in found.left
    ]


def commands_to_try(settings: Settings, addresses: Mapping[str, list[str]]) -> list[str]:
    """A command for netcat and one for logger, where a listener takes what they send."""
    commands = []
    for name, listener in settings.listeners.items():
        streams = [part for part in listener.parts if part.name == "stream"]
        if not streams or getattr(streams[0].options, "proxy_protocol", None) is not None:
            continue  # what speaks a protocol of its own does not understand these
        for place in addresses.get(name, []):
            scheme, _, rest = place.partition(":")
            host, _, port = rest.rpartition(":")
            host = host.strip("[]")
            if scheme != "tcp" or not port.isdigit():
                continue
            host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
            if listener.decoder.name == "syslog":
                commands.append(f"logger --server {host} --port {port} --tcp --rfc5424 'hello from logger'")
            elif listener.framer.name in ("lines", "auto") and (line := _line_for(listener.decoder.name)):
                commands.append(f"echo '{line}' | nc -N {host} {port}")
            break
    return commands[:2]


def _line_for(decoder: str) -> str | None:
    """A line for that decoder; a function of the user's may take any."""
    return _LINES["text"] if ":" in decoder else _LINES.get(decoder)

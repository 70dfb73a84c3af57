"""`eventserver check FILE...`: every error of the settings at once."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from eventserver.cli import _printing
from eventserver.errors import SettingsError
from eventserver.settings import CommandLine, Settings, load


def add_to(commands: Any) -> None:
    """Make the subcommand known."""
    parser = commands.add_parser(
        "check",
        help="check settings files: all errors at once",
        description="Reads settings as the server would, opens no port, and names every error: the file, the key, what "
        "is wrong, and what would be right. Exit code 1 if there is any.",
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="a TOML file, or a folder of *.toml files")
    parser.add_argument("--listen", action="append", default=[], metavar="PAIRS", help="as `run --listen`")
    parser.add_argument("--handler", action="append", default=[], metavar="PAIRS", help="as `run --handler`")
    parser.add_argument("--admin", metavar="PAIRS", help="as `run --admin`")
    parser.add_argument("--journal", metavar="DIR", help="as `run --journal`")
    parser.set_defaults(function=check)


def check(arguments: argparse.Namespace) -> int:
    """Check the settings; the problems go to standard error, a summary to standard output."""
    extra = CommandLine(arguments.listen, arguments.handler, arguments.journal, arguments.admin)
    if not arguments.files and extra == CommandLine([], []):
        sys.stderr.write("eventserver check: name a FILE\n")
        return 2
    try:
        settings = load(arguments.files, extra=extra)
    except SettingsError as error:
        sys.stderr.write("".join(f"{problem}\n" for problem in error.problems))
        return 1
    _printing.write(summary(settings))
    return 0


def summary(settings: Settings) -> str:
    """What the settings describe, a line for each listener and handler."""
    lines = []
    for listener in settings.listeners.values():
        endpoints = " ".join(endpoint for part in listener.parts for endpoint in part.endpoints)
        types = [part.name for part in listener.parts if part.name not in ("stream", "datagram")]
        how = f"type {types[0]}" if types else f"framing {listener.framer.name}"
        lines.append(f"listener {listener.name}: {endpoints} ({how}, decoder {listener.decoder.name})")
    for handler in settings.handlers.values():
        sources = "all listeners" if handler.listeners is None else ", ".join(handler.listeners)
        lines.append(f"handler {handler.name}: {handler.handler.name} (from {sources})")
    return "\n".join([*lines, "the settings are right", ""])

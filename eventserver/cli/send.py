"""`eventserver send`: events to a server, in any protocol that it speaks."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from eventserver._syslog_output import SEVERITIES, word
from eventserver.cli import _printing, _send_report
from eventserver.cli._send_options import EPILOG, add_options
from eventserver.handlers._tls_client import TlsOptions
from eventserver.sending.building import Ways, batch_of, make_links
from eventserver.sending.formats import Format, Origin, format_of
from eventserver.sending.load import Load, Pace
from eventserver.sending.reading import Reader
from eventserver.sending.running import Link, Run
from eventserver.sending.sources import MAX_LINE, Lines, Made, Source
from eventserver.sending.statistics import Statistics
from eventserver.sending.targets import Target, parse_target

#: Protocols besides HTTP whose servers say what they have taken.
ACKNOWLEDGING = ("relp", "fluent", "lumberjack", "lumberjack1")
#: Seconds between two looks of the progress line.
_REDRAW = 0.2


def add_to(commands: Any) -> None:
    """Make the subcommand known."""
    parser = commands.add_parser(
        "send",
        help="send events: a message, lines of standard input, or as many as you like",
        usage="%(prog)s --to TARGET [options] [MESSAGE ...]\n"
        "       %(prog)s --to TARGET --count N [--rate N] [options]\n"
        "       ... | %(prog)s --to TARGET [options]",
        description="Sends the message; or, without one, --count events that are made up; or else the lines of "
        "standard input. Says at the end what was sent and acknowledged, what is lost, and how long acknowledgements "
        "took. Exit code 1 if anything is lost.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser)
    parser.set_defaults(function=send)


def send(arguments: argparse.Namespace) -> int:
    """Send; returns when all is settled."""
    # Here, and not above: whoever only looks at this module gets no reactor.
    from twisted.internet import reactor

    try:
        prepared = prepare(arguments, reactor)
    except WrongOptions as error:
        for problem in error.problems:
            _printing.complain("send", problem)
        return 2
    run = prepared.run
    screen = None
    if sys.stderr.isatty() and not (arguments.quiet or arguments.json):
        if isinstance(run.source, Lines) and sys.stdin.isatty():
            # A line that is drawn again and again would be in the way of the one that is typed.
            sys.stderr.write("each line is an event; Ctrl-D ends\n")
        else:
            screen = Screen(run, reactor)
    _react(run, prepared.links, screen, reactor)
    return _ended(arguments, run)


class WrongOptions(Exception):
    """What is wrong with the options, taken together: a sentence each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Prepared(NamedTuple):
    """A run that can be started with its links."""

    run: Run
    links: Sequence[Link]


def prepare(arguments: argparse.Namespace, reactor: Any) -> Prepared:
    """All that the options say, on this reactor; nothing is connected yet. Raises `WrongOptions`."""
    try:
        target = parse_target(arguments.to)
        format = format_of(target.protocol, arguments.format or _format_of_source(arguments, target))
        ways = _ways(arguments)
    except ValueError as error:
        raise WrongOptions([str(error)]) from None
    if problems := list(ways.problems(target)):
        raise WrongOptions(problems)
    return _prepare(arguments, target, format, ways, reactor)


def _format_of_source(arguments: argparse.Namespace, target: Target) -> str | None:
    """Metrics that somebody writes are metrics already; all else becomes the protocol's usual format."""
    given = arguments.message or not _made_up(arguments)
    return "text" if given and target.protocol in ("statsd", "graphite") else None


def _made_up(arguments: argparse.Namespace) -> bool:
    return arguments.count is not None or arguments.duration is not None


def _ways(arguments: argparse.Namespace) -> Ways:
    tls = TlsOptions(
        ca=arguments.ca,
        cert=arguments.cert,
        key=arguments.key,
        server_name=arguments.server_name,
        verify=not arguments.insecure,
    )
    return Ways(
        framing=arguments.framing,
        batch=arguments.batch,
        window=arguments.window,
        compress=arguments.compress,
        headers=dict(arguments.header),
        token=_secret(arguments.token),
        tag=arguments.tag,
        mode=arguments.mode,
        shared_key=_secret(arguments.shared_key),
        user=arguments.user or "",
        password=_secret(arguments.password) or "",
        chunk=arguments.chunk_size,
        join=arguments.join,
        tls=tls,
        connect_timeout=arguments.connect_timeout,
    )


def _secret(text: str | None) -> str | None:
    """A secret, or the file that has it. Raises `ValueError` if there is none."""
    if text is None or not text.startswith("file:"):
        return text
    path = text.removeprefix("file:")
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {getattr(error, 'strerror', None) or 'no text'}") from None


def _origin(arguments: argparse.Namespace) -> Origin:
    return Origin(
        hostname=word(arguments.hostname or socket.gethostname(), 255),
        app_name=word(arguments.app_name, 48),
        procid=os.getpid(),
        run=secrets.token_hex(4),
        severity=SEVERITIES.index(arguments.severity),
    )


def _prepare(arguments: argparse.Namespace, target: Target, format: Format, ways: Ways, reactor: Any) -> Prepared:
    origin = _origin(arguments)
    reader = Reader(0, reactor)
    source = _source(arguments, format, origin, reader)
    load = Load(
        source,
        Pace(arguments.rate, reactor.seconds()),
        Statistics(acknowledges=target.http or target.protocol in ACKNOWLEDGING),
        batch=batch_of(target, format, ways),
        run=origin.run,
        clock=reactor.seconds,
        wall=time.time,
    )
    run = Run(load, reactor, patience=arguments.timeout, duration=arguments.duration)
    if isinstance(source, Lines):
        if sys.stdin is None:
            # Its number is some other file's by now.
            raise WrongOptions(["there is nothing to send: no message, no --count, and standard input is closed"])
        reader.feed = partial(_feed, source, run)
    try:
        links = make_links(arguments.connections, target, format, ways, run, reactor, os.urandom, origin.hostname)
    except ValueError as error:
        raise WrongOptions([str(error)]) from None
    return Prepared(run, links)


def _feed(source: Lines, run: Run, data: bytes) -> None:
    before = source.truncated
    source.feed(data)
    for _ in range(source.truncated - before):
        run.load.statistics.trouble(f"a line of more than {MAX_LINE} was sent without its rest")
    run.pump()


def _source(arguments: argparse.Namespace, format: Format, origin: Origin, reader: Reader) -> Source:
    text = " ".join(arguments.message) if arguments.message else None
    if text is not None or _made_up(arguments):
        count = arguments.count
        if text is not None and not _made_up(arguments):
            count = 1
        return Made(format, origin, count, text=text, size=arguments.size)
    return Lines(format, origin, None, reader.more)


def _react(run: Run, links: Sequence[Link], screen: Screen | None, reactor: Any) -> None:
    """Run the reactor until the run is over. Ctrl-C (and SIGTERM) ends the source, a second one everything."""

    def begin() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: reactor.callFromThread(run.interrupt))
        done = run.start(links)
        if screen is not None:
            screen.start()
        done.addCallback(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    if screen is not None:
        screen.clear()


def _ended(arguments: argparse.Namespace, run: Run) -> int:
    statistics = run.load.statistics
    if run.failure:
        _printing.complain("send", f"{arguments.to}: {run.failure}")
    if arguments.json:
        _printing.write(_printing.as_json(_send_report.as_object(statistics)))
    elif not arguments.quiet and (statistics.sent or not run.failure):
        _printing.write(_send_report.report(statistics))
    if run.interrupted:
        return 130
    return 1 if run.failure or run.gave_up or statistics.lost or statistics.refused or statistics.cut else 0


class Screen:
    """The line on a terminal that shows how far it is."""

    def __init__(self, run: Run, reactor: Any) -> None:
        self._run = run
        self._reactor = reactor

    def start(self) -> None:
        """Draw it now and then; the reactor's end is its end."""
        self.draw()
        self._reactor.callLater(_REDRAW, self.start)

    def draw(self) -> None:
        """Draw it now."""
        statistics = self._run.load.statistics
        seconds = self._reactor.seconds() - statistics.started
        try:
            width = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        except OSError:
            width = 80
        line = _send_report.progress(statistics, self._run.source.total, seconds, width)
        sys.stderr.write(f"\r{line}\x1b[K")
        sys.stderr.flush()

    def clear(self) -> None:
        """Take it off."""
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()

"""The options of `eventserver send`."""

from __future__ import annotations

import argparse
import re
from typing import Any

from eventserver._syslog_output import SEVERITIES
from eventserver.options import Duration
from eventserver.sending.building import FRAMINGS
from eventserver.sending.datagrams import CHUNK
from eventserver.sending.formats import FORMATS

EPILOG = """\
targets:
  tcp:HOST:PORT  tls:HOST:PORT  udp:HOST:PORT  unix:/PATH  unix-datagram:/PATH
  relp:HOST:PORT  relp+tls:HOST:PORT
  http://HOST:PORT/PATH  https://HOST:PORT/PATH
  fluent:HOST:PORT  fluent+tls:HOST:PORT  fluent+unix:/PATH
  lumberjack:HOST:PORT  lumberjack+tls:HOST:PORT  (v1: lumberjack1, lumberjack1+tls)
  gelf:HOST:PORT (UDP)  gelf+tcp:HOST:PORT  gelf+tls:HOST:PORT
  gelf+http://HOST:PORT/gelf  gelf+https://HOST:PORT/gelf
  statsd:HOST:PORT (UDP)  statsd+tcp:HOST:PORT  statsd+unix:/PATH
  statsd+unix-datagram:/PATH
  graphite:HOST:PORT  graphite+udp:HOST:PORT  graphite+tls:HOST:PORT
  graphite+pickle:HOST:PORT

examples:
  eventserver send --to tcp:localhost:5140 hello
  eventserver send --to relp:localhost:2514 --rate 1000 --count 10000 --format syslog
  tail -F app.log | eventserver send --to relp+tls:logs.example:2514 --ca ca.pem
  eventserver send --to https://logs.example/events --token file:token --duration '1 min' --rate 500
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """All of them, in groups."""
    parser.add_argument("message", nargs="*", metavar="MESSAGE", help="the text to send, as one event")
    parser.add_argument("--to", required=True, metavar="TARGET", help="where to, and how; see below")
    _add_what(parser.add_argument_group("what is sent"))
    _add_load(parser.add_argument_group("how much, and how fast"))
    _add_protocols(parser.add_argument_group("for some protocols"))
    _add_tls(parser.add_argument_group("for targets with TLS"))
    shown = parser.add_argument_group("what is shown")
    shown.add_argument("--json", action="store_true", help="print the report as JSON, with times in seconds")
    shown.add_argument("--quiet", "-q", action="store_true", help="print no report")


def _add_what(group: Any) -> None:
    group.add_argument(
        "--format", choices=[*FORMATS], metavar="FORMAT",
        help=f"how an event is written: {', '.join(FORMATS)}; default: what the protocol is for",
    )  # fmt: skip
    group.add_argument("--severity", choices=SEVERITIES, default="info", metavar="KEYWORD",
                       help=f"{', '.join(SEVERITIES)}; default info")  # fmt: skip
    group.add_argument("--hostname", type=_words, metavar="NAME", help="default: that of this machine")
    group.add_argument("--app-name", type=_words, default="eventserver-send", metavar="NAME",
                       help="default %(default)s")  # fmt: skip
    group.add_argument("--size", type=_size, default=0, metavar="N",
                       help="at least so many characters in each text that is made up")  # fmt: skip


def _add_load(group: Any) -> None:
    group.add_argument("--count", "-n", type=_count, metavar="N", help="so many events")
    group.add_argument("--duration", type=_duration, metavar="TIME", help='for so long, such as "10 s"')
    group.add_argument("--rate", type=_rate, metavar="N", help="so many events a second; default: as fast as it goes")
    group.add_argument("--connections", "-c", type=_some, default=1, metavar="N", help="at a time; default 1")
    group.add_argument("--batch", type=_count, metavar="N",
                       help="events in a request, chunk or window; default: 100 for HTTP, else 1000")  # fmt: skip
    group.add_argument("--window", type=_count, default=1000, metavar="N",
                       help="messages without an answer (relp); default %(default)s")  # fmt: skip
    group.add_argument("--timeout", type=_duration, default=Duration(30), metavar="TIME",
                       help="give up when nothing moves for so long; default 30 s")  # fmt: skip
    group.add_argument("--connect-timeout", type=_duration, default=Duration(10), metavar="TIME", help="default 10 s")


def _add_protocols(group: Any) -> None:
    group.add_argument("--framing", choices=[*FRAMINGS], metavar="NAME",
                       help=f"of plain streams: {', '.join(FRAMINGS)}")  # fmt: skip
    group.add_argument("--compress", choices=("gzip", "zlib", "zstd"), metavar="HOW",
                       help="http: gzip; fluent: gzip, zstd; lumberjack: zlib; gelf: gzip, zlib")  # fmt: skip
    group.add_argument("--header", type=_header, action="append", default=[], metavar="'NAME: VALUE'", help="http")
    group.add_argument("--token", metavar="TOKEN", help="http: as `Authorization: Bearer`; file:PATH reads it there")
    group.add_argument("--tag", default="eventserver.send", metavar="TAG", help="fluent; default %(default)s")
    group.add_argument("--mode", choices=("packed", "forward", "message"), default="packed", metavar="MODE",
                       help="fluent: packed, forward or message; default packed")  # fmt: skip
    group.add_argument("--shared-key", metavar="KEY", help="fluent; file:PATH reads it there")
    group.add_argument("--user", metavar="NAME", help="fluent, with a shared key")
    group.add_argument("--password", metavar="PASSWORD", help="fluent, of that user; file:PATH reads it there")
    group.add_argument("--chunk-size", type=_chunk, default=CHUNK, metavar="N",
                       help="gelf: bytes of a datagram's payload before it is cut; default %(default)s")  # fmt: skip
    group.add_argument("--join", type=_size, default=0, metavar="N",
                       help="datagrams: put events together, one a line, up to so many bytes")  # fmt: skip


def _add_tls(group: Any) -> None:
    group.add_argument("--ca", metavar="FILE", help="certificates to trust instead of the system's")
    group.add_argument("--cert", metavar="FILE", help="our certificate")
    group.add_argument("--key", metavar="FILE", help="its key")
    group.add_argument("--server-name", metavar="NAME", help="the name that the server's certificate must have")
    group.add_argument("--insecure", action="store_true", help="do not check the server's certificate")


# What values look like


def _number(text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text) <= most):
        raise argparse.ArgumentTypeError(f"{text!r} is no number up to {most}")
    return int(text)


def _count(text: str) -> int:
    found = _number(text, 10**12)
    if not found:
        raise argparse.ArgumentTypeError("0 is too few")
    return found


def _some(text: str) -> int:
    found = _number(text, 10_000)
    if not found:
        raise argparse.ArgumentTypeError("0 is too few")
    return found


def _size(text: str) -> int:
    return _number(text, 1 << 24)


def _chunk(text: str) -> int:
    found = _number(text, 65_000)
    if found < 64:
        raise argparse.ArgumentTypeError("a chunk has 64 to 65000 bytes")
    return found


def _rate(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of events a second")
    return found


def _duration(text: str) -> float:
    try:
        found = Duration.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if found <= 0:
        raise argparse.ArgumentTypeError("has to be more than 0")
    return found


def _words(text: str) -> str:
    if not re.fullmatch(r"[!-~]{1,255}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name: use printable ASCII without spaces")
    return text


def _header(text: str) -> tuple[str, str]:
    # RFC 9110, sections 5.1 and 5.5.
    found = re.fullmatch(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([ -~\t]*)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no header; write 'NAME: VALUE'")
    return found[1], found[2].strip()

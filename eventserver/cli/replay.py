"""`eventserver replay`: have a handler called with history again."""

from __future__ import annotations

import argparse
import time
from typing import Any

from eventserver._escaping import escape_text
from eventserver.cli import _printing
from eventserver.cli._control import CommandError, Target, add_target, ended, segment, target, when

#: Seconds between looks at a replay that is waited for.
INTERVAL = 0.5
_HEADERS = ("ID", "HANDLER", "STATE", "FROM", "TO", "POSITION", "DELIVERED", "FILTERED", "DEAD", "STARTED")
_COLUMNS = ("id", "handler", "state", "from", "to", "position", "delivered", "filtered", "dead_lettered", "started")

_DRY_RUN = (
    "no server runs with this journal, and only that has the handlers and decoders which --dry-run asks: start it, and"
    " count then"
)
_WAIT = (
    "no server runs with this journal, so --wait would wait for ever: start it first, or leave --wait out, and the"
    " replay begins when the server starts"
)


def add_to(commands: Any) -> None:
    """Make the subcommand known."""
    parser = commands.add_parser(
        "replay",
        help="have a handler called with history again",
        usage="%(prog)s --handler NAME --from WHERE [--to WHERE] [--match EXPRESSION] [--rate N] [--dry-run] [--wait]\n"
        "       %(prog)s list\n"
        "       %(prog)s cancel ID",
        description="Hands a part of the journal's history to a handler once more, decoded by today's decoders and "
        "settings, between the events that are new. The event ids are those of the first time, and "
        '`context["replay"]` names the replay. It goes on after a restart, until it is done or cancelled.',
    )
    parser.add_argument("action", nargs="?", choices=("list", "cancel"), help="what there is, or to end one")
    parser.add_argument("id", nargs="?", metavar="ID", help="of the replay to cancel")
    where = 'a position, a time (RFC 3339), "24 h" for so long ago, "beginning" or "end"'
    parser.add_argument("--handler", metavar="NAME", help="who is called")
    parser.add_argument("--from", dest="start", metavar="WHERE", help=where)
    parser.add_argument("--to", metavar="WHERE", help="up to there, and not with it; default: what there is now")
    parser.add_argument("--match", metavar="EXPRESSION", help="only events that match, besides the handler's own match")
    parser.add_argument("--rate", type=_rate, metavar="N", help="at most so many events a second")
    parser.add_argument("--dry-run", action="store_true", help="count what would be handed over, and call nobody")
    parser.add_argument("--wait", action="store_true", help="return when it has ended; code 1 if it was cancelled")
    add_target(parser)
    parser.set_defaults(function=replay)


def _rate(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of events a second")
    return found


def replay(arguments: argparse.Namespace) -> int:
    """Start, list or cancel."""

    def run() -> int:
        work = _checked(arguments)
        with target(arguments) as server:
            if not server.live and (arguments.dry_run or arguments.wait):
                raise CommandError(_DRY_RUN if arguments.dry_run else _WAIT)
            return int(work(arguments, server))

    return ended("replay", run)


def _checked(arguments: argparse.Namespace) -> Any:
    given = [name for name in ("handler", "start", "to", "match", "rate") if getattr(arguments, name) is not None]
    if arguments.action is not None and (given or arguments.dry_run or arguments.wait):
        raise CommandError(f"`{arguments.action}` takes none of the options of a new replay", 2)
    if arguments.action == "cancel":
        if arguments.id is None:
            raise CommandError("cancel which? `eventserver replay list` names them", 2)
        return _cancel
    if arguments.id is not None:
        raise CommandError(f"what is {arguments.id!r}?", 2)
    if arguments.action == "list":
        return _list
    if arguments.handler is None or arguments.start is None:
        raise CommandError("--handler and --from are needed; or `list`, or `cancel ID`", 2)
    return _count if arguments.dry_run else _begin


def _request(arguments: argparse.Namespace) -> dict[str, Any]:
    found = {
        "handler": arguments.handler,
        "from": when(arguments.start),
        "to": when(arguments.to),
        "match": arguments.match,
        "rate": arguments.rate,
    }
    return {key: value for key, value in found.items() if value is not None}


def _begin(arguments: argparse.Namespace, server: Target) -> int:
    started = server.ask("POST", "/v1/replays", None, _request(arguments))
    if not arguments.wait:
        _printing.write(_printing.as_json(started) if arguments.json else _started(started, server.live))
        return 0
    if not arguments.json:
        _printing.write(_started(started))
    while started["state"] == "running":
        time.sleep(INTERVAL)
        started = server.ask("GET", f"/v1/replays/{segment(started['id'])}")
    _printing.write(_printing.as_json(started) if arguments.json else _ended(started))
    return 0 if started["state"] == "done" else 1


def _started(record: dict[str, Any], live: bool = True) -> str:
    handler = escape_text(record["handler"])
    how = "started" if live else "begins with the server"
    return f"replay {record['id']} {how}: handler {handler}, positions {record['from']} to {record['to']}\n"


def _ended(record: dict[str, Any]) -> str:
    counts = f"{record['delivered']} delivered, {record['filtered']} filtered, {record['dead_lettered']} dead-lettered"
    expired = f", {record['expired']} frames expired" if record["expired"] else ""
    return f"replay {record['id']} {record['state']}: {counts}{expired}\n"


def _count(arguments: argparse.Namespace, server: Target) -> int:
    request = {**_request(arguments), "dry_run": True}
    total = {"frames": 0, "delivered": 0, "filtered": 0}
    first: dict[str, Any] | None = None
    while True:
        counted = server.ask("POST", "/v1/replays", None, request)
        first = first or counted
        for key in total:
            total[key] += counted[key]
        if counted["complete"]:
            break
        request |= {"from": counted["next"], "to": first["to"]}
    result = {"dry_run": True, "handler": arguments.handler, "from": first["from"], "to": first["to"], **total}
    if arguments.json:
        _printing.write(_printing.as_json(result))
    else:
        _printing.write(
            f"positions {result['from']} to {result['to']}: {total['frames']} frames; handler "
            f"{escape_text(arguments.handler)} would get {total['delivered']}, {total['filtered']} would be filtered\n"
        )
    return 0


def _list(arguments: argparse.Namespace, server: Target) -> int:
    found = server.ask("GET", "/v1/replays")["replays"]
    _printing.write(_printing.listing(found, _HEADERS, _COLUMNS, "there are no replays", arguments.json))
    return 0


def _cancel(arguments: argparse.Namespace, server: Target) -> int:
    record = server.ask("POST", f"/v1/replays/{segment(arguments.id)}/cancel")
    _printing.write(_printing.as_json(record) if arguments.json else _ended(record))
    return 0
